// Each address here is relative, so that the page works under any prefix.

const $ = (selector) => document.querySelector(selector)
const form = $("form"), text = $("#text"), list = $("ol")

let me = null       // the user that the server admitted last
let stream = null   // the EventSource while it is open
let countdown       // the interval that ends in a check
let failures = 0    // of api/me in a row: each one makes the next wait longer
let silent = 0      // streams in a row without an event: the same
let sending = false // a note is on its way
let unsent = false  // a note was refused for now, and is sent again after a check

// ask never throws: if no answer came, or an unusable one, status is 0.
async function ask(path, options) {
  try {
    const reply = await fetch(path, { ...options, redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(20_000) })
    return {
      // A proxy in front may send signed-out visitors to its own page.
      status: reply.type === "opaqueredirect" ? 401 : reply.status,
      retryAfter: parseInt(reply.headers.get("Retry-After")) || 1,
      body: reply.status === 200 ? await reply.json() : null,
    }
  } catch {
    return { status: 0, retryAfter: 1 }
  }
}

// check learns the user, or the reason of another failure.
async function check() {
  clearInterval(countdown)
  const reply = await ask("api/me")
  switch (reply.status) {
    case 200: return admit(reply.body)
    case 401: return refuse("signed-out")
    case 403: return refuse("no-access")
    default: return wait(reply)
  }
}

function admit(user) {
  if (me && me.login !== user.login) { // one person's text is not for the next one
    form.reset()
    list.replaceChildren()
    hangUp()
    unsent = false
  }
  me = user
  show("ready")
  listen()
  if (unsent) return send()
  failures = 0
}

// refuse shows the reason, and hides the rest. Unsent text is hidden, until the
// same person is back.
function refuse(why) {
  hangUp()
  list.replaceChildren()
  if (document.body.dataset.state !== why) show(why)
  else $("#alert .still").textContent = `Still so at ${new Date().toLocaleTimeString()}.`
}

// wait counts down to the next check. The page stays usable.
function wait({ status, retryAfter }) {
  show("waiting", (status === 503
    ? "Dataiku DSS cannot confirm your sign-in right now. Nothing is wrong with your account."
    : "This application does not answer right now.") + (text.value ? " Your text stays here." : ""))
  let left = Math.max(Math.min(retryAfter, 60), Math.min(++failures, 10))
  const tick = () => {
    if (left === 0) return check()
    $("#countdown").textContent = `Trying again in ${left} s`
    left--
  }
  clearInterval(countdown)
  countdown = setInterval(tick, 1000)
  tick()
}

// show brings the page into a state: ready, waiting, or the id of a template
// with the reason.
function show(state, reason = "") {
  const focused = document.activeElement
  document.body.dataset.state = state
  if ($("#reason").textContent !== reason) $("#reason").textContent = reason // otherwise it is read out again
  $("#again").hidden = state !== "waiting"
  const why = $(`template#${state}`)?.content.cloneNode(true)
  $("#alert").replaceChildren(...(why ? [why] : []))
  if (state === "ready") $("#notes").hidden = false
  if (why) $("#notes").hidden = true
  $("#me").textContent = $("#notes").hidden ? "" : me.login
  if (!focused.checkVisibility()) (why ? $("#alert h2") : text).focus() // otherwise the keyboard starts at the top
}

// listen opens the stream, once. After an error it is closed, since it would try
// again for ever: an EventSource knows no status. A check finds out what is wrong.
function listen() {
  if (stream) return
  let heard = false
  stream = new EventSource("api/events")
  stream.addEventListener("notes", (event) => {
    heard = true
    showNotes(JSON.parse(event.data))
  })
  stream.onerror = () => {
    hangUp()
    silent = heard ? 0 : Math.min(silent + 1, 10)
    setTimeout(check, 1000 + silent * 1000)
  }
}

function hangUp() {
  stream?.close()
  stream = null
}

// showNotes touches only what has changed, since additions are read out.
function showNotes(notes) {
  for (const shown of [...list.children]) {
    if (!notes.some((note) => note.id === shown.id)) shown.remove()
  }
  for (const { id, by, text, at } of notes) {
    if (document.getElementById(id)) continue
    const item = $("#note").content.cloneNode(true).firstElementChild
    item.id = id
    item.querySelector(".by").textContent = by
    item.querySelector(".text").textContent = text
    item.querySelector("time").dateTime = at
    item.querySelector("time").textContent = new Date(at).toLocaleTimeString([], { timeStyle: "short" })
    list.prepend(item)
  }
}

async function send() {
  if (sending) return
  sending = text.readOnly = true
  tell("Sending…")
  const { status, ...reply } = await ask("api/notes", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ login: me.login, text: text.value }),
  })
  sending = text.readOnly = false
  // Only after a 503 it is safe to send again: the server did not read the
  // note.
  unsent = status === 503
  switch (status) {
    case 204:
      form.reset()
      text.focus()
      failures = 0
      tell("Sent.")
      if (document.body.dataset.state !== "ready") check()
      break
    case 503:
      tell("Not sent yet. It is sent when Dataiku DSS is back.")
      wait({ status, ...reply })
      break
    case 0:
      tell("It may not have arrived: look at the latest notes before you send it again.")
      check()
      break
    default:
      tell("Not sent.")
      check()
  }
}

function tell(what) {
  $("#sent").textContent = what
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  send()
})
text.addEventListener("input", () => { // half a text is not sent by itself
  tell(unsent ? "Not sent yet. Send it when you are finished." : "")
  unsent = false
})
document.addEventListener("click", (event) => {
  if (event.target.closest(".look")) check()
})
// A person that returns to this tab may have signed in elsewhere.
const back = () => {
  if (!document.hidden && document.body.dataset.state !== "ready") check()
}
addEventListener("focus", back)
addEventListener("online", back)
document.addEventListener("visibilitychange", back)
// The text is kept in this page only: storage of the browser would keep it for
// the next person. So the browser asks before a reload loses it.
addEventListener("beforeunload", (event) => {
  if (text.value) event.preventDefault()
})
// "Back" from another page can show an old copy of this one, from a session
// that has ended. The person has left its text already.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return
  form.reset()
  location.reload()
})
check()
