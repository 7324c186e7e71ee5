package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestWrappedRouter(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"in a TimeoutHandler":  func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "too slow") },
		"in a MaxBytesHandler": func(h http.Handler) http.Handler { return http.MaxBytesHandler(h, 64<<10) },
		"in otelhttp":          func(h http.Handler) http.Handler { return otelhttp.NewHandler(h, "app") },
		"in all of them": func(h http.Handler) http.Handler {
			return otelhttp.NewHandler(http.MaxBytesHandler(http.TimeoutHandler(h, time.Minute, "too slow"), 64<<10), "app")
		},
	} {
		t.Run(name, func(t *testing.T) {
			routertest.Run(t, func(auth *dssauth.Middleware) http.Handler { return wrap(newRouter(auth)) })
		})
	}
	t.Run("around them", func(t *testing.T) {
		routertest.Run(t, func(auth *dssauth.Middleware) http.Handler {
			analysts := auth.RequireGroup("analysts")
			mux := http.NewServeMux()
			mux.Handle("/me", http.TimeoutHandler(http.HandlerFunc(me), time.Minute, "too slow"))
			mux.Handle("/report", otelhttp.NewHandler(analysts(http.TimeoutHandler(http.HandlerFunc(report), time.Minute, "too slow")), "report"))
			mux.Handle("/admin/users/{login}", http.MaxBytesHandler(auth.RequireGroup("administrators")(http.HandlerFunc(user)), 64<<10))
			return auth.Handler(mux)
		})
	})
}

// serve serves newHandler's handler, and returns ann's session.
func serve(t *testing.T, http2 bool, newHandler func(*dssauth.Middleware) http.Handler) (*httptest.Server, *dsstest.Server, *http.Cookie) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	auth, err := dssauth.New(dssauth.Config{Client: fake.Client()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	app := httptest.NewUnstartedServer(newHandler(auth))
	app.EnableHTTP2 = http2
	app.StartTLS()
	t.Cleanup(app.Close)
	return app, fake, fake.SignIn("ann")
}

func send(t *testing.T, app *httptest.Server, method, path, body string, session *http.Cookie) (int, string) {
	r, err := http.NewRequestWithContext(t.Context(), method, app.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if session != nil {
		r.AddCookie(session)
	}
	reply, err := app.Client().Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	got, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return reply.StatusCode, strings.TrimSpace(string(got))
}

func overBoth(t *testing.T, f func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) { f(t, http2) })
	}
}

// A lookup outlives the request that started it. Its answer serves the next
// request.
func TestTimeoutHandlerAroundASlowDSS(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		app, fake, session := serve(t, http2, func(auth *dssauth.Middleware) http.Handler {
			slow := http.TimeoutHandler(newRouter(auth), 50*time.Millisecond, "too slow")
			mux := http.NewServeMux()
			mux.Handle("/", slow)
			mux.Handle("/patient/", http.StripPrefix("/patient", newRouter(auth)))
			return mux
		})
		answers := make(chan struct{})
		fake.Intercept("/auth/info-from-browser-headers", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			<-answers
			next.ServeHTTP(w, r)
		})
		status, body := send(t, app, "GET", "/report", "", session)
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Equal(t, "too slow", body)
		close(answers)
		status, body = send(t, app, "GET", "/patient/report", "", session)
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, "the report, for ann", body)
		assert.Equal(t, 1, fake.Calls("/auth/info-from-browser-headers"))
	})
}

// If a TimeoutHandler gives a handler up, the handler still has its visitor and
// its request.
func TestTimeoutHandlerInside(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		found, goOn := make(chan string, 1), make(chan struct{})
		app, _, session := serve(t, http2, func(auth *dssauth.Middleware) http.Handler {
			hanging := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-goOn
				id, ok := dssauth.FromContext(r.Context())
				found <- fmt.Sprint(id.Login, " ", ok)
			})
			return auth.Handler(http.TimeoutHandler(hanging, 50*time.Millisecond, "too slow"))
		})
		status, body := send(t, app, "GET", "/", "", session)
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Equal(t, "too slow", body)
		close(goOn)
		assert.Equal(t, "ann true", <-found)
	})
}

func TestMaxBytesHandler(t *testing.T) {
	const limit = 1 << 10
	save := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var large *http.MaxBytesError
		if _, err := io.Copy(io.Discard, r.Body); errors.As(err, &large) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		fmt.Fprint(w, "saved")
	})
	for place, wrap := range map[string]func(*dssauth.Middleware) http.Handler{
		"outside": func(auth *dssauth.Middleware) http.Handler { return http.MaxBytesHandler(auth.Handler(save), limit) },
		"inside":  func(auth *dssauth.Middleware) http.Handler { return auth.Handler(http.MaxBytesHandler(save, limit)) },
	} {
		t.Run(place, func(t *testing.T) {
			overBoth(t, func(t *testing.T, http2 bool) {
				app, _, session := serve(t, http2, wrap)
				for _, tt := range []struct {
					size    int
					session *http.Cookie
					status  int
				}{
					{limit, session, http.StatusOK},
					{limit + 1, session, http.StatusRequestEntityTooLarge},
					{limit, nil, http.StatusUnauthorized},
					{limit + 1, nil, http.StatusUnauthorized},
					{limit << 6, nil, http.StatusUnauthorized},
				} {
					status, _ := send(t, app, "POST", "/", strings.Repeat("x", tt.size), tt.session)
					assert.Equal(t, tt.status, status, "%d bytes", tt.size)
				}
			})
		})
	}
}

// Outside, otelhttp sees the status of a refusal and the route that the router
// found within the Middleware. It sees nothing that identifies the visitor.
func TestOtelOutsideSeesStatusAndRoute(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		spans := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		t.Cleanup(func() { assert.NoError(t, provider.Shutdown(context.Background())) })
		app, _, session := serve(t, http2, func(auth *dssauth.Middleware) http.Handler {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /users/{login}", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, "hello")
				assert.NoError(t, http.NewResponseController(w).Flush())
			})
			return otelhttp.NewHandler(auth.Handler(mux), "app", otelhttp.WithTracerProvider(provider))
		})
		status, _ := send(t, app, "GET", "/users/bob", "", session)
		assert.Equal(t, http.StatusOK, status)
		status, _ = send(t, app, "GET", "/users/bob", "", nil)
		assert.Equal(t, http.StatusUnauthorized, status)

		app.Close() // waits for the spans to end
		var got []string
		for _, span := range spans.Ended() {
			told := map[string]string{}
			for _, a := range span.Attributes() {
				told[string(a.Key)] = a.Value.String()
			}
			got = append(got, told["http.response.status_code"]+" "+span.Name())
			assert.NotContains(t, fmt.Sprint(told), session.Value)
		}
		assert.ElementsMatch(t, []string{"200 GET /users/{login}", "401 GET"}, got)
	})
}
