package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth"
)

const (
	// storyTTL is short, since the story waits for an answer to expire. It is long
	// enough for the requests that must be answered from memory.
	storyTTL = 2 * time.Second
	// storyTime bounds the story as a whole.
	storyTime = time.Minute
	// ownKeyTrust is the time for which DSS's last acceptance of our own API key
	// counts.
	ownKeyTrust = time.Second
)

// wholeStory is the story of -check.
var wholeStory = []func(*story){
	anonymous, someone, wrongGroup, twoOfASort, apiKeys, forgery, asVisitor, otherSites, signOut, lostGroup, outage,
	ownKeyRevoked, // last, since it cannot be undone
}

// appMaker is newApp, or a test's replacement.
type appMaker func(dssauth.Config, *demo) (*app, error)

// tell plays chapters of the story on a fake DSS, over sockets. It fails if any
// result is wrong.
func tell(ctx context.Context, out io.Writer, newApp appMaker, chapters []func(*story)) error {
	ctx, cancel := context.WithTimeout(ctx, storyTime)
	defer cancel()
	s := &story{ctx: ctx, out: out}
	var err error
	if s.demo, err = startDemo(); err != nil {
		return err
	}
	defer s.demo.close()
	client, err := s.demo.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	s.config = dssauth.Config{
		Client:        client,
		TTL:           storyTTL,
		Impersonation: dssauth.ByTicket,
		Logger:        slog.New(slog.DiscardHandler), // it has much to complain about
	}
	defer s.end()
	if s.app, err = s.start(newApp); err != nil {
		return err
	}
	s.config.Impersonation = dssauth.ByProxyUser
	if s.adminApp, err = s.start(newApp); err != nil {
		return err
	}

	for _, chapter := range chapters {
		if ctx.Err() == nil {
			chapter(s)
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the story did not end: %w", context.Cause(ctx))
	case s.wrong > 0:
		return fmt.Errorf("%d of %d are wrong", s.wrong, s.told)
	}
	fmt.Fprintf(out, "All %d are right.\n", s.told)
	return nil
}

func anonymous(s *story) {
	s.expect("an anonymous visitor opens /me", s.get("/me"), 401, "Www-Authenticate: Bearer", "Cache-Control: no-store")
	s.expect("an anonymous visitor opens /report", s.get("/report"), 401)
	s.expect("an anonymous visitor opens /as-me", s.get("/as-me"), 401)
	s.expect("a visitor with a made-up session opens /me", s.get("/me", "Cookie", s.signIn("ann")+"x"), 401)
	s.expect("an anonymous visitor opens the page, open to everybody", s.get("/"), 200, "You are not signed in")
	s.expect("an anonymous visitor's browser opens /report", s.get("/report", "Accept", "text/html"), 302, "Location: /sign-in?redirect=%2Freport")
}

func someone(s *story) {
	ann := s.signIn("ann")
	s.expect("ann opens /me", s.get("/me", "Cookie", ann), 200, `"login":"ann","groups":["analysts","readers"]`, "Cache-Control: no-store")
	s.expect("ann opens /report", s.get("/report", "Cookie", ann), 200, "for ann", "Cache-Control: no-store")
	s.expect("ann opens the page", s.get("/", "Cookie", ann), 200, "Ann Analyst")
}

func wrongGroup(s *story) {
	bob := s.signIn("bob")
	s.expect("bob, signed in, opens /me", s.get("/me", "Cookie", bob), 200, `"login":"bob"`)
	s.expect("bob, not an analyst, opens /report", s.get("/report", "Cookie", bob), 403)
	s.expect("eve, without a group, opens /report", s.get("/report", "Cookie", s.signIn("eve")), 403)
}

func twoOfASort(s *story) {
	ann, bob := s.signIn("ann"), s.signIn("bob")
	s.expect("ann, first cookie theme=dark, opens /me", s.get("/me", "Cookie", "theme=dark; "+ann), 200, `"login":"ann"`)
	s.expect("bob, first cookie theme=dark, opens /me", s.get("/me", "Cookie", "theme=dark; "+bob), 200, `"login":"bob"`)
	s.expect("an anonymous visitor, first cookie theme=dark, opens /me", s.get("/me", "Cookie", "theme=dark"), 401)
}

func apiKeys(s *story) {
	s.expect("a program with ann's own API key opens /report", s.get("/report", "Authorization", "Bearer ann-key"), 200, "for ann")
	key := rand.Text()
	s.demo.fake.AddAPIKey(key, "")
	s.expect("a program with an API key without a user opens /me", s.get("/me", "Authorization", "Bearer "+key), 403)
	s.demo.fake.SetAPIKeyID(key, "ann")
	s.expect("the same, with a key id ann, opens /me", s.get("/me", "Authorization", "Bearer "+key), 403)
	s.expect("a program with a made-up API key opens /me", s.get("/me", "Authorization", "Bearer "+rand.Text()), 401)
}

func forgery(s *story) {
	ticket := rand.Text()
	s.demo.fake.AddTicket(ticket, "ann")
	forged := []string{"X-DKU-ProxyUser", "ann", "X_DKU_ProxyUser", "ann", "x-dku-apiticket", ticket}
	s.expect("an anonymous visitor, with headers that claim to be ann, opens /me", s.get("/me", forged...), 401)
	bobs := append([]string{"Cookie", s.signIn("bob")}, forged...)
	s.expect("bob, with headers that claim to be ann, opens /me", s.get("/me", bobs...), 200, `"login":"bob"`)
	s.same("DSS received of bob's headers", strings.Join(slices.Sorted(maps.Keys(s.demo.fake.LastBrowserHeaders())), " "), "Cookie")
	s.expect("bob, with headers that claim to be ann, opens /as-me", s.get("/as-me", bobs...), 200, `"calledDSSAs":"bob"`)
	s.same("DSS acted as", s.demo.fake.LastCaller(), "bob")
}

func asVisitor(s *story) {
	s.expect("ann opens /as-me", s.get("/as-me", "Cookie", s.signIn("ann")), 200, `"calledDSSAs":"ann"`)
	s.same("DSS acted as", s.demo.fake.LastCaller(), "ann")
	bob := s.visit(s.adminApp, http.MethodGet, "/as-me", nil, "Cookie", s.signIn("bob"))
	s.expect("bob opens /as-me, called with an administrator's key", bob, 200, `"calledDSSAs":"bob"`)
	s.same("DSS acted as", s.demo.fake.LastCaller(), "bob")
}

func otherSites(s *story) {
	ann := s.signIn("ann")
	s.expect("another site signs ann out", s.post("/sign-out", nil, "Cookie", ann, "Sec-Fetch-Site", "cross-site"), 403)
	s.expect("ann opens /me", s.get("/me", "Cookie", ann), 200, `"login":"ann"`)
}

func signOut(s *story) {
	ann := s.signIn("ann")
	s.expect("ann opens /me", s.get("/me", "Cookie", ann), 200, `"login":"ann"`)
	name, _, _ := strings.Cut(ann, "=")
	s.expect("ann signs out", s.post("/sign-out", nil, "Cookie", ann), 303, name+"=;")
	s.expect("a visitor with ann's old cookie opens /me", s.get("/me", "Cookie", ann), 401)
}

func lostGroup(s *story) {
	ann := s.signIn("ann")
	s.expect("ann opens /report", s.get("/report", "Cookie", ann), 200)
	s.post("/groups", url.Values{"login": {"ann"}, "leave": {"analysts"}})
	s.wait(storyTTL) // quietly: a request would start a refresh
	s.expect(fmt.Sprintf("%v after leaving analysts ann opens /report", storyTTL), s.get("/report", "Cookie", ann), 403)
	s.expect("ann, still signed in, opens /me", s.get("/me", "Cookie", ann), 200, `"groups":["readers"]`)
	s.post("/groups", url.Values{"login": {"ann"}, "join": {"analysts"}})
}

func outage(s *story) {
	ann := s.signIn("ann")
	s.expect("the fake DSS is taken down", s.post("/outage", url.Values{"down": {"true"}}, "Cookie", ann), 303)
	s.expect("ann opens /me in the outage", s.get("/me", "Cookie", ann), 503, "Retry-After: ")
	s.expect("ann opens /report in the outage", s.get("/report", "Cookie", ann), 503)
	s.expect("ann opens the page in the outage", s.get("/", "Cookie", ann), 503, "Bring it back")
	s.expect("the fake DSS is brought back", s.post("/outage", url.Values{"down": {"false"}}, "Cookie", ann), 303)
	s.expect("ann opens /me soon after", s.until(200, "/me", "Cookie", ann), 200, `"login":"ann"`)
}

func ownKeyRevoked(s *story) {
	ann, bob := s.signIn("ann"), s.signIn("bob")
	s.demo.fake.RemoveAPIKey(s.demo.key)
	s.wait(ownKeyTrust + ownKeyTrust/10)
	s.expect("our own API key is revoked, and ann opens /me", s.get("/me", "Cookie", ann), 503)
	s.expect("bob opens the page, and does not count as anonymous", s.get("/", "Cookie", bob), 503)
	s.expect("bob opens /report", s.get("/report", "Cookie", bob), 503)
}

// story is the state of one run of -check.
type story struct {
	ctx         context.Context
	out         io.Writer
	demo        *demo
	config      dssauth.Config
	app         string // its URL; acts as visitors by ticket
	adminApp    string // the same, by an administrator's key
	ends        []func() error
	told, wrong int
}

// start serves an application and returns its URL.
func (s *story) start(newApp appMaker) (string, error) {
	app, err := newApp(s.config, s.demo)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: app.handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	s.ends = append(s.ends, server.Close, app.auth.Close)
	return "http://" + listener.Addr().String(), nil
}

func (s *story) end() {
	for _, end := range s.ends {
		_ = end()
	}
}

// answer is the answer to a request.
type answer struct {
	status int
	text   string // head and body
	header http.Header
	err    error
}

// get opens a path of the application, with headers given as name, value …
func (s *story) get(path string, headers ...string) answer {
	return s.visit(s.app, http.MethodGet, path, nil, headers...)
}

func (s *story) post(path string, form url.Values, headers ...string) answer {
	headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
	return s.visit(s.app, http.MethodPost, path, form, headers...)
}

// until repeats get until the status comes or some time has passed.
func (s *story) until(status int, path string, headers ...string) answer {
	for end := time.Now().Add(5 * time.Second); ; s.wait(50 * time.Millisecond) {
		if got := s.get(path, headers...); got.status == status || time.Now().After(end) || s.ctx.Err() != nil {
			return got
		}
	}
}

func (s *story) visit(app, method, path string, form url.Values, headers ...string) answer {
	r, err := http.NewRequestWithContext(s.ctx, method, app+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{err: err}
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header[pair[0]] = []string{pair[1]} // as spelled
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // follows no redirect
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := httputil.DumpResponse(resp, true)
	return answer{resp.StatusCode, string(text), resp.Header, err}
}

// signIn returns a new session's cookie, as a Cookie header.
func (s *story) signIn(login string) string {
	got := s.post("/sign-in", url.Values{"login": {login}})
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	if got.status != http.StatusSeeOther || cookie == "" {
		s.expect(login+" signs in", got, http.StatusSeeOther, "Set-Cookie")
	}
	return cookie
}

func (s *story) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

// expect reports the result of a request. It should have this status and
// contain these texts.
func (s *story) expect(what string, got answer, status int, texts ...string) {
	came := fmt.Sprint(got.status, " ", http.StatusText(got.status))
	missing := slices.DeleteFunc(slices.Clone(texts), func(t string) bool { return strings.Contains(got.text, t) })
	switch {
	case got.err != nil:
		s.line(false, what, got.err.Error())
	case got.status != status:
		s.line(false, what, fmt.Sprintf("%s, not %d", came, status))
	case len(missing) > 0:
		s.line(false, what, fmt.Sprintf("%s, without %q", came, missing))
	default:
		s.line(true, what, came)
	}
}

// same reports a comparison.
func (s *story) same(what, got, want string) {
	if got != want {
		s.line(false, what, fmt.Sprintf("%q, not %q", got, want))
		return
	}
	s.line(true, what, got)
}

func (s *story) line(ok bool, what, came string) {
	s.told++
	verdict := "ok"
	if !ok {
		s.wrong++
		verdict = "WRONG"
	}
	fmt.Fprintf(s.out, "%-5s  %-58s %s\n", verdict, what, came)
}
