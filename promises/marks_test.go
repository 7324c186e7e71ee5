package promises

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

const marksName = "dssauth_redirected"

// keeper is a browser that keeps the cookies that h sets.
type keeper struct {
	h       http.Handler
	cookies map[string]string
}

func newKeeper(h http.Handler) *keeper { return &keeper{h, map[string]string{}} }

// gets sends a request with some headers: name, value, name, value.
func (b *keeper) gets(target string, headers ...string) *httptest.ResponseRecorder {
	r := request("GET", target, headers...)
	for _, name := range slices.Sorted(maps.Keys(b.cookies)) {
		r.AddCookie(&http.Cookie{Name: name, Value: b.cookies[name]})
	}
	w := serve(b.h, r)
	for _, c := range w.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return w
}

func (b *keeper) opens(target string) *httptest.ResponseRecorder {
	return b.gets(target, pageHeaders...)
}

// markedFor is the Cookie header of a browser that h just sent to sign in for these
// pages.
func markedFor(t testing.TB, h http.Handler, pages ...string) string {
	b := newKeeper(h)
	for _, page := range pages {
		require.Equal(t, http.StatusFound, b.opens(page).Code)
	}
	return marksName + "=" + b.cookies[marksName]
}

func TestSecondRefusalIsShown(t *testing.T) {
	b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
	require.Equal(t, http.StatusFound, b.opens("/a?x=1").Code)
	again := b.opens("/a?x=2")
	assert.Equal(t, 401, again.Code, "redirected in a loop")
	assert.Contains(t, again.Body.String(), "<h1>")
	assert.Empty(t, again.Header().Values("Set-Cookie"))
	b.cookies["session"] = "ann"
	assert.Equal(t, "ann", b.opens("/a").Body.String(), "the mark got in the way")
}

func TestEachTabIsSentToSignInAndBack(t *testing.T) {
	b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
	for _, page := range []string{"/a", "/b?c=d", "/a/"} {
		w := b.opens(page)
		assert.Equal(t, http.StatusFound, w.Code, page)
		assert.Equal(t, loginPage+"?back="+strings.NewReplacer("/", "%2F", "?", "%3F", "=", "%3D").Replace(page), w.Header().Get("Location"))
	}
	for _, page := range []string{"/a", "/b?e=f", "/a/"} {
		assert.Equal(t, 401, b.opens(page).Code, page)
	}
}

func TestFourMarksEndAllRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
		for i := range 4 {
			require.Equal(t, http.StatusFound, b.opens(fmt.Sprint("/", i)).Code)
			pass(time.Second)
		}
		for round := range 3 {
			for i := range 7 {
				assert.Equal(t, 401, b.opens(fmt.Sprint("/", i)).Code, "frame %d in round %d", i, round)
			}
		}
		assert.Less(t, len(b.cookies[marksName]), 128)
		pass(27 * time.Second) // the first one is 31 s old
		assert.Equal(t, http.StatusFound, b.opens("/5").Code)
		assert.Equal(t, 401, b.opens("/6").Code)
		assert.Equal(t, 3, strings.Count(b.cookies[marksName], "."), "the old one is still in %s", b.cookies[marksName])
		assert.Equal(t, 401, b.opens("/1").Code, "one that counts was pushed out")
	})
}

func TestMarksCountForThirtySeconds(t *testing.T) {
	for _, tt := range []struct {
		after  time.Duration
		status int
	}{
		{0, 401}, {30 * time.Second, 401}, {30*time.Second + time.Millisecond, 302}, {time.Hour, 302},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := signingIn(t, newDoorman()).Handler(unreachable(t))
			cookie := markedFor(t, h, "/a")
			pass(tt.after)
			assert.Equal(t, tt.status, serve(h, request("GET", "/a", with(pageHeaders, "Cookie", cookie)...)).Code, "after %s", tt.after)
		})
	}
}

// markedAt is the cookie of a replica whose clock is that much ahead of now.
func markedAt(t *testing.T, ahead time.Duration, page string) string {
	h := signingIn(t, newDoorman()).Handler(unreachable(t))
	value := strings.TrimPrefix(markedFor(t, h, page), marksName+"=")
	hash, at, _ := strings.Cut(value, "-")
	var ms int64
	_, err := fmt.Sscanf(at, "%x", &ms)
	require.NoError(t, err)
	return fmt.Sprintf("%s=%s-%x", marksName, hash, ms+ahead.Milliseconds())
}

func TestMarksOfOtherReplicasCount(t *testing.T) {
	for _, tt := range []struct {
		ahead  time.Duration
		status int
	}{
		{0, 401}, {5 * time.Second, 401}, {5*time.Second + time.Millisecond, 302}, {-30 * time.Second, 401}, {time.Hour, 302},
	} {
		synctest.Test(t, func(t *testing.T) {
			cookie := markedAt(t, tt.ahead, "/a")
			other := signingIn(t, newDoorman()).Handler(unreachable(t))
			assert.Equal(t, tt.status, serve(other, request("GET", "/a", with(pageHeaders, "Cookie", cookie)...)).Code, "%s ahead", tt.ahead)
		})
	}
}

// For any text in the cookies, the worst result is the page with its link, or a
// redirect that browsers can mark.
func TestPlantedMarksShowThePageAtWorst(t *testing.T) {
	h := signingIn(t, newDoorman()).Handler(unreachable(t))
	a := strings.TrimPrefix(markedFor(t, h, "/a"), marksName+"=")
	hash, at, _ := strings.Cut(a, "-")
	for _, tt := range []struct {
		name, cookie string
		status       int
	}{
		{"nothing in it", marksName + "=", 302},
		{"a mark of an earlier version", marksName + "=1", 302},
		{"separators only", marksName + "=.-.-.-.-.-.-", 302},
		{"no time", marksName + "=" + hash, 302},
		{"no page", marksName + "=-" + at, 302},
		{"a long page", marksName + "=" + strings.Repeat("0", 4000) + "-" + at, 302},
		{"letters that are not hexadecimal", marksName + "=" + strings.Repeat("z", 16) + "-" + at, 302},
		{"a time out of all bounds", marksName + "=" + hash + "-" + strings.Repeat("f", 40), 302},
		{"a negative time", marksName + "=" + hash + "--1", 302},
		{"another page", marksName + "=" + strings.Repeat("0", 16) + "-" + at, 302},
		{"this page", marksName + "=" + a, 401},
		{"this page among junk", marksName + "=x.." + a + ".-", 401},
		{"this page behind a cookie of the same name", marksName + "=; " + marksName + "=" + a, 401},
		{"this page before a cookie of the same name", marksName + "=" + a + "; " + marksName + "=junk", 401},
		{"many marks of other pages", marksName + "=" + strings.Repeat(strings.Repeat("0", 16)+"-"+at+".", 200), 401},
		{"this page, in the cookie for TLS", "__Host-" + marksName + "=" + a, 302},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(h, request("GET", "/a", with(pageHeaders, "Cookie", tt.cookie)...))
			assert.Equal(t, tt.status, w.Code)
			if tt.status == http.StatusFound {
				require.Len(t, w.Result().Cookies(), 1)
				assert.Contains(t, w.Result().Cookies()[0].Value, hash)
				assert.Less(t, len(w.Header().Get("Set-Cookie")), 300, "browsers drop long cookies")
			} else {
				assert.Contains(t, w.Body.String(), loginPage)
			}
		})
	}
}

func TestSignedInOutAndBackWithinThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
		for range 5 {
			require.Equal(t, http.StatusFound, b.opens("/a").Code, "not sent to sign in")
			b.cookies["session"] = "ann"
			require.Equal(t, "ann", b.opens("/a").Body.String())
			assert.NotContains(t, b.cookies, marksName)
			delete(b.cookies, "session")
			pass(11 * time.Second) // ann's answer has ended, as in a slow sign-in
		}
	})
}

func TestMarksAreClearedOnceDSSNamesTheVisitor(t *testing.T) {
	const clears, stays = "clears", "stays"
	door := newDoorman()
	m := signingIn(t, door)
	opens := func(h http.Handler, headers ...string) *httptest.ResponseRecorder {
		cookie := markedFor(t, signingIn(t, newDoorman()).Handler(unreachable(t)), "/x")
		return serve(h, request("GET", "/", append(headers, "Cookie", cookie)...))
	}
	analysts := m.RequireGroup("analysts")
	framework := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, err := m.Authenticate(r)
		require.NoError(t, err)
		whoami(w, r)
	})
	refuses := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "own", Value: "1"})
		m.Refuse(w, r, dssauth.ErrUnauthenticated)
	})
	for _, tt := range []struct {
		name     string
		h        http.Handler
		session  string
		fromMemo bool
		want     string
	}{
		{"Handler asks DSS", m.Handler(whoami), "ann", false, clears},
		{"Handler remembers", m.Handler(whoami), "ann", true, stays},
		{"Optional asks DSS", m.Optional(whoami), "ann", false, clears},
		{"Optional remembers", m.Optional(whoami), "ann", true, stays},
		{"Optional lets an anonymous visitor through", m.Optional(whoami), "old", false, stays},
		{"a gate asks DSS", analysts(whoami), "ann", false, clears},
		{"a gate remembers", analysts(whoami), "ann", true, stays},
		{"a gate asks DSS and refuses", analysts(whoami), "bob", false, stays},
		{"a gate behind Handler, which asked DSS", m.Handler(analysts(whoami)), "ann", false, clears},
		{"Handler asks DSS, and the handler finds the session refused", m.Handler(refuses), "ann", false, stays},
		{"an adapter without the response", framework, "ann", false, stays},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.ForgetUser(tt.session)
			if tt.fromMemo {
				require.Equal(t, tt.session, who(m, request("GET", "/", "Cookie", "session="+tt.session)))
			}
			asked := door.calls()
			w := opens(tt.h, "Cookie", "session="+tt.session)
			assert.Equal(t, !tt.fromMemo, door.calls() > asked)
			if tt.want == stays {
				assert.NotContains(t, strings.Join(w.Header().Values("Set-Cookie"), "\n"), marksName)
				return
			}
			assert.Equal(t, []string{marksName + "=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"}, w.Header().Values("Set-Cookie"))
			assert.Equal(t, []string{"private"}, w.Header().Values("Cache-Control"))
		})
	}

	m.ForgetUser("ann")
	w := serve(m.Handler(whoami), fromAnn())
	assert.Empty(t, w.Header().Values("Set-Cookie"), "nothing is cleared where nothing is")

	m.ForgetUser("ann")
	r := request("GET", "/", "Cookie", "session=ann", "Cookie", "__Host-"+marksName+"=x", "X-Forwarded-Proto", "https")
	w = serve(m.Handler(whoami), r)
	assert.Equal(t, []string{"__Host-" + marksName + "=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"}, w.Header().Values("Set-Cookie"))
}

func TestMarksIdentifyNobody(t *testing.T) {
	for _, cookies := range [][]string{nil, {"session", "*_redirected"}} {
		door := newDoorman()
		m := newAuth(t, dssauth.Config{Resolver: door, Cookies: cookies})
		for i, name := range []string{marksName, "__Host-" + marksName} {
			r := request("GET", "/", "Cookie", fmt.Sprintf("%s=%d; session=ann; %s=x", name, i, name))
			assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
			assert.Equal(t, []string{"session=ann"}, door.lastAsked()["Cookie"])
		}
		assert.Equal(t, 1, door.calls(), "a mark makes another visitor")
	}
}

// As htmx asks: each part of a page that is public names it.
func TestPartsOfAPublicPageShareOneRedirect(t *testing.T) {
	b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
	asks := func(i int) string {
		return b.gets(fmt.Sprint("/part/", i), with(htmxPart, "HX-Current-URL", "http://example.com/public?tab=1")...).Header().Get("HX-Redirect")
	}
	assert.Equal(t, loginPage+"?back=%2Fpublic%3Ftab%3D1", asks(1))
	for i := range 6 {
		assert.Empty(t, asks(i), "the page loads for ever")
	}
	assert.Equal(t, 401, b.opens("/public").Code, "the mark is that of the page")
	assert.Equal(t, http.StatusFound, b.opens("/part/1").Code, "it is not that of the part")

	b.cookies["session"] = "ann"
	assert.Equal(t, "ann", b.gets("/part/2", htmxPart...).Body.String())
	delete(b.cookies, "session")
	assert.NotEmpty(t, asks(1), "signed out again, and not sent to sign in")
}

func TestPrefetchUsesUpNoRedirect(t *testing.T) {
	b := newKeeper(signingIn(t, newDoorman()).Handler(whoami))
	for range 3 {
		assert.Equal(t, 401, b.gets("/a", with(pageHeaders, "Sec-Purpose", "prefetch")...).Code)
	}
	assert.Equal(t, http.StatusFound, b.opens("/a").Code)
}

// The application still writes the refusal of a part.
func TestOnErrorWritesTheBodyOfAnHXRedirect(t *testing.T) {
	m := newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		LoginURL: func(*http.Request, string) string { return loginPage },
		OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "our own words", dssauth.StatusCode(err))
		},
	})
	w := serve(m.Handler(unreachable(t)), request("GET", "/part", htmxPart...))
	assert.Equal(t, 401, w.Code)
	assert.Equal(t, loginPage, w.Header().Get("HX-Redirect"))
	assert.Equal(t, "our own words\n", w.Body.String())
}

// LoginURL is called only if its result is used.
func TestLoginURLIsCalledOnlyIfItIsUsed(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), LoginURL: func(r *http.Request, _ string) string {
		t.Error("asked")
		return loginPage
	}})
	h := m.RequireGroup("analysts")(unreachable(t))
	for _, headers := range [][]string{
		nil, sameOriginXHR, with(chromiumPage, "Purpose", "prefetch"), with(plainHTTPPage, "Turbo-Frame", "a"), with(htmxPart, "Cookie", "session=bob"),
	} {
		assert.GreaterOrEqual(t, serve(h, request("GET", "/", headers...)).Code, 400)
	}
}
