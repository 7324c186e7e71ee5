// Package server is the gateway: it identifies the visitors of an application that
// knows nothing of DSS, enforces the rules, and tells the application who its
// visitors are. It has two doors: a reverse proxy, and a check for other proxies.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dssprom"
	"github.com/dssauth/dssauth/gateway/internal/assertion"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/gateway/internal/rules"
)

// Server is a gateway. It is an http.Handler.
type Server struct {
	auth     *dssauth.Middleware
	config   config.Config
	identity *identity
	proxied  []http.Handler // by rule: passes a request to the upstream
	checked  []http.Handler // by rule: answers a proxy that asks
	refused  []http.Handler // by rule: shows a refusal again, for nginx
	own      map[string]func(*answer, *http.Request)
	// running ends when the gateway is told to stop. Then readyz answers 503, so that
	// a load balancer sends no new requests. Websockets and event streams, which would
	// keep the process running, end.
	running context.Context
	end     context.CancelFunc
	log     *slog.Logger

	client      *dss.Client
	certificate *tls.Certificate     // nil: plain http
	metrics     *prometheus.Registry // nil: none are asked for
}

// New makes a gateway. Its error names the setting that is wrong.
func New(c config.Config, client *dss.Client, log *slog.Logger) (*Server, error) {
	signer, err := newSigner(c)
	if err != nil {
		return nil, err
	}
	certificate, err := newCertificate(c)
	if err != nil {
		return nil, err
	}
	var hooks dssauth.Hooks
	var metrics *prometheus.Registry
	if c.Metrics != "" {
		metrics = prometheus.NewRegistry()
		hooks = dssprom.Hooks(metrics)
	}
	auth, err := dssauth.New(dssauth.Config{
		Client:        client,
		Cookies:       c.DSSCookies,
		TTL:           c.TTL,
		UserDetails:   c.UserDetails,
		Impersonation: impersonation(c),
		LoginURL:      loginURL(c),
		Logger:        log,
		Hooks:         hooks,
	})
	if err != nil {
		return nil, err
	}
	s := &Server{auth: auth, config: c, identity: newIdentity(c, signer), log: log, client: client, certificate: certificate, metrics: metrics}
	s.running, s.end = context.WithCancel(context.Background())
	var forward http.Handler = http.HandlerFunc(s.noUpstream)
	if c.Upstream != nil {
		forward = newProxy(s.running, c, auth, s.identity, log)
	}
	admit := http.HandlerFunc(s.admit)
	for _, rule := range c.Rules {
		s.proxied = append(s.proxied, s.gate(rule, forward))
		s.checked = append(s.checked, s.gate(rule, admit))
		s.refused = append(s.refused, s.gate(rule, http.HandlerFunc(s.late)))
	}
	s.own = map[string]func(*answer, *http.Request){
		c.Check:                    s.check,
		rules.Reserved + "refusal": s.refusal,
		rules.Reserved + "healthz": healthy,
		rules.Reserved + "readyz":  s.serveReady,
	}
	if signer != nil {
		s.own[rules.Reserved+"jwks.json"] = func(w *answer, r *http.Request) { signer.ServeHTTP(w, r) }
	}
	return s, nil
}

func newSigner(c config.Config) (*assertion.Signer, error) {
	if c.Assertion == nil {
		return nil, nil
	}
	signer, err := assertion.New(assertion.Config(*c.Assertion))
	if wrong := (*assertion.Error)(nil); errors.As(err, &wrong) {
		place := map[string]string{
			"Issuer":   c.Place("assertion.issuer"),
			"Audience": c.Place("assertion.audience"),
			"KeyFiles": fmt.Sprintf("%s[%d]", c.Place("assertion.key_files"), wrong.Index),
		}
		return nil, fmt.Errorf("%s: %w", place[wrong.Field], wrong.Err)
	}
	return signer, err
}

// newCertificate returns nil if the gateway speaks plain http.
func newCertificate(c config.Config) (*tls.Certificate, error) {
	if c.TLS.Certificate == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		setting := "tls.certificate"
		if file := (*fs.PathError)(nil); errors.As(err, &file) && file.Path == c.TLS.Key {
			setting = "tls.key"
		}
		return nil, fmt.Errorf("%s: %w", c.Place(setting), err)
	}
	return &certificate, nil
}

// impersonation returns none unless a rule has a project: only then the gateway
// asks DSS as the visitor.
func impersonation(c config.Config) dssauth.Impersonation {
	for _, rule := range c.Rules {
		if rule.Project != "" {
			return c.Impersonation
		}
	}
	return dssauth.NoImpersonation
}

func loginURL(c config.Config) func(*http.Request, string) string {
	if c.LoginURL == "" {
		return nil
	}
	// Browsers see us under a prefix. The proxy of a Code Studio removes it.
	prefix := ""
	if _, text, err := net.SplitHostPort(c.Listen); err == nil {
		port, _ := strconv.Atoi(text)
		_, prefix, _ = dss.CodeStudio(port) // empty if the port is not exposed
	}
	return func(_ *http.Request, back string) string {
		if !strings.HasPrefix(back, prefix+"/") {
			back = prefix + back
		}
		return strings.ReplaceAll(c.LoginURL, "{back}", url.QueryEscape(back))
	}
}

// Close ends the lookups under way. Call it after the requests have ended.
func (s *Server) Close() error {
	s.end()
	return s.auth.Close()
}

// gate returns a handler that calls next for the visitors that one rule admits.
func (s *Server) gate(rule rules.Rule, next http.Handler) http.Handler {
	switch {
	case len(rule.Groups) > 0:
		return s.auth.RequireGroup(rule.Groups...)(next)
	case rule.Project != "":
		return s.auth.RequireProject(rule.Project)(next)
	case rule.Allow == rules.SignedIn:
		return s.auth.Handler(next)
	case rule.Allow == rules.Everyone:
		return s.open(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.auth.Refuse(w, r, fmt.Errorf("%w: a rule admits nobody here", dssauth.ErrForbidden))
	})
}

// open admits everybody, and names a visitor whom DSS knows. In an outage of DSS
// an open page stays open, without a name.
func (s *Server) open(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		named, err := s.auth.Authenticate(r)
		switch {
		case err == nil:
			w.Header().Set("Cache-Control", "private")
			r = named
		case !errors.Is(err, dssauth.ErrUnauthenticated) && !errors.Is(err, dssauth.ErrUnavailable):
			s.auth.Refuse(w, r, err)
			return
		}
		w.Header().Add("Vary", "Cookie, Authorization")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) serve(w *answer, r *http.Request) {
	target := pathOf(r.RequestURI)
	if own, ok := s.own[target]; ok {
		own(w, r)
		return
	}
	if !rules.Passes(r.Method) {
		s.notAllowed(w)
		return
	}
	rule, err := s.config.Set.Find(r.Method, target)
	if err != nil {
		s.bad(w, r, err.Error())
		return
	}
	s.proxied[rule].ServeHTTP(w, r)
}

func (s *Server) notAllowed(w http.ResponseWriter) {
	http.Error(w, "Requests of this method are not passed on.", http.StatusMethodNotAllowed)
}

// pathOf returns the path of a request's target, encoded as it was sent.
// net/http's URL does not keep this encoding: if one byte is odd, it encodes the
// whole path again.
func pathOf(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

func (s *Server) noUpstream(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "This gateway has no upstream: it answers "+s.config.Check+" for a proxy that asks.", http.StatusNotFound)
}

// bad refuses a request that the upstream could read differently from the rules.
// It does not ask DSS, so it knows no visitor.
func (s *Server) bad(w *answer, r *http.Request, why string) {
	w.why = why
	s.auth.Refuse(w, r, fmt.Errorf("%w: %s", dssauth.ErrMalformed, why))
}

// isProxy reports whether the request comes from an address of Config.Proxies.
func (s *Server) isProxy(r *http.Request) bool { return comesFrom(r, s.config.Proxies) }

func comesFrom(r *http.Request, proxies []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
