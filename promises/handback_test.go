package promises

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

type wrapper = func(http.Handler) http.Handler

// wrappers are the ways in which a Middleware comes between net/http and a
// handler. All of them let ann pass.
func wrappers(t *testing.T) map[string]wrapper {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	other := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	apiKeys := newAuth(t, dssauth.Config{Resolver: newDoorman(), Headers: []string{"Authorization"}})
	group, another := m.RequireGroup("analysts"), m.RequireGroup("readers")
	return map[string]wrapper{
		"Handler":                 m.Handler,
		"Optional":                m.Optional,
		"a gate alone":            group,
		"a gate behind Handler":   func(h http.Handler) http.Handler { return m.Handler(group(h)) },
		"two gates":               func(h http.Handler) http.Handler { return group(another(h)) },
		"all of them":             func(h http.Handler) http.Handler { return m.Optional(m.Handler(group(group(h)))) },
		"two instances":           func(h http.Handler) http.Handler { return m.Handler(other.Handler(other.RequireGroup("readers")(h))) },
		"anonymous to the second": func(h http.Handler) http.Handler { return m.Handler(apiKeys.Optional(h)) },
		"a framework's adapter": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r, err := m.Authenticate(r)
				if err != nil {
					m.Refuse(w, r, err)
					return
				}
				h.ServeHTTP(w, r)
			})
		},
	}
}

// temporaryFiles lets uploads write to a directory of this test, and returns
// the names of the files in it.
func temporaryFiles(t *testing.T) func() []string {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return func() (names []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
}

// anUpload is a form with one file of this many bytes.
func anUpload(t testing.TB, size int) (contentType string, body []byte) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("file", "report.csv")
	require.NoError(t, err)
	_, err = part.Write(make([]byte, size))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return w.FormDataContentType(), form.Bytes()
}

func TestUploadsLeaveNoFile(t *testing.T) {
	const size = 64 << 10
	for name, wrap := range wrappers(t) {
		t.Run(name, func(t *testing.T) {
			files := temporaryFiles(t)
			app := httptest.NewServer(wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if assert.NoError(t, r.ParseMultipartForm(1<<10)) {
					assert.NotEmpty(t, files(), "an upload of this size makes no file, and so this test shows nothing")
				}
			})))
			contentType, body := anUpload(t, size)
			for range 3 {
				r, err := http.NewRequestWithContext(t.Context(), "POST", app.URL, bytes.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Content-Type", contentType)
				r.Header.Set("Cookie", "session=ann")
				reply, err := app.Client().Do(r)
				require.NoError(t, err)
				reply.Body.Close()
				assert.Equal(t, 200, reply.StatusCode)
			}
			app.Close() // waits until net/http is done with the requests
			assert.Empty(t, files())
		})
	}
}

// The memory that net/http gives to a form by itself is 32 MiB.
func TestALargeUploadLeavesNoFile(t *testing.T) {
	files := temporaryFiles(t)
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	app := httptest.NewServer(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _, err := r.FormFile("file")
		assert.NoError(t, err)
		assert.NotEmpty(t, files())
	})))
	contentType, body := anUpload(t, 33<<20)
	r, err := http.NewRequestWithContext(t.Context(), "POST", app.URL, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Cookie", "session=ann")
	reply, err := app.Client().Do(r)
	require.NoError(t, err)
	reply.Body.Close()
	app.Close()
	assert.Empty(t, files())
}

// The race detector sees any code that touches the form while the handler reads it.
func TestInterruptedUploadLeavesNoFile(t *testing.T) {
	contentType, body := anUpload(t, 1<<20)
	for _, test := range []struct {
		name string
		sent int
	}{
		{"before the form begins", 0},
		{"within the file", len(body) / 2},
		{"before the last byte", len(body) - 1},
		{"while the handler works on it", len(body)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, wrap := range wrappers(t) {
				t.Run(name, func(t *testing.T) {
					files := temporaryFiles(t)
					begun := make(chan struct{}, 1)
					app := httptest.NewServer(wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						begun <- struct{}{}
						file, _, err := r.FormFile("file")
						if test.sent < len(body) {
							assert.Error(t, err)
							return
						}
						if assert.NoError(t, err) {
							begun <- struct{}{}
							<-r.Context().Done()
							n, err := io.Copy(io.Discard, file)
							assert.NoError(t, err)
							assert.EqualValues(t, 1<<20, n)
						}
					})))
					conn, err := net.Dial("tcp", app.Listener.Addr().String())
					require.NoError(t, err)
					_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: app.example\r\nCookie: session=ann\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", contentType, len(body))
					require.NoError(t, err)
					<-begun
					_, err = conn.Write(body[:test.sent])
					require.NoError(t, err)
					if test.sent == len(body) {
						<-begun
					}
					conn.Close()
					app.Close()
					assert.Empty(t, files())
				})
			}
		})
	}
}

// seen is the data that a logger in front finds in its request after the handlers have
// returned.
func seen(pattern *string) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				_ = recover()
				*pattern = r.Pattern
			}()
			next.ServeHTTP(w, r)
		})
	}
}

// Code in front of a Middleware sees the same route as without it.
func TestLoggersInFrontSeeTheRoute(t *testing.T) {
	routes := http.NewServeMux()
	routes.Handle("GET /reports/{id}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	routes.Handle("GET /panics", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no") }))
	for _, test := range []struct {
		name   string
		path   string
		router func(logger, auth wrapper) http.Handler
		want   string
	}{
		{"a logger in front of all", "/reports/7", func(logger, auth wrapper) http.Handler { return logger(auth(routes)) }, "GET /reports/{id}"},
		{"where no route is found", "/other", func(logger, auth wrapper) http.Handler { return logger(auth(routes)) }, ""},
		{"where the handler panics", "/panics", func(logger, auth wrapper) http.Handler { return logger(auth(routes)) }, "GET /panics"},
		{"behind StripPrefix", "/app/reports/7", func(logger, auth wrapper) http.Handler {
			return http.StripPrefix("/app", logger(auth(routes)))
		}, "GET /reports/{id}"},
		{"behind a route and StripPrefix", "/app/reports/7", func(logger, auth wrapper) http.Handler {
			outer := http.NewServeMux()
			outer.Handle("/app/", http.StripPrefix("/app", logger(auth(routes))))
			return outer
		}, "GET /reports/{id}"},
		{"in front of a route and StripPrefix", "/app/reports/7", func(logger, auth wrapper) http.Handler {
			outer := http.NewServeMux()
			outer.Handle("/app/", http.StripPrefix("/app", auth(routes)))
			return logger(outer)
		}, "/app/"},
		{"StripPrefix between us and the routes makes its own copy", "/app/reports/7", func(logger, auth wrapper) http.Handler {
			return logger(auth(http.StripPrefix("/app", routes)))
		}, ""},
		{"a route within a route", "/reports/7", func(logger, auth wrapper) http.Handler {
			outer := http.NewServeMux()
			outer.Handle("/", auth(routes))
			return logger(outer)
		}, "GET /reports/{id}"},
		{"chi, a logger among its middleware", "/reports/7", func(logger, auth wrapper) http.Handler {
			r := chi.NewRouter()
			r.Use(logger, auth)
			r.Get("/reports/{id}", func(http.ResponseWriter, *http.Request) {})
			return r
		}, "/reports/{id}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, auth := range wrappers(t) {
				for _, wrap := range []wrapper{func(h http.Handler) http.Handler { return h }, auth} {
					pattern := "nothing"
					w := serve(test.router(seen(&pattern), wrap), request("GET", test.path, "Cookie", "session=ann"))
					assert.Contains(t, []int{200, 404}, w.Code)
					assert.Equal(t, test.want, pattern, name)
				}
			}
		})
	}
}

func TestOnlyChangedValuesAreHandedBack(t *testing.T) {
	for name, wrap := range wrappers(t) {
		contentType, body := anUpload(t, 10)
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Cookie", "session=ann")
		require.NoError(t, r.ParseMultipartForm(1<<20))
		r.Pattern = "POST /"
		before, form := r.Context(), r.MultipartForm

		serve(wrap(whoami), r)
		assert.Same(t, form, r.MultipartForm, name)
		assert.Equal(t, "POST /", r.Pattern, name)
		if name == "a framework's adapter" {
			continue // which changes the request itself
		}
		assert.Equal(t, before, r.Context(), name)

		serve(wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { r.MultipartForm, r.Pattern = nil, "" })), r)
		assert.Nil(t, r.MultipartForm, name)
		assert.Empty(t, r.Pattern, name)
	}
}

func TestAuthenticateAttachesInPlace(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known})
	given := fromAnn()
	type key struct{}
	*given = *given.WithContext(context.WithValue(given.Context(), key{}, "kept"))
	login := func() string { return serve(whoami, given).Body.String() }

	r, err := m.Authenticate(given)
	require.NoError(t, err)
	assert.Same(t, given, r)
	assert.Equal(t, "ann", login())
	assert.Equal(t, "kept", given.Context().Value(key{}))
	assert.Equal(t, 200, serve(m.RequireGroup("analysts")(whoami), given).Code)

	given.Header.Set("Cookie", "session=bob")
	_, err = m.Authenticate(given)
	require.NoError(t, err)
	assert.Equal(t, "bob", login(), "the second call counts")
	assert.Equal(t, 403, serve(m.RequireGroup("analysts")(unreachable(t)), given).Code)
	assert.Equal(t, "kept", given.Context().Value(key{}))

	given.Header.Del("Cookie")
	_, err = m.Authenticate(given)
	require.ErrorIs(t, err, dssauth.ErrUnauthenticated)
	assert.Equal(t, "nobody", login(), "a program that goes on with the request after an error would have the earlier visitor")
	assert.Equal(t, 401, serve(m.RequireGroup("readers")(unreachable(t)), given).Code)

	given.Header.Set("Cookie", "session=ann")
	elsewhere := newAuth(t, dssauth.Config{Resolver: known})
	for _, each := range []*dssauth.Middleware{m, elsewhere} {
		_, err = each.Authenticate(given)
		require.NoError(t, err)
	}
	calls := known.calls()
	given.Header.Del("Cookie")
	for _, each := range []*dssauth.Middleware{m, elsewhere} {
		assert.Equal(t, 200, serve(each.RequireGroup("analysts")(whoami), given).Code, "another Middleware's visit stays")
	}
	assert.Equal(t, calls, known.calls())
}

// On a socket, with an upload and a client that waits for 100-continue: the race
// detector sees whether net/http reads the request meanwhile.
func TestAuthenticateDuringAnUpload(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := m.Authenticate(r); err != nil {
			m.Refuse(w, r, err)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		whoami(w, r)
	}))
	defer app.Close()
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 1 << 40}}
	defer client.CloseIdleConnections()
	var uploads sync.WaitGroup
	for range 20 {
		uploads.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), "POST", app.URL, strings.NewReader(strings.Repeat("x", 1<<18)))
			r.Header.Set("Cookie", "session=ann")
			r.Header.Set("Expect", "100-continue")
			reply, err := client.Do(r)
			if !assert.NoError(t, err) {
				return
			}
			defer reply.Body.Close()
			said, err := io.ReadAll(reply.Body)
			assert.NoError(t, err)
			assert.Equal(t, "ann", string(said))
		})
	}
	uploads.Wait()
}
