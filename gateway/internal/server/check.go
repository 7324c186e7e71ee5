package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/rules"
)

// asker is a kind of proxy that asks. uri and method name the headers in which
// it sends the request's path and method.
type asker struct {
	uri, method string
	// statuses is true if it understands 2xx, 401 and 403 only.
	statuses bool
}

var askers = []asker{
	{"X-Original-Uri", "X-Original-Method", true},    // nginx, as docs/not-go.md sets it up
	{"X-Forwarded-Uri", "X-Forwarded-Method", false}, // Caddy and Traefik
}

// check answers a proxy that asks about a request: 200 with the headers for the
// upstream, or the refusal.
func (s *Server) check(w *answer, r *http.Request) {
	s.asked(w, r, s.checked, func(w http.ResponseWriter, asked *http.Request, kind asker, h http.Handler) {
		if kind.statuses {
			w = &unredirected{w}
		}
		h.ServeHTTP(w, asked)
	})
}

// refusal shows the refusal of check, for nginx: its auth_request passes on no body
// and no redirect.
func (s *Server) refusal(w *answer, r *http.Request) {
	s.asked(w, r, s.refused, func(w http.ResponseWriter, asked *http.Request, _ asker, h http.Handler) { h.ServeHTTP(w, asked) })
}

// asked finds out which request a proxy asks about. It calls then with this request
// and with the gate of its rule.
func (s *Server) asked(w *answer, r *http.Request, gates []http.Handler, then func(http.ResponseWriter, *http.Request, asker, http.Handler)) {
	if !s.isProxy(r) {
		// Only the peer gets this, and it holds no secret.
		http.Error(w, "This is for proxies. Add the proxy's address to \"proxies\" of the gateway's configuration.", http.StatusForbidden)
		return
	}
	asked, kind, err := s.original(r)
	if err != nil {
		s.bad(w, r, err.Error())
		return
	}
	w.method, w.path = asked.Method, asked.URL.Path
	if !rules.Passes(asked.Method) {
		s.notAllowed(w)
		return
	}
	rule, err := s.config.Set.Find(asked.Method, pathOf(asked.RequestURI))
	if err != nil {
		s.bad(w, asked, err.Error())
		return
	}
	then(w, asked, kind, gates[rule])
}

// original returns the request that a proxy asks about.
func (s *Server) original(r *http.Request) (*http.Request, asker, error) {
	var kind asker
	for _, a := range askers {
		for name, values := range r.Header {
			if !strings.EqualFold(name, a.uri) && !strings.EqualFold(name, a.method) {
				continue
			}
			if len(values) > 1 {
				return nil, kind, errors.New(a.uri + " or " + a.method + " twice: one comes from the proxy, the other from the browser")
			}
			if kind.uri != "" && kind.uri != a.uri {
				return nil, kind, errors.New("headers of nginx and of Caddy or Traefik: one comes from the proxy, the other from the browser")
			}
			kind = a
		}
	}
	uri, method := r.Header.Get(kind.uri), r.Header.Get(kind.method)
	if uri == "" || method == "" {
		return nil, kind, errors.New("the proxy does not say which request it asks about: it sends X-Original-URI and X-Original-Method, or X-Forwarded-Uri and X-Forwarded-Method")
	}
	if !strings.HasPrefix(uri, "/") {
		return nil, kind, errors.New("the proxy does not send a path: it must begin with a slash")
	}
	where, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, kind, errors.New("the path that the proxy asks about cannot be read")
	}
	for name := range r.Header {
		switch {
		case strings.EqualFold(name, kind.uri), strings.EqualFold(name, kind.method):
		case name == "X-Dku-Apiticket", name == "X-Dku-Proxyuser": // which the proxies remove by name
		case s.identity.speaksForUs(name):
			return nil, kind, errors.New("the browser sent a header that only the gateway may send: " + name)
		case reroutes(name):
			return nil, kind, errors.New("the browser sent a header by which an application can take another path or method: " + name)
		}
	}
	if len(r.Header["Upgrade"]) > 0 && !isUpgrade(r.Header) {
		return nil, kind, errors.New("the browser asks for another protocol than a websocket")
	}
	asked := r.Clone(r.Context())
	asked.Method, asked.RequestURI, asked.URL = method, uri, where
	asked.Body, asked.ContentLength = http.NoBody, 0
	asked.Header.Del(kind.uri)
	asked.Header.Del(kind.method)
	if host := r.Header.Get("X-Forwarded-Host"); host != "" && !kind.statuses {
		asked.Host = host
	}
	return asked, kind, nil
}

// admit tells a proxy that a request may pass, and which headers to send to its
// upstream.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	id, named := dssauth.FromContext(r.Context())
	said, err := s.identity.say(id, named)
	if err != nil {
		s.auth.Refuse(w, r, err)
		return
	}
	// All headers, even empty ones: each must replace the one that the browser
	// sent.
	s.identity.put(w.Header(), said, true)
	passing := strings.Join(r.Header["Cookie"], "; ")
	if !s.identity.credentials {
		passing = s.identity.cookies.others(r.Header["Cookie"])
	}
	w.Header()[cookieHeader] = []string{passing}
	w.WriteHeader(http.StatusOK)
}

// late answers a request that was refused a moment ago and is admitted now. It does
// not redirect to the same path: if the other proxy cannot read the check's
// answers, this would be an endless loop.
func (s *Server) late(w http.ResponseWriter, r *http.Request) {
	s.auth.Refuse(w, r, fmt.Errorf("%w: it was refused a moment ago", dssauth.ErrUnavailable))
}

// unredirected turns a redirect into a 401, since nginx takes a redirect for an
// error.
type unredirected struct{ http.ResponseWriter }

func (w *unredirected) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *unredirected) WriteHeader(status int) {
	if status >= 300 && status < 400 {
		status = http.StatusUnauthorized
	}
	w.ResponseWriter.WriteHeader(status)
}
