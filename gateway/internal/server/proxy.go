package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/gateway/internal/headers"
)

// proxy is the door to the upstream.
type proxy struct {
	running  context.Context // websockets and event streams end with it
	config   config.Config
	auth     *dssauth.Middleware
	identity *identity
	reverse  httputil.ReverseProxy // copied for each request
}

func newProxy(running context.Context, c config.Config, auth *dssauth.Middleware, who *identity, log *slog.Logger) *proxy {
	p := &proxy{running: running, config: c, auth: auth, identity: who}
	p.reverse = httputil.ReverseProxy{
		ErrorHandler: p.failed(log),
		Transport:    newTransport(),
		BufferPool:   &buffers{},
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// newTransport returns a transport to one upstream. It uses no proxy from the
// environment, and passes answers on unchanged.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConns:          512,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       4 * time.Second, // less than Node's 5s: a POST on a connection that Node is closing is lost
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
	}
}

// exchange is one request and its answer. Its ReverseProxy calls its methods, which
// find the visitor here. A context could carry the visitor, too, but needs a copy of
// the request.
type exchange struct {
	*proxy
	in      *http.Request
	w       http.ResponseWriter
	vary    []string
	named   bool
	said    said
	reverse httputil.ReverseProxy
	// switched is true once the connection is a websocket.
	switched bool
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, named := dssauth.FromContext(r.Context())
	said, err := p.identity.say(id, named)
	if err != nil {
		p.auth.Refuse(w, r, err)
		return
	}
	e := &exchange{proxy: p, in: r, w: w, vary: w.Header()["Vary"], named: named, said: said, reverse: p.reverse}
	e.reverse.Rewrite, e.reverse.ModifyResponse = e.rewrite, e.answered
	if isUpgrade(r.Header) {
		ctx, end := e.whileAdmitted()
		defer end()
		r = r.WithContext(ctx)
	}
	// Over HTTP/1, only this call lets an upstream answer before it has read a whole
	// upload. HTTP/2 needs no call.
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	w.Header().Del("Cache-Control") // ReverseProxy adds the upstream's, after answered has made it private
	if e.reverse.ServeHTTP(w, r); r.ContentLength != 0 && !e.switched {
		// The rest of an upload must not be read as the next request. In full duplex
		// net/http does not prevent that (go.dev/issue/68560). The flush comes
		// first, so that the answer does not wait for the rest.
		_ = http.NewResponseController(w).Flush()
		_ = r.Body.Close()
	}
}

// whileAdmitted returns a context that ends when the visitor loses access, when the
// request ends, or when the gateway stops.
func (e *exchange) whileAdmitted() (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(e.in.Context())
	stop := context.AfterFunc(e.running, end)
	if !e.named {
		return ctx, func() { stop(); end() }
	}
	admitted, forget := e.auth.WhileSignedIn(e.in.WithContext(ctx), 0)
	return admitted, func() { stop(); end(); forget() }
}

func (e *exchange) rewrite(r *httputil.ProxyRequest) {
	out := r.Out
	out.URL.Scheme, out.URL.Host = e.config.Upstream.Scheme, e.config.Upstream.Host
	out.URL.RawQuery = r.In.URL.RawQuery // unchanged: no rule reads it
	out.Host = r.In.Host
	out.Trailer = nil // some servers read trailers as headers
	forwarded(r, comesFrom(r.In, e.config.Proxies))
	if !isUpgrade(out.Header) {
		delete(out.Header, "Upgrade")
		delete(out.Header, "Connection")
	}
	e.identity.clean(out.Header)
	e.identity.put(out.Header, e.said, false)
}

// forwarded tells the upstream where the request comes from. The request's own
// X-Forwarded headers and X-Real-Ip pass only if a proxy in front sent them.
func forwarded(r *httputil.ProxyRequest, byProxy bool) {
	const prefix, realIP = "X-Forwarded-", "X-Real-Ip"
	var room [len(prefix)]byte
	for name := range r.Out.Header {
		if len(name) < len(realIP) || name[0]|0x20 != 'x' {
			continue
		}
		if len(name) >= len(prefix) && string(headers.Fold(room[:0], name[:len(prefix)])) == "x-forwarded-" ||
			len(name) == len(realIP) && string(headers.Fold(room[:0], name)) == "x-real-ip" && !(byProxy && name == realIP) {
			delete(r.Out.Header, name)
		}
	}
	if byProxy {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"] // SetXForwarded adds the proxy's address to it
	}
	r.SetXForwarded()
	if !byProxy {
		return
	}
	for _, name := range []string{prefix + "Host", prefix + "Proto", prefix + "Port", prefix + "Prefix"} {
		if values := r.In.Header[name]; len(values) > 0 {
			r.Out.Header[name] = values
		}
	}
}

// isUpgrade reports whether a request asks for a websocket. No other protocol
// passes: over h2c a browser could send further requests past the rules.
func isUpgrade(h http.Header) bool {
	upgrade := h["Upgrade"]
	return len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket")
}

// answered makes a named visitor's answer private, and ends an event stream
// when the visitor loses access.
func (e *exchange) answered(answer *http.Response) error {
	e.switched = answer.StatusCode == http.StatusSwitchingProtocols
	if len(e.w.Header()["Vary"]) == 0 && len(e.vary) > 0 {
		// After an earlier answer such as 103, ReverseProxy cleared its headers, and
		// our Vary with them.
		answer.Header["Vary"] = append(slices.Clip(e.vary), answer.Header["Vary"]...)
	}
	if e.named {
		private(answer.Header)
	}
	if kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";"); strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
		ctx, end := e.whileAdmitted()
		body := answer.Body
		answer.Body = &watched{body, end, context.AfterFunc(ctx, func() { _ = body.Close() })}
	}
	return nil
}

// private keeps an answer for a named visitor out of shared caches: the upstream
// does not know that a rule protects it.
func private(h http.Header) {
	for _, name := range [...]string{"X-Accel-Expires", "Surrogate-Control", "Cdn-Cache-Control"} {
		delete(h, name) // each of these has priority over Cache-Control
	}
	if len(h["Cache-Control"]) == 0 {
		h["Cache-Control"] = []string{"private"}
		return
	}
	directives := []string{"private"}
	for _, line := range h["Cache-Control"] {
		for d := range strings.SplitSeq(line, ",") {
			d = strings.TrimSpace(d)
			name, _, _ := strings.Cut(strings.ToLower(d), "=")
			switch name {
			case "", "public", "s-maxage", "private":
			default:
				directives = append(directives, d)
			}
		}
	}
	h["Cache-Control"] = []string{strings.Join(directives, ", ")}
}

// watched is an answer's body that closes when its visitor is no longer admitted.
type watched struct {
	io.ReadCloser
	end  context.CancelFunc
	stop func() bool
}

func (b *watched) Close() error {
	b.stop()
	b.end()
	return b.ReadCloser.Close()
}

func (p *proxy) failed(log *slog.Logger) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() != nil { // the visitor has gone, or is no longer admitted
			panic(http.ErrAbortHandler)
		}
		log.Warn("the upstream does not answer", "upstream", p.config.Upstream.Host, "error", err)
		http.Error(w, "The application does not answer.", http.StatusBadGateway)
	}
}

// buffers are used again: a new one for each answer would keep the garbage
// collector busy.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }
