package dsstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// NoRouteForgotten sends an anonymous visitor's request to each route of a
// router, over a socket. It fails tb for each route whose answer is not 401,
// 403 or 503. A redirect, a 404, a 405, a panic, a cut connection and no answer
// within 10 seconds fail tb, too. For a stream or a websocket it waits only for
// the status.
//
// A route is a pattern, with a method before it if it has one: "/me", "GET
// /users/{id}". Patterns are those of net/http, chi, gorilla/mux, echo, gin or
// Fiber. Parameters get a value that matches: {id}, {rest...}, {$},
// {id:[0-9]+}, :id, * and *rest. If a handler accepts only certain values, give
// a path without parameters. Routes without a method are tried with GET and
// POST. So are routes whose method has small letters, as echo's "any" routes
// have. GET is also tried as a websocket's handshake. Variants of a path are
// not tried: list a route with a trailing slash by itself.
//
// Open names the routes that anonymous visitors may use, spelled as in routes.
// A pattern without a method names all methods of that pattern. A name without
// a route fails tb. The name of a route that refuses anonymous visitors fails
// tb, too.
//
// Another check that refuses requests can hide a forgotten route, such as a
// 403 for a missing token against forged requests. Leave such checks out of
// the router under test.
//
// The handler of a forgotten route runs. Give it a test database, not a real
// one.
func NoRouteForgotten(tb testing.TB, h http.Handler, routes []string, open ...string) {
	tb.Helper()
	for _, mistake := range forgotten(h, routes, open, 10*time.Second) {
		tb.Errorf("dsstest: %s", mistake)
	}
}

// forgotten returns the mistakes, in the order of routes and open. It waits at
// most patience for each answer.
func forgotten(h http.Handler, routes, open []string, patience time.Duration) (mistakes []string) {
	if len(routes) == 0 {
		return []string{"there are no routes: list those of the router"}
	}
	v, err := visit(h, patience)
	if err != nil {
		return []string{err.Error()}
	}
	defer v.leave()
	v.filler = fillerFor(routes)
	refused := map[string]bool{}
	for _, route := range routes {
		if _, tried := refused[route]; tried {
			continue
		}
		answer := v.try(route)
		refused[route] = answer == ""
		named := slices.ContainsFunc(open, func(name string) bool { return names(name, route) })
		if answer != "" && !named {
			mistakes = append(mistakes, fmt.Sprintf(
				"%s: an anonymous visitor gets %s, and not 401, 403 or 503: have the middleware wrap this route, or name %q as open", route, answer, route))
		}
	}
	for _, name := range open {
		found := false
		for _, route := range routes {
			if !names(name, route) {
				continue
			}
			if found = true; refused[route] {
				mistakes = append(mistakes, fmt.Sprintf("%q is named as open, but %s refuses anonymous visitors: remove the name", name, route))
				break
			}
		}
		if !found {
			mistakes = append(mistakes, fmt.Sprintf("%q is named as open, and there is no such route", name))
		}
	}
	return mistakes
}

// names reports whether a name of an open route means this route.
func names(open, route string) bool {
	_, pattern := cutMethod(route)
	return open == route || open == pattern
}

func cutMethod(route string) (method, pattern string) {
	method, pattern, found := strings.Cut(route, " ")
	if !found {
		return "", route
	}
	return method, strings.TrimLeft(pattern, " \t")
}

// anonymous is a visitor that asks a handler over a socket, so that handlers
// can do anything with their connection.
type anonymous struct {
	server   *http.Server
	client   *http.Client
	host     string
	filler   string // of parameters
	patience time.Duration
	panicked chan any
}

func visit(h http.Handler, patience time.Duration) (*anonymous, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &anonymous{host: listener.Addr().String(), patience: patience, panicked: make(chan any, 1)}
	v.server = &http.Server{
		ErrorLog: log.New(io.Discard, "", 0), // panics are reported
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil {
					select {
					case v.panicked <- p:
					default: // an earlier panic was not read
					}
					panic(http.ErrAbortHandler)
				}
			}()
			h.ServeHTTP(w, r)
		}),
	}
	v.client = &http.Client{
		// One connection for each request: the handler is asked once, and no request
		// gets a broken connection.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	go func() { _ = v.server.Serve(listener) }()
	return v, nil
}

// leave does not wait for handlers, since one may hang.
func (v *anonymous) leave() { _ = v.server.Close() }

// try returns a route's answer if it is not a refusal, and "" if the route
// refuses.
func (v *anonymous) try(route string) string {
	method, pattern := cutMethod(route)
	host, path, err := fill(pattern, v.filler)
	if err != nil {
		return err.Error()
	}
	methods := []string{method}
	if method == "" || method != strings.ToUpper(method) {
		methods = []string{http.MethodGet, http.MethodPost}
	}
	for _, m := range methods {
		for _, websocket := range []bool{false, true} {
			if websocket && m != http.MethodGet {
				continue
			}
			answer := v.ask(m, host, path, websocket)
			switch {
			case answer == "":
				continue
			case websocket:
				return answer + " for a websocket"
			case method != m:
				return answer + " for " + m
			}
			return answer
		}
	}
	return ""
}

func (v *anonymous) ask(method, host, path string, websocket bool) string {
	ctx, cancel := context.WithTimeout(context.Background(), v.patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+v.host+"/", nil)
	if err != nil {
		return "no request: " + err.Error()
	}
	r.URL.Path, r.Host = path, host
	r.Header.Set("Accept", "application/json") // as a program, so that it is not redirected to sign in
	if websocket {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	}
	select {
	case <-v.panicked: // the panic of an earlier request that timed out
	default:
	}
	reply, err := v.client.Do(r)
	if err != nil {
		return v.failure(err)
	}
	defer reply.Body.Close()
	switch reply.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable:
		return ""
	}
	answer := fmt.Sprintf("%d %s", reply.StatusCode, http.StatusText(reply.StatusCode))
	if to, err := url.Parse(reply.Header.Get("Location")); err == nil && to.Path != "" {
		answer += " to " + to.Path
	}
	if reply.StatusCode == http.StatusNotFound || reply.StatusCode == http.StatusMethodNotAllowed {
		answer += " at " + path + " (where no route fits that, give a path without parameters)"
	}
	return strings.TrimSpace(answer)
}

func (v *anonymous) failure(err error) string {
	select {
	case p := <-v.panicked:
		return fmt.Sprintf("a panic (%v)", p)
	default:
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", v.patience)
	}
	return "no answer that is HTTP"
}
