package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// expected has the status that each visitor gets for a path.
var expected = []struct {
	path     string
	statuses map[string]int // by login; "" is an anonymous visitor
}{
	{"/", map[string]int{"": 401, "ann": 200, "bob": 200, "eve": 200, "admin": 200}},
	{"/open/", map[string]int{"": 200, "ann": 200, "bob": 200, "eve": 200, "admin": 200}},
	{"/admin/", map[string]int{"": 401, "ann": 403, "bob": 403, "eve": 403, "admin": 200}},
	{"/churn/", map[string]int{"": 401, "ann": 200, "bob": 403, "eve": 403, "admin": 200}},
	{"/open/%2e%2e/admin/", map[string]int{"": 400, "ann": 400, "bob": 400, "eve": 400, "admin": 400}},
	{"/dssauth/jwks.json", map[string]int{"": 200}},
	{"/dssauth/readyz", map[string]int{"": 200}},
}

// story is one run of -check.
type story struct {
	*demo
	ctx   context.Context
	out   io.Writer
	wrong int
}

// tell sends requests of all visitors through a gateway with these rules. It fails
// if an answer is not as it should be with the demo's own rules.
func tell(ctx context.Context, out io.Writer, rules string) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	d, err := start(ctx, "127.0.0.1:0", rules, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	s := &story{demo: d, ctx: ctx, out: out}
	cookies := map[string]string{}
	for _, login := range []string{"ann", "bob", "eve", "admin"} {
		if cookies[login], err = s.signIn(login); err != nil {
			return err
		}
	}
	for _, row := range expected {
		for _, login := range []string{"", "ann", "bob", "eve", "admin"} {
			if want, ok := row.statuses[login]; ok {
				text := ""
				if want == 200 && !strings.HasPrefix(row.path, "/dssauth/") {
					text = "<h1>Hello, " + visitor(login) + "</h1>"
				}
				s.expect(visitor(login)+" opens "+row.path, s.get(row.path, "Cookie", cookies[login]), want, text)
			}
		}
	}
	s.expect("an anonymous visitor claims to be admin", s.get("/admin/", "Remote-User", "admin", "Remote-Groups", "administrators"), 401, "")
	s.expect("and does so on an open page", s.get("/open/", "remote_user", "admin"), 200, "<h1>Hello, anonymous visitor</h1>")

	seen := s.get("/", "Cookie", cookies["ann"]+"; theme=dark")
	s.expect("the application gets ann's groups", seen, 200, "<th>Remote-Groups<td>analysts,readers")
	s.expect("her name", seen, 200, "<th>Remote-Name<td>Ann Analyst")
	s.expect("a signed assertion", seen, 200, "<th>X-Dssauth-Assertion<td>ey")
	s.expect("and her cookies without DSS's", seen, 200, "<th>Cookie<td>theme=dark\n")

	d.fake.SetDown(true)
	s.expect("a visitor who is new in an outage opens /", s.get("/", "Cookie", cookies["ann"]+"0"), 503, "")
	s.expect("and /open/", s.get("/open/", "Cookie", cookies["ann"]+"1"), 200, "anonymous visitor")
	stop()
	if err := <-d.ended; err != nil {
		return err
	}
	if s.wrong > 0 {
		return fmt.Errorf("%d answers are not as they should be", s.wrong)
	}
	fmt.Fprintln(out, "All answers are as they should be.")
	return nil
}

func visitor(login string) string {
	if login == "" {
		return "anonymous visitor"
	}
	return login
}

// signIn returns the Cookie header of a browser that signed in on the fake's page.
func (s *story) signIn(login string) (string, error) {
	r, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.dss+"/sign-in", strings.NewReader(url.Values{"login": {login}}.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	if err := reply.Body.Close(); err != nil {
		return "", err
	}
	if len(reply.Cookies()) == 0 {
		return "", errors.New("the fake DSS signs nobody in: " + reply.Status)
	}
	c := reply.Cookies()[0]
	return c.Name + "=" + c.Value, nil
}

type answer struct {
	status int
	body   string
	err    error
}

func (s *story) get(path string, headers ...string) answer {
	r, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.gateway+path, nil)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = []string{headers[i+1]}
	}
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return answer{err: err}
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	return answer{reply.StatusCode, string(body), err}
}

func (s *story) expect(what string, got answer, status int, text string) {
	mark := "ok    "
	if got.err != nil || got.status != status || !strings.Contains(got.body, text) {
		mark = "WRONG "
		s.wrong++
	}
	fmt.Fprintf(s.out, "%s %s: %d", mark, what, got.status)
	if mark != "ok    " {
		fmt.Fprintf(s.out, ", not %d with %q", status, text)
	}
	if got.err != nil {
		fmt.Fprintf(s.out, ": %v", got.err)
	}
	fmt.Fprintln(s.out)
}
