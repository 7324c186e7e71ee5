// Traces makes OpenTelemetry spans: one for each request, one for each lookup,
// and inside these one for each call of DSS, named by the semantic conventions.
// A request that is answered from memory has only its own span.
//
// No span holds a credential, a login or a part of a query. This program prints
// its spans. Replace stdouttrace by an exporter such as otlptracehttp.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/projects:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/traces
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// lookupSpans returns hooks that make a span for each lookup. A lookup serves
// all requests that wait for its answer, so its span is in no request's trace.
func lookupSpans(provider trace.TracerProvider) dssauth.Hooks {
	tracer := provider.Tracer("github.com/dssauth/dssauth/examples/traces")
	return dssauth.Hooks{
		LookupStart: func(ctx context.Context, renewal bool) context.Context {
			ctx, _ = tracer.Start(ctx, "dssauth lookup", trace.WithAttributes(attribute.Bool("dssauth.lookup.renewal", renewal)))
			return ctx
		},
		LookupEnd: func(ctx context.Context, l dssauth.Lookup) {
			span := trace.SpanFromContext(ctx)
			span.SetAttributes(attribute.String("dssauth.lookup.outcome", string(l.Outcome)))
			if l.Outcome == dssauth.OutcomeUnavailable || l.Outcome == dssauth.OutcomeStale {
				span.SetAttributes(semconv.ErrorTypeKey.String(string(l.Outcome)))
				span.SetStatus(codes.Error, l.Err.Error()) // it holds no credential and no login
			}
			span.End()
		},
	}
}

// traced returns a client that makes a span for each call. The span is within
// the span of the lookup, or of the request, whose context the call gets.
func traced(client *dss.Client, provider trace.TracerProvider) *dss.Client {
	return client.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return otelhttp.NewTransport(discreet{next},
			otelhttp.WithTracerProvider(provider),
			otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
				return strings.TrimSpace(r.Method + " " + template(r))
			}))
	})
}

const api = "/dip/publicapi"

// templates are the paths of the API that spans name. Add the paths that your
// application calls.
var templates = func() *http.ServeMux {
	m := http.NewServeMux()
	for _, path := range []string{
		"/auth/info", "/auth/info-from-browser-headers", "/auth/ticket-from-browser-headers", "/users/{login}", "/current-user",
		"/projects/{$}", "/projects/{projectKey}/jobs/{$}",
	} {
		m.Handle(path, http.NotFoundHandler())
	}
	return m
}()

// template returns the path that r calls, without logins and keys, or "".
func template(r *http.Request) string {
	before, path, _ := strings.Cut(r.URL.Path, api)
	_, pattern := templates.Handler(&http.Request{Method: r.Method, URL: &url.URL{Path: path}})
	if pattern == "" {
		return ""
	}
	return before + api + strings.TrimSuffix(pattern, "{$}")
}

// discreet removes some of otelhttp's values from the span in a request's
// context: the path, which can hold a login, and the query. Errors show their
// kind, and no quoted text.
type discreet struct{ next http.RoundTripper }

func (d discreet) RoundTrip(r *http.Request) (*http.Response, error) {
	span, path := trace.SpanFromContext(r.Context()), template(r)
	if path != "" {
		span.SetAttributes(semconv.URLTemplate(path))
	} else {
		path = "/REDACTED"
	}
	span.SetAttributes(semconv.URLFull(r.URL.Scheme + "://" + r.URL.Host + path))
	reply, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, unquoted{err}
	}
	if reply.StatusCode != http.StatusSwitchingProtocols {
		reply.Body = discreetBody{reply.Body}
	}
	return reply, nil
}

type discreetBody struct{ io.ReadCloser }

func (b discreetBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = unquoted{err}
	}
	return n, err
}

// unquoted is an error of the network without its text, which can quote the
// request and the reply. Package dss still finds its kind.
type unquoted struct{ cause error }

func (u unquoted) Error() string     { return "no reply" }
func (u unquoted) ErrorType() string { return fmt.Sprintf("%T", u.cause) }
func (u unquoted) Unwrap() error     { return u.cause }

func newRouter(auth *dssauth.Middleware) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", hello)
	mux.Handle("GET /projects", projects(auth))
	return auth.Handler(mux) // signed-in DSS users only, on every route
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }

// projects calls DSS as the visitor, in a span within that of the request.
func projects(auth *dssauth.Middleware) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitor, err := dssauth.ClientFromContext(r.Context())
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		var projects json.RawMessage // not w: after a part of the reply, Refuse is too late
		if err := visitor.Do(r.Context(), "GET", "/projects/", nil, &projects); err != nil {
			auth.Refuse(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(projects)
	})
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	exporter, err := stdouttrace.New(stdouttrace.WithPrettyPrint())
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)))
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{
		Client:        traced(client, provider),
		Hooks:         lookupSpans(provider), // with others: dssauth.JoinHooks(lookupSpans(provider), …)
		Impersonation: dssauth.ByTicket,
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := otelhttp.NewHandler(newRouter(auth), "", otelhttp.WithTracerProvider(provider))
	server := &http.Server{Addr: *addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
