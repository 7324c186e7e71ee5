package promises

import (
	"cmp"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
)

// sets is a middleware, or a handler's first half, that adds some headers:
// name, value, name, value.
func sets(headers ...string) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Add(headers[i], headers[i+1])
			}
			next.ServeHTTP(w, r)
		})
	}
}

func TestResponsesArePrivate(t *testing.T) {
	type values = []string
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), AllowAPIKeys: true})
	sso := newAuth(t, dssauth.Config{Resolver: newDoorman(), Headers: []string{"cookie", "x-sso"}})
	group, both := m.RequireGroup("analysts"), values{"Cookie", "Authorization"}
	anonymous := func() *http.Request { return request("GET", "/", "Cookie", "session=nobody") }
	byKey := func() *http.Request { return request("GET", "/", "Authorization", "Bearer key") }
	chain := func(all ...wrapper) http.Handler {
		h := http.Handler(whoami)
		for i := len(all) - 1; i >= 0; i-- {
			h = all[i](h)
		}
		return h
	}
	for _, test := range []struct {
		name         string
		h            http.Handler
		visit        func() *http.Request
		status       int
		cacheControl values
		vary         values
	}{
		{"a refusal of an anonymous visitor is not stored", chain(m.Handler), anonymous, 401, values{"no-store"}, with(both, "Accept", "Sec-Fetch-Mode")},
		{"a gate's refusal behind Handler names each header once", chain(m.Handler, m.RequireGroup("others")), fromAnn, 403, values{"no-store"}, with(both, "Accept", "Sec-Fetch-Mode")},
		{"a gate's own refusal names each header once", chain(m.RequireGroup("others")), fromAnn, 403, values{"no-store"}, with(both, "Accept", "Sec-Fetch-Mode")},
		{"a refusal behind another instance names the headers of both", chain(m.Handler, sso.RequireGroup("others")), fromAnn, 403, values{"no-store"}, with(both, "X-Sso", "Accept", "Sec-Fetch-Mode")},
		{"a refusal drops an earlier public", chain(sets("Cache-Control", "public"), m.Handler), anonymous, 401, values{"no-store"}, with(both, "Accept", "Sec-Fetch-Mode")},

		{"behind Handler", chain(m.Handler), fromAnn, 200, values{"private"}, both},
		{"behind Handler, for an API key", chain(m.Handler), byKey, 200, values{"private"}, both},
		{"behind a gate alone", chain(group), fromAnn, 200, values{"private"}, both},
		{"behind Optional, for a visitor", chain(m.Optional), fromAnn, 200, values{"private"}, both},
		{"behind Optional, for an anonymous visitor", chain(m.Optional), anonymous, 200, nil, both},
		{"behind Optional, without credentials", chain(m.Optional), func() *http.Request { return request("GET", "/") }, 200, nil, both},
		{"with other headers that identify", chain(sso.Handler), fromAnn, 200, values{"private"}, values{"Cookie", "X-Sso"}},
		{"behind many, each name once", chain(m.Optional, m.Handler, group, group, m.Handler), fromAnn, 200, values{"private"}, both},
		{"behind two instances, the names of both", chain(m.Handler, sso.Handler), fromAnn, 200, values{"private"}, with(both, "X-Sso")},

		{"a header that the handler sets wins", chain(m.Handler, replaces("Cache-Control", "public, max-age=60", "Vary", "Accept")), fromAnn, 200, values{"public, max-age=60"}, values{"Accept"}},
		{"a header that the handler removes stays removed", chain(m.Handler, removes("Cache-Control", "Vary")), fromAnn, 200, nil, nil},
		{"a header set between a gate and Handler wins", chain(m.Handler, replaces("Cache-Control", "max-age=60"), group), fromAnn, 200, values{"max-age=60"}, both},
		{"an earlier no-store stays", chain(sets("Cache-Control", "no-store"), m.Handler), fromAnn, 200, values{"no-store"}, both},
		{"an earlier max-age stays", chain(sets("Cache-Control", "max-age=60"), m.Handler), fromAnn, 200, values{"max-age=60"}, both},
		{"two earlier directives stay", chain(sets("Cache-Control", "no-cache", "Cache-Control", "must-revalidate"), m.Handler), fromAnn, 200, values{"no-cache", "must-revalidate"}, both},
		{"a name that begins like public stays", chain(sets("Cache-Control", "public-ish, x=public"), m.Handler), fromAnn, 200, values{"public-ish, x=public"}, both},
		{"an earlier public becomes private", chain(sets("Cache-Control", "public"), m.Handler), fromAnn, 200, values{"private"}, both},
		{"an earlier public with more becomes private", chain(sets("Cache-Control", "max-age=60 ,\tPUBLIC , immutable"), m.Handler), fromAnn, 200, values{"private"}, both},
		{"an earlier public in a second line becomes private", chain(sets("Cache-Control", "max-age=60", "Cache-Control", "public"), group), fromAnn, 200, values{"private"}, both},
		{"a time for shared caches becomes private", chain(sets("Cache-Control", "max-age=0, S-MaxAge=60"), m.Optional), fromAnn, 200, values{"private"}, both},
		{"an earlier public stays for an anonymous visitor", chain(sets("Cache-Control", "public, max-age=60"), m.Optional), anonymous, 200, values{"public, max-age=60"}, both},

		{"an earlier Vary is kept", chain(sets("Vary", "Accept-Encoding"), m.Handler), fromAnn, 200, values{"private"}, values{"Accept-Encoding", "Cookie", "Authorization"}},
		{"an earlier Vary has one of the names", chain(sets("Vary", "Origin, cookie"), m.Handler), fromAnn, 200, values{"private"}, values{"Origin, cookie", "Authorization"}},
		{"an earlier Vary has all names", chain(sets("Vary", "authorization ,Cookie"), m.Optional), anonymous, 200, nil, values{"authorization ,Cookie"}},
		{"an earlier Vary is an asterisk", chain(sets("Vary", "*"), group), fromAnn, 200, values{"private"}, values{"*"}},
		{"an earlier Vary has a name that begins like one of them", chain(sets("Vary", "Cookie2"), m.Handler), fromAnn, 200, values{"private"}, values{"Cookie2", "Cookie", "Authorization"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the second time from memory
				w := serve(test.h, test.visit())
				assert.Equal(t, test.status, w.Code)
				assert.Equal(t, test.cacheControl, w.Header().Values("Cache-Control"))
				assert.Equal(t, test.vary, w.Header().Values("Vary"))
			}
		})
	}
}

// replaces sets headers, and drops their earlier values.
func replaces(headers ...string) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			next.ServeHTTP(w, r)
		})
	}
}

// removes takes headers away.
func removes(headers ...string) wrapper {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, name := range headers {
				w.Header().Del(name)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Responses share the lists behind these headers, and lists of a middleware in
// front may be shared as well.
func TestAppendedHeadersStayInTheirResponse(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: newDoorman(), Headers: []string{"Cookie", "Authorization", "X-Sso"}})
	roomy := append(make([]string, 0, 10), "Origin")
	for name, wrap := range map[string]wrapper{
		"Handler":  m.Handler,
		"Optional": m.Optional,
		"a gate":   m.RequireGroup("readers"),
		"behind a middleware's list with room": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Vary"] = roomy
				m.Handler(h).ServeHTTP(w, r)
			})
		},
	} {
		adds := func(value string) http.Handler {
			return wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for _, header := range []string{"Cache-Control", "Vary"} {
					w.Header().Add(header, value)
					w.Header()[header] = append(w.Header()[header], value+" again")
				}
			}))
		}
		before := serve(wrap(whoami), fromAnn()).Header()
		first := serve(adds("first"), fromAnn()).Header()
		second := serve(adds("second"), fromBob()).Header()
		for _, header := range []string{"Cache-Control", "Vary"} {
			assert.Equal(t, with(before[header], "first", "first again"), first[header], name)
			assert.Equal(t, with(before[header], "second", "second again"), second[header], name)
			assert.Equal(t, before[header], serve(wrap(whoami), fromAnn()).Header()[header], name)
		}
	}
	assert.Equal(t, "", roomy[:2][1])
}

// A handler that changes the list of names does not change which headers
// identify visitors.
func TestHandlerCannotChangeTheIdentifyingHeaders(t *testing.T) {
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known, TTL: -1})
	serve(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		clear(w.Header()["Vary"])
	})), fromAnn())
	assert.Equal(t, "ann", serve(m.Handler(whoami), fromAnn()).Body.String())
	assert.Equal(t, http.Header{"Cookie": {"session=ann"}}, known.lastAsked())
}

// sharedCache is the cache of a proxy. It keeps everything that it may keep,
// and tells requests apart by the headers in Vary. A careless one ignores Vary,
// like many content delivery networks.
func sharedCache(careless bool, next http.Handler) http.Handler {
	type stored struct {
		vary  []string
		asked http.Header
		reply *httptest.ResponseRecorder
	}
	kept := map[string][]stored{}
	matches := func(s stored, r *http.Request) bool {
		return !slices.ContainsFunc(s.vary, func(name string) bool { return r.Header.Get(name) != s.asked.Get(name) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := kept[r.URL.Path]
		i := slices.IndexFunc(all, func(s stored) bool { return matches(s, r) })
		if i < 0 {
			s := stored{asked: r.Header.Clone(), reply: serve(next, r)}
			if !careless {
				s.vary = s.reply.Header().Values("Vary")
			}
			if c := s.reply.Header().Get("Cache-Control"); c != "private" && c != "no-store" {
				kept[r.URL.Path] = append(all, s)
			}
			i, all = 0, []stored{s}
		}
		maps.Copy(w.Header(), all[i].reply.Header())
		w.WriteHeader(all[i].reply.Code)
		_, _ = w.Write(all[i].reply.Body.Bytes())
	})
}

func TestSharedCacheDoesNotMixVisitors(t *testing.T) {
	for _, forAll := range []wrapper{sets(), sets("Cache-Control", "public, max-age=60"), sets("Cache-Control", "s-maxage=60", "Vary", "Accept")} {
		m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
		mux := http.NewServeMux()
		mux.Handle("/members", m.Handler(whoami))
		mux.Handle("/analysts", m.RequireGroup("analysts")(whoami))
		mux.Handle("/home", m.Optional(whoami))
		mux.Handle("/home/", m.Optional(whoami))
		app, careless := sharedCache(false, forAll(mux)), sharedCache(true, forAll(mux))
		stranger := func(path string) *http.Request { return request("GET", path, "Cookie", "theme=dark") }
		from := func(login, path string) *http.Request { return request("GET", path, "Cookie", "session="+login) }
		for range 2 {
			for _, path := range []string{"/members", "/analysts", "/home"} {
				assert.Equal(t, "ann", serve(app, from("ann", path)).Body.String(), path)
			}
			assert.Equal(t, "bob", serve(app, from("bob", "/members")).Body.String())
			assert.Equal(t, 403, serve(app, from("bob", "/analysts")).Code)
			assert.Equal(t, "bob", serve(app, from("bob", "/home")).Body.String())
			assert.Equal(t, 401, serve(app, stranger("/members")).Code)
			assert.Equal(t, 401, serve(app, stranger("/analysts")).Code)
			assert.Equal(t, "nobody", serve(app, stranger("/home")).Body.String())
			assert.Equal(t, "nobody", serve(app, request("GET", "/home")).Body.String())

			assert.Equal(t, "ann", serve(careless, from("ann", "/members")).Body.String())
			assert.Equal(t, "ann", serve(careless, from("ann", "/analysts")).Body.String())
			assert.Equal(t, "bob", serve(careless, from("bob", "/members")).Body.String())
			assert.Equal(t, 403, serve(careless, from("bob", "/analysts")).Code)
			assert.Equal(t, 401, serve(careless, stranger("/members")).Code)
			assert.Equal(t, "ann", serve(careless, from("ann", "/home/of/ann")).Body.String())
			assert.Equal(t, "nobody", serve(careless, stranger("/home/of/ann")).Body.String())
			careless = sharedCache(true, forAll(mux)) // which now has nobody's home
		}
	}
}

// behindProxy returns a visitor's response from an upstream that sets these
// headers, through a reverse proxy as in our example, or without its two lines.
func behindProxy(t *testing.T, plain bool, hints bool, headers ...string) http.Header {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hints {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}
		sets(headers...)(whoami).ServeHTTP(w, fromAnn())
	}))
	defer upstream.Close()
	to, err := url.Parse(upstream.URL)
	require.NoError(t, err)
	m := newAuth(t, dssauth.Config{Resolver: newDoorman()})
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	h := m.Handler(proxy)
	if !plain {
		proxy.ModifyResponse = func(reply *http.Response) error {
			reply.Header.Set("Cache-Control", cmp.Or(reply.Header.Get("Cache-Control"), "private"))
			return nil
		}
		h = m.Handler(removes("Cache-Control")(proxy))
	}
	app := httptest.NewServer(h)
	defer app.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", app.URL, nil)
	require.NoError(t, err)
	r.Header.Set("Cookie", "session=ann")
	reply, err := app.Client().Do(r)
	require.NoError(t, err)
	reply.Body.Close()
	require.Equal(t, 200, reply.StatusCode)
	return reply.Header
}

func TestUpstreamsHeadersPassAReverseProxy(t *testing.T) {
	both := []string{"Cookie", "Authorization"}
	for _, test := range []struct {
		name               string
		plain, hints       bool
		upstream           []string
		cacheControl, vary []string
	}{
		{"stand beside ours by themselves", true, false, []string{"Cache-Control", "max-age=60", "Vary", "Accept"}, []string{"private", "max-age=60"}, with(both, "Accept")},
		{"win with the two lines", false, false, []string{"Cache-Control", "max-age=60", "Vary", "Accept"}, []string{"max-age=60"}, with(both, "Accept")},
		{"are ours where there are none", false, false, nil, []string{"private"}, both},
		{"win after early hints, which take ours away", false, true, []string{"Cache-Control", "max-age=60", "Vary", "Accept"}, []string{"max-age=60"}, []string{"Accept"}},
		{"are private after early hints where there are none", false, true, nil, []string{"private"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := behindProxy(t, test.plain, test.hints, test.upstream...)
			assert.Equal(t, test.cacheControl, h.Values("Cache-Control"))
			assert.Equal(t, test.vary, h.Values("Vary"))
		})
	}
}

// with is a list of its own: the rows of a table must not share one.
func with(list []string, more ...string) []string { return slices.Concat(list, more) }
