package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// This text is part of all credentials, logins and secrets that no span may
// hold.
const canary = "c4n4ry"

// app is the example with its DSS behind it, and its spans.
type app struct {
	t      *testing.T
	fake   *dsstest.Server
	auth   *dssauth.Middleware
	server *httptest.Server
	spans  *tracetest.InMemoryExporter
}

func newApp(t *testing.T, c dssauth.Config) *app {
	a := &app{t: t, fake: dsstest.NewServer(t), spans: tracetest.NewInMemoryExporter()}
	a.fake.AddUser(dsstest.User{Login: "ann-" + canary, DisplayName: canary, Email: canary + "@example.com", Groups: []string{canary}})
	a.fake.AddSession("session", canary, "ann-"+canary)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(a.spans))
	t.Cleanup(func() { assert.NoError(t, provider.Shutdown(context.Background())) })
	c.Client, c.Hooks, c.Logger = traced(a.fake.Client(), provider), lookupSpans(provider), slog.New(slog.DiscardHandler)
	var err error
	a.auth, err = dssauth.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, a.auth.Close()) })
	mux := newRouter(a.auth)
	a.server = httptest.NewServer(otelhttp.NewHandler(mux, "", otelhttp.WithTracerProvider(provider)))
	t.Cleanup(a.server.Close)
	return a
}

func (a *app) get(path string, headers ...string) (status int) {
	r, err := http.NewRequestWithContext(a.t.Context(), "GET", a.server.URL+path, nil)
	require.NoError(a.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	require.NoError(a.t, err)
	defer reply.Body.Close()
	_, _ = io.Copy(io.Discard, reply.Body)
	return reply.StatusCode
}

// ends waits until all spans are there.
func (a *app) ends() tracetest.SpanStubs {
	a.server.Close()
	require.NoError(a.t, a.auth.Close())
	return a.spans.GetSpans()
}

// tree lists the spans as "name, kind: outcome or status", each within its
// parents.
func tree(spans tracetest.SpanStubs) (tree []string) {
	var path func(s tracetest.SpanStub) string
	path = func(s tracetest.SpanStub) string {
		text := s.Name + " " + s.SpanKind.String()
		for _, a := range s.Attributes {
			if a.Key == "dssauth.lookup.outcome" || a.Key == "http.response.status_code" {
				text += " " + a.Value.String()
			}
		}
		for _, parent := range spans {
			if parent.SpanContext.SpanID() == s.Parent.SpanID() {
				return path(parent) + " > " + text
			}
		}
		return text
	}
	for _, s := range spans {
		tree = append(tree, path(s))
	}
	slices.Sort(tree)
	return tree
}

func TestCallsOfDSSAreWithinTheSpanOfTheLookup(t *testing.T) {
	a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket, UserDetails: true})
	const session = "session=" + canary
	require.Equal(t, 200, a.get("/hello", "Cookie", session))
	require.Equal(t, 200, a.get("/hello", "Cookie", session))
	require.Equal(t, 401, a.get("/hello"))
	require.Equal(t, 200, a.get("/projects", "Cookie", session))
	spans := a.ends()
	assert.Equal(t, []string{
		"GET /dip/publicapi/auth/info client 200", // not in the request's trace: the ticket serves several calls
		"GET /hello server 200",
		"GET /hello server 200", // a hit
		"GET /projects server 200",
		"GET /projects server 200 > GET /dip/publicapi/projects/ client 200",
		"GET server 401", // without credentials: DSS is not asked
		"POST /dip/publicapi/auth/ticket-from-browser-headers client 200",
		"dssauth lookup internal identified",
		"dssauth lookup internal identified > GET /dip/publicapi/current-user client 200",
		"dssauth lookup internal identified > POST /dip/publicapi/auth/info-from-browser-headers client 200",
		"dssauth lookup internal identified > POST /dip/publicapi/auth/ticket-from-browser-headers client 200",
	}, tree(spans))
	for _, s := range spans {
		if s.Name == "POST /dip/publicapi/auth/info-from-browser-headers" {
			told := map[string]string{}
			for _, attr := range s.Attributes {
				told[string(attr.Key)] = attr.Value.String()
			}
			assert.Equal(t, map[string]string{
				"http.request.method": "POST", "http.response.status_code": "200", "network.protocol.version": "1.1",
				"server.address": "127.0.0.1", "server.port": told["server.port"],
				"url.full": "http://127.0.0.1:" + told["server.port"] + "/dip/publicapi/auth/info-from-browser-headers", "url.template": "/dip/publicapi/auth/info-from-browser-headers",
			}, told)
		}
	}
}

// A visitor does not get the part of a reply that came before DSS was cut off.
func TestReplyThatIsCutOffIsRefused(t *testing.T) {
	a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket})
	a.fake.Intercept("/projects/", -1, dsstest.CutShort)
	assert.Equal(t, 503, a.get("/projects", "Cookie", "session="+canary))
}

func TestSpanOfALookupThatFails(t *testing.T) {
	a := newApp(t, dssauth.Config{})
	a.fake.Intercept("/auth/info-from-browser-headers", -1, dsstest.Respond(502, canary))
	require.Equal(t, 503, a.get("/hello", "Cookie", "session="+canary))
	var found []string
	for _, s := range a.ends() {
		if s.Name == "dssauth lookup" {
			found = append(found, s.Status.Code.String()+" "+s.Status.Description)
		}
	}
	assert.Equal(t, []string{"Error dssauth: visitor cannot be identified now: the lookup failed: dss: 502 Bad Gateway"}, found)
}

// No span shows a part of a request or an answer.
func TestNoSpanHoldsACredentialOrALogin(t *testing.T) {
	for name, c := range map[string]dssauth.Config{
		"by ticket":     {Impersonation: dssauth.ByTicket, UserDetails: true},
		"by proxy user": {Impersonation: dssauth.ByProxyUser},
		"neither":       {UserDetails: true}, // with GET /users/{login}
	} {
		t.Run(name, func(t *testing.T) {
			c.TTL, c.RefusalTTL = -1, -1
			a := newApp(t, c)
			raw := func(reply string) dsstest.Interceptor {
				return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
					conn, _, err := http.NewResponseController(w).Hijack()
					if assert.NoError(t, err) {
						defer conn.Close()
						fmt.Fprint(conn, reply)
					}
				}
			}
			times := 0
			everywhere := func() {
				times++ // since DSS is not asked again at once about bytes that failed
				other := fmt.Sprint("; n=", times)
				for _, path := range []string{"/hello", "/projects"} {
					a.get(path, "Cookie", "session="+canary+other, "X-DKU-APITicket", canary)
					a.get(path, "Authorization", "Bearer "+canary, "Cookie", other)
				}
			}
			everywhere()
			for _, where := range []string{
				"/auth/info-from-browser-headers", "/projects/", "/users/ann-" + canary, "/current-user", "/auth/ticket-from-browser-headers",
			} {
				// A proxy between the application and DSS answers with the bytes of the
				// request.
				for _, f := range []dsstest.Interceptor{
					raw("HTTP/1.1 " + canary + "\r\n\r\n"),
					raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + canary + "\r\n\r\n"),
					dsstest.Reset, dsstest.CutShort, dsstest.Respond(500, `{"errorType":"x.Y","message":"`+canary+`"}`),
					dsstest.Respond(302, canary, "Location", "/"+canary), dsstest.Respond(401, canary),
				} {
					a.fake.Intercept(where, -1, f)
					everywhere()
					a.fake.Intercept(where, 0, nil)
				}
			}
			spans := a.ends()
			require.Greater(t, len(spans), 100)
			text := fmt.Sprintf("%+v", spans)
			assert.Contains(t, text, "no reply")
			assert.NotContains(t, text, canary)
			assert.NotContains(t, text, a.fake.AdminKey())
			if name == "neither" {
				assert.Contains(t, strings.Join(tree(spans), "\n"), "GET /dip/publicapi/users/{login} client 200")
			}
		})
	}
}

func TestUnlistedPathsAreNotNamed(t *testing.T) {
	a := newApp(t, dssauth.Config{Impersonation: dssauth.ByTicket})
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(a.spans))
	client := traced(a.fake.Client(), provider)
	for _, path := range []string{"/projects/SALES?x=" + canary, "/users/" + canary, "/" + canary, "/auth/" + canary} {
		_ = client.Do(t.Context(), "GET", path, nil, nil)
	}
	var names []string
	spans := a.spans.GetSpans()
	for _, s := range spans {
		names = append(names, s.Name)
	}
	assert.Equal(t, []string{"GET", "GET /dip/publicapi/users/{login}", "GET", "GET"}, names)
	assert.NotContains(t, fmt.Sprintf("%+v", spans), canary)
}
