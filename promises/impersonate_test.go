package promises

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

const (
	noCall    = false // an error, and DSS acted on no call
	asVisitor = true  // no error, and DSS acted as the visitor
)

// attempt is one way to make a call leave with an administrator's rights instead of the
// visitor's.
type attempt struct {
	name   string
	mode   dssauth.Impersonation // the only way in which it makes sense; zero: both
	want   bool                  // noCall or asVisitor
	try    func(*situation) error
	config func(*situation, *dssauth.Config)
}

// No call ever has an administrator's rights instead of a user's: the fake records
// the user that it acted as.
func TestNoCallActsAsAnybodyButTheVisitor(t *testing.T) {
	for _, attempts := range [][]attempt{
		withoutVisitor, withStrangeLogins(), withoutTicket(), withExpiredTickets, withFailingDSS, withLostRights,
		withChangedHeaders, withForgedCalls(), withRedirects(), throughReverseProxies(), behindHops(), withOwnTransports, afterwards, actingTwice,
	} {
		for _, a := range attempts {
			for mode, name := range map[dssauth.Impersonation]string{dssauth.ByTicket: "ByTicket", dssauth.ByProxyUser: "ByProxyUser"} {
				if a.mode != dssauth.NoImpersonation && a.mode != mode {
					continue
				}
				t.Run(a.name+"/"+name, func(t *testing.T) {
					t.Parallel()
					s := newSituation(t, mode, a.config)
					err := a.try(s)
					calls := s.actedAs("ann")
					if a.want == asVisitor {
						require.NoError(t, err)
						assert.Positive(t, calls, "DSS acted upon nothing")
						return
					}
					require.Error(t, err)
					assert.Zero(t, calls, "DSS acted upon a call")
					s.quotesNoCredential(err)
				})
			}
		}
	}
}

var withoutVisitor = []attempt{
	{name: "no Middleware ran", want: noCall, try: func(s *situation) error {
		return listProjects(s.request())
	}},
	{name: "the identity is a test's", want: noCall, try: func(s *situation) error {
		r := s.request()
		return listProjects(r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("ann"))))
	}},
	{name: "the identity is a test's, put over the visitor's", want: noCall, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			return listProjects(r.WithContext(dssauth.NewContext(r.Context(), dssauth.NewIdentity("admin"))))
		})
	}},
	{name: "the visitor is anonymous", want: noCall, try: func(s *situation) error {
		return through(s.auth.Optional, httptest.NewRequest("GET", "/", nil), listProjects)
	}},
	{name: "the visitor's session has ended, and visitors may be anonymous", want: noCall, try: func(s *situation) error {
		s.fake.SignOut(s.cookie)
		return through(s.auth.Optional, s.request(), listProjects)
	}},
	{name: "the visitor is identified outside and anonymous inside", want: noCall, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			s.fake.SignOut(s.cookie)
			s.auth.Forget(r)
			return through(s.auth.Optional, r, listProjects)
		})
	}},
	{name: "impersonation is not configured", want: noCall, try: func(s *situation) error {
		return s.visit(listProjects)
	}, config: func(_ *situation, c *dssauth.Config) { c.Impersonation = dssauth.NoImpersonation }},
	{name: "the caller is a global API key", want: noCall, try: func(s *situation) error {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+s.fake.AdminKey())
		return through(s.auth.Handler, r, func(r *http.Request) error {
			err := listProjects(r)
			assert.ErrorIs(s, err, dssauth.ErrForbidden)
			return err
		})
	}, config: func(_ *situation, c *dssauth.Config) { c.AllowAPIKeys = true }},
	{name: "the caller is a global API key whose id is a login", want: noCall, try: func(s *situation) error {
		s.fake.SetAPIKeyID(s.fake.AdminKey(), "admin")
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(s.fake.AdminKey(), "")
		return through(s.auth.Handler, r, listProjects)
	}, config: func(_ *situation, c *dssauth.Config) { c.AllowAPIKeys = true }},
	{name: "a Resolver names both an API key and a user", want: noCall, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			err := listProjects(r)
			assert.ErrorIs(s, err, dssauth.ErrForbidden)
			return err
		})
	}, config: func(_ *situation, c *dssauth.Config) {
		c.AllowAPIKeys = true
		c.Resolver = resolveFunc(func(context.Context, http.Header) (dssauth.Identity, error) {
			return dssauth.Identity{Login: "ann", APIKeyID: "key"}, nil
		})
	}},
	{name: "the caller is the visitor's own API key", want: asVisitor, try: func(s *situation) error {
		s.fake.AddAPIKey("canary-key", "ann")
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer canary-key")
		return through(s.auth.Handler, r, listProjects)
	}},
	{name: "the visitor asks to be somebody else", want: asVisitor, try: func(s *situation) error {
		r := s.request()
		setForgedHeaders(s, r.Header)
		return through(s.auth.Handler, r, listProjects)
	}},
}

// setForgedHeaders adds headers that DSS could read as an order to act as an
// administrator, in all spellings, without Cookie and Authorization.
func setForgedHeaders(s *situation, h http.Header) {
	for _, ticket := range []string{"X-Dku-Apiticket", "X-DKU-APITicket", "x-dku-apiticket", "X_DKU_APITicket", "x_dku-apiticket"} {
		h[ticket] = []string{"canary-of-admin"}
	}
	for _, user := range []string{"X-Dku-Proxyuser", "X-DKU-ProxyUser", "x-dku-proxyuser", "X_DKU_ProxyUser", "x-dku_proxyuser"} {
		h[user] = []string{"admin"}
	}
	h["Proxy-Authorization"] = []string{"Bearer " + s.fake.AdminKey()}
}

// strangeLogins are not logins. If they were not refused, they would be additional
// headers or orders, or another user's login.
var strangeLogins = map[string]string{
	"an empty login":                        "",
	"a blank login":                         " ",
	"a tab as login":                        "\t",
	"a login with a header after it":        "ann\r\nX-DKU-ProxyUser: admin",
	"a login with a line end":               "ann\n",
	"a login with NUL":                      "ann\x00",
	"a login with DEL":                      "ann\x7f",
	"a login with a space before":           " ann",
	"a login with a space after":            "ann ",
	"a login with a no-break space after":   "ann\u00a0",
	"a login with a Unicode line separator": "a\u2028nn",
	"a login with a C1 control character":   "a\u0085nn",
	"a login that is not UTF-8":             "ann\xff",
	"a login with a replacement character":  "ann\ufffd",
}

func withStrangeLogins() (attempts []attempt) {
	for name, login := range strangeLogins {
		attempts = append(attempts,
			attempt{name: name + " from a Resolver", want: noCall, try: func(s *situation) error {
				return s.visit(listProjects)
			}, config: func(_ *situation, c *dssauth.Config) {
				c.Resolver = resolveFunc(func(context.Context, http.Header) (dssauth.Identity, error) {
					return dssauth.NewIdentity(login), nil
				})
			}},
			attempt{name: name + " to As", mode: dssauth.ByProxyUser, want: noCall, try: func(s *situation) error {
				client, err := s.own.As(login)
				if err == nil {
					return listWith(client)
				}
				assert.Nil(s, client)
				assert.Zero(s, s.fake.Calls(""))
				return err
			}})
	}
	return attempts
}

// withoutTicket are ticket calls that fail, lie or say nothing.
func withoutTicket() (attempts []attempt) {
	ticket := func(ticket string) dsstest.Interceptor { return dsstest.Respond(200, `{"msg": "`+ticket+`"}`) }
	for name, answer := range map[string]dsstest.Interceptor{
		"fails with 500":                      dsstest.Respond(500, `{"errorType": "java.lang.NullPointerException", "message": "null"}`),
		"is refused with 403":                 dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "no"}`),
		"is refused with 401":                 notAuthenticated,
		"is redirected":                       dsstest.Respond(307, "", "Location", "/dip/publicapi/auth/info"),
		"never ends":                          dsstest.Hang,
		"is reset":                            dsstest.Reset,
		"is cut short":                        dsstest.CutShort,
		"has no end":                          dsstest.Endless,
		"brings the ticket of somebody else":  ticket("canary-of-bob"),
		"brings the ticket of an admin":       ticket("canary-of-admin"),
		"brings a ticket of no user":          ticket("canary-of-nobody"),
		"brings an unknown ticket":            ticket("canary-of-unknown"),
		"brings an empty ticket":              ticket(""),
		"brings a blank ticket":               ticket(" "),
		"brings a ticket with a header after": ticket(`canary\r\nX-DKU-ProxyUser: admin`),
		"brings an object without a ticket":   dsstest.Respond(200, `{}`),
		"brings null":                         dsstest.Respond(200, `null`, "Content-Type", "application/json"),
		"brings nothing":                      dsstest.Respond(200, ``),
		"brings a login page":                 dsstest.Respond(200, `<html><form action="/login"></form></html>`),
		"brings a login page of one word":     dsstest.Respond(200, "<html>login</html>"),
		"brings the application's own key": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			user, _, _ := r.BasicAuth()
			io.WriteString(w, user)
		},
	} {
		attempts = append(attempts, attempt{name: "the ticket call " + name, mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
			s.fake.Intercept(ticketPath, -1, answer)
			return s.visit(listProjects)
		}, config: shortTimeout})
	}
	for name, answer := range map[string]dsstest.Interceptor{
		"fails":              dsstest.Respond(500, ""),
		"says nobody":        dsstest.Respond(200, `{"authIdentifier": ""}`),
		"says somebody else": dsstest.Respond(200, `{"authIdentifier": "bob", "authSource": "USER_FROM_UI", "groups": []}`),
		"says an API key":    dsstest.Respond(200, `{"authIdentifier": "ann", "authSource": "GLOBAL_API_KEY"}`),
		"says Ann, not ann":  dsstest.Respond(200, `{"authIdentifier": "Ann", "authSource": "USER_FROM_UI", "groups": []}`),
		"never ends":         dsstest.Hang,
	} {
		attempts = append(attempts, attempt{name: "the check of the ticket " + name, mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
			s.fake.Intercept(ownInfoPath, -1, answer)
			return s.visit(listProjects)
		}, config: shortTimeout}, attempt{name: "the check of the proxy user " + name, mode: dssauth.ByProxyUser, want: noCall, try: func(s *situation) error {
			s.fake.Intercept(ownInfoPath, -1, answer)
			client := s.kept()
			err := listWith(client)
			assert.ErrorContains(s, s.sendThrough(client), "check of the user: ", "at the second try")
			return err
		}, config: shortTimeout})
	}
	return append(attempts, attempt{name: "tickets are bare strings, as of very old servers", mode: dssauth.ByTicket, want: asVisitor, try: func(s *situation) error {
		s.fake.Configure(dsstest.Options{BareTickets: true})
		return s.visit(listProjects)
	}})
}

func shortTimeout(_ *situation, c *dssauth.Config) { c.Timeout = 500 * time.Millisecond }

var withExpiredTickets = []attempt{
	{name: "the ticket expired", mode: dssauth.ByTicket, want: asVisitor, try: func(s *situation) error {
		require.NoError(s, s.visit(listProjects))
		s.fake.ExpireTickets()
		err := s.visit(listProjects)
		assert.Equal(s, 2, s.fake.Calls(ticketPath), "one new ticket")
		assert.Equal(s, 3, s.fake.Calls(projectsPath), "one retry")
		return err
	}},
	{name: "the ticket expired while the handler still uses its client", mode: dssauth.ByTicket, want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, listWith(client))
		s.fake.ExpireTickets()
		return listWith(client)
	}},
	{name: "every ticket is rejected", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		s.fake.Intercept(projectsPath, -1, notAuthenticated)
		err := s.visit(listProjects)
		assert.Equal(s, 2, s.fake.Calls(projectsPath), "one retry and no loop")
		assert.Equal(s, 2, s.fake.Calls(ticketPath))
		return err
	}},
	{name: "the ticket expired and no new one is given", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.Intercept(projectsPath, 1, notAuthenticated)
		s.fake.Intercept(ticketPath, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			s.fake.SignOut(s.cookie) // from the next call on
			next.ServeHTTP(w, r)
		})
		s.fake.Intercept(ticketPath, -1, dsstest.Respond(500, ""))
		return listWith(client)
	}},
	{name: "the ticket expired and the new one is somebody else's", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.Intercept(projectsPath, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			s.fake.AddSession(s.cookie.Name, s.cookie.Value, "admin")
			notAuthenticated(w, r, next)
		})
		err := listWith(client)
		assert.ErrorIs(s, err, dssauth.ErrUnauthenticated)
		return err
	}},
	{name: "the ticket expired and the body is JSON", mode: dssauth.ByTicket, want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		s.fake.Intercept(runPath, 1, notAuthenticated)
		var reply strings.Builder
		err := client.Do(s.Context(), "POST", runPath, "it", &reply)
		assert.Equal(s, `ann ran "it"`, reply.String(), "the whole body, twice")
		return err
	}},
	{name: "the ticket expired and the body cannot be sent twice", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.Intercept(runPath, 1, notAuthenticated)
		err := client.Do(s.Context(), "POST", runPath, io.LimitReader(strings.NewReader("it"), 10), nil)
		assert.Equal(s, 1, s.fake.Calls(runPath))
		return err
	}},
	{name: "after a body that could not be sent twice", mode: dssauth.ByTicket, want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		s.fake.Intercept(runPath, 1, notAuthenticated)
		run := func() error {
			return client.Do(s.Context(), "POST", runPath, io.LimitReader(strings.NewReader("it"), 10), nil)
		}
		require.Error(s, run())
		err := run()
		assert.Equal(s, 2, s.fake.Calls(ticketPath), "the rejected ticket is not used again")
		return err
	}},
	{name: "the administrator's key is rejected", mode: dssauth.ByProxyUser, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.RemoveAPIKey(s.fake.AdminKey())
		err := listWith(client)
		assert.Zero(s, s.fake.Calls(projectsPath), "DSS's user for our calls is not known")
		return err
	}},
	{name: "the administrator's key is rejected after a first call", mode: dssauth.ByProxyUser, want: noCall, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, client.Do(s.Context(), "GET", ownInfoPath, nil, nil))
		s.fake.RemoveAPIKey(s.fake.AdminKey())
		err := listWith(client)
		assert.Equal(s, 1, s.fake.Calls(projectsPath))
		return err
	}},
}

var withFailingDSS = []attempt{
	{name: "the context ended before the call", want: noCall, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			client, err := dssauth.ClientFromContext(r.Context())
			require.NoError(s, err)
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			return client.Do(ctx, "GET", projectsPath, nil, nil)
		})
	}},
	{name: "the request ended before its handler asked for a client", want: noCall, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			client, err := dssauth.ClientFromContext(ctx)
			if err != nil {
				return err
			}
			return client.Do(ctx, "GET", projectsPath, nil, nil)
		})
	}},
	{name: "the context ends during the ticket call", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		ctx, cancel := context.WithCancel(s.Context())
		s.fake.Intercept(ticketPath, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			cancel()
			next.ServeHTTP(w, r)
		})
		return s.kept().Do(ctx, "GET", projectsPath, nil, nil)
	}},
	{name: "the context ends during the check of the ticket", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		ctx, cancel := context.WithCancel(s.Context())
		s.fake.Intercept(ownInfoPath, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			cancel()
			next.ServeHTTP(w, r)
		})
		return s.kept().Do(ctx, "GET", projectsPath, nil, nil)
	}},
	{name: "the context ends during the call", want: noCall, try: func(s *situation) error {
		ctx, cancel := context.WithCancel(s.Context())
		s.fake.Intercept(projectsPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			cancel()
			dsstest.Hang(w, r, next)
		})
		return s.kept().Do(ctx, "GET", projectsPath, nil, nil)
	}},
	{name: "the connection breaks during the call", want: asVisitor, try: func(s *situation) error {
		s.fake.Intercept(projectsPath, 1, dsstest.Reset)
		return s.visit(listProjects)
	}},
	{name: "the call fails with 500", want: noCall, try: func(s *situation) error {
		s.fake.Intercept(projectsPath, -1, dsstest.Respond(500, ""))
		err := s.visit(listProjects)
		assert.Equal(s, 1, s.fake.Calls(projectsPath), "no second try by other means")
		return err
	}},
	{name: "DSS is down", want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.SetDown(true)
		return listWith(client)
	}},
	{name: "DSS is gone", want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.front.CloseClientConnections()
		s.front.Close()
		return listWith(client)
	}},
	{name: "the Middleware is closed", want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, listWith(client))
		require.NoError(s, s.auth.Close())
		return listWith(client)
	}},
	{name: "a request comes after the Middleware was closed", want: noCall, try: func(s *situation) error {
		require.NoError(s, s.auth.Close())
		return s.visit(listProjects)
	}},
}

var withLostRights = []attempt{
	{name: "the key may not act as others", mode: dssauth.ByProxyUser, want: noCall, try: func(s *situation) error {
		err := s.visit(listProjects)
		var reply *dss.Error
		require.ErrorAs(s, err, &reply)
		assert.Equal(s, http.StatusForbidden, reply.StatusCode)
		assert.Equal(s, 1, s.fake.Calls(ownInfoPath), "no second try without the header")
		assert.Zero(s, s.fake.Calls(projectsPath))
		return err
	}, config: func(s *situation, c *dssauth.Config) {
		s.fake.AddAPIKey("key-of-bob", "bob")
		c.Client = s.client("key-of-bob", nil)
	}},
	{name: "the right to impersonate in webapps is missing", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		s.fake.Configure(dsstest.Options{NoImpersonation: []string{"analysts"}})
		return s.visit(listProjects)
	}},
	{name: "DSS hides access tokens meanwhile", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.Configure(dsstest.Options{HideAccessTokens: true})
		return listWith(client)
	}},
	{name: "the user is removed meanwhile", want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.RemoveUser("ann")
		return listWith(client)
	}},
	{name: "the user is disabled meanwhile", want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.AddUser(dsstest.User{Login: "ann", Disabled: true})
		return listWith(client)
	}},
	{name: "the user is removed after a first call", want: noCall, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, client.Do(s.Context(), "GET", ownInfoPath, nil, nil))
		s.fake.RemoveUser("ann")
		return listWith(client)
	}},
}

var withChangedHeaders = []attempt{
	{name: "the cookie became somebody else's", want: noCall, try: withHeaders(func(s *situation, r *http.Request) {
		r.Header.Set("Cookie", s.fake.SignIn("bob").String())
	})},
	{name: "somebody else's cookie came in front", want: noCall, try: withHeaders(func(s *situation, r *http.Request) {
		r.Header["Cookie"] = append([]string{s.fake.SignIn("admin").String()}, r.Header["Cookie"]...)
	})},
	{name: "the administrator's key came beside the cookie", want: noCall, try: withHeaders(func(s *situation, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+s.fake.AdminKey())
	})},
	{name: "the administrator's key replaced the cookie", want: noCall, try: withHeaders(func(s *situation, r *http.Request) {
		r.Header.Del("Cookie")
		r.SetBasicAuth(s.fake.AdminKey(), "")
	})},
	{name: "the cookie was deleted", want: noCall, try: withHeaders(func(_ *situation, r *http.Request) {
		r.Header.Del("Cookie")
	})},
	{name: "all headers were replaced", want: noCall, try: withHeaders(func(_ *situation, r *http.Request) {
		r.Header = http.Header{}
	})},
	{name: "the credentials became malformed", want: noCall, try: withHeaders(func(_ *situation, r *http.Request) {
		r.Header["Authorization"] = []string{"Bearer a", "Bearer b"}
	})},
	{name: "what identifies nobody changed", want: asVisitor, try: withHeaders(func(s *situation, r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "_ga", Value: "1"})
		setForgedHeaders(s, r.Header)
	})},
	{name: "a copy of the request got somebody else's cookie", want: asVisitor, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			r = r.Clone(r.Context())
			r.Header.Set("Cookie", s.fake.SignIn("admin").String())
			return listProjects(r)
		})
	}},
	{name: "the cookie changed between the client and its first call", want: asVisitor, try: func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			client, err := dssauth.ClientFromContext(r.Context())
			require.NoError(s, err)
			r.Header.Set("Cookie", s.fake.SignIn("admin").String())
			return listWith(client)
		})
	}},
}

// withHeaders changes the request between the Middleware and the handler.
func withHeaders(change func(*situation, *http.Request)) func(*situation) error {
	return func(s *situation) error {
		return s.visit(func(r *http.Request) error {
			change(s, r)
			return listProjects(r)
		})
	}
}

// withForgedCalls are calls through the visitor's Transport with forged headers or
// targets.
func withForgedCalls() []attempt {
	forged := func(name string, want bool, change func(*situation, *http.Request)) attempt {
		return attempt{name: name, want: want, try: func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				return s.sendWith(r, func(req *http.Request) { change(s, req) })
			})
		}}
	}
	to := func(change func(*url.URL)) func(*situation, *http.Request) {
		return func(_ *situation, req *http.Request) { change(req.URL) }
	}
	return []attempt{
		forged("a call has a password in its URL", noCall, func(s *situation, req *http.Request) {
			req.URL.User = url.UserPassword(s.fake.AdminKey(), "")
		}),
		forged("a call goes to another host", noCall, to(func(u *url.URL) { u.Host = "127.0.0.1:1" })),
		forged("a call goes to another name of the host", noCall, to(func(u *url.URL) { u.Host = "localhost:" + u.Port() })),
		forged("a call goes to another scheme", noCall, to(func(u *url.URL) { u.Scheme = "https" })),
		forged("a call climbs out of the API", noCall, to(func(u *url.URL) { u.Path = "/dip/publicapi/projects/../../api" })),
		forged("a call climbs out of the API, escaped", noCall, to(func(u *url.URL) { u.RawPath, u.Path = "/dip/publicapi/%2e%2e/projects/", "/dip/publicapi/../projects/" })),
		forged("a call goes beside the API", noCall, to(func(u *url.URL) { u.Path = "/dip/api/admin" })),
		forged("a call has an opaque URL", noCall, to(func(u *url.URL) { u.Opaque = "//" + u.Host + u.Path })),
		forged("a call has the administrator's key", asVisitor, func(s *situation, req *http.Request) {
			req.SetBasicAuth(s.fake.AdminKey(), "")
		}),
		forged("a call has the administrator's key, oddly spelt", asVisitor, func(s *situation, req *http.Request) {
			req.Header["AUTHORIZATION"] = []string{"Bearer " + s.fake.AdminKey()}
			req.Header["authorization"] = []string{"Bearer " + s.fake.AdminKey()}
		}),
		forged("a call has the headers of an impersonation", asVisitor, func(s *situation, req *http.Request) {
			setForgedHeaders(s, req.Header)
		}),
		forged("a call has an administrator's cookie", asVisitor, func(s *situation, req *http.Request) {
			req.AddCookie(s.fake.SignIn("admin"))
		}),
		forged("a call names the credentials as hop-by-hop", asVisitor, func(_ *situation, req *http.Request) {
			req.Header.Set("Connection", hopByHop)
		}),
		forged("a call has credentials in its trailer", asVisitor, func(s *situation, req *http.Request) {
			req.Method, req.URL.Path = "POST", "/dip/publicapi"+runPath
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader("it")), -1
			req.Trailer = http.Header{"X-Dku-Proxyuser": {"admin"}, "Authorization": {"Bearer " + s.fake.AdminKey()}}
		}),
		forged("a call asks to be sent back", noCall, func(_ *situation, req *http.Request) { req.Method = "TRACE" }),
		forged("a call asks for a tunnel", noCall, func(_ *situation, req *http.Request) { req.Method = "CONNECT" }),
		forged("a call asks for HTTP/2", asVisitor, func(_ *situation, req *http.Request) {
			req.Header = http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "HTTP2-Settings": {"AAMAAABk"}}
		}),
		forged("a call names another host in its Host header", asVisitor, func(_ *situation, req *http.Request) {
			req.Host = "dss.example"
		}),
		{name: "a call of Do goes to a whole URL", want: noCall, try: func(s *situation) error {
			return s.kept().Do(s.Context(), "GET", s.front.URL+"/dip/publicapi/projects/", nil, nil)
		}},
		{name: "a call of Do goes to another host", want: noCall, try: func(s *situation) error {
			return s.kept().Do(s.Context(), "GET", "//127.0.0.1:1/projects/", nil, nil)
		}},
		{name: "a call of Do climbs", want: noCall, try: func(s *situation) error {
			return s.kept().Do(s.Context(), "GET", "/%2e%2e/projects/", nil, nil)
		}},
	}
}

// sendThrough sends a GET for the projects through the transport of client.
func (s *situation) sendThrough(client *dss.Client) error {
	req, err := http.NewRequest("GET", s.front.URL+"/dip/publicapi"+projectsPath, nil)
	require.NoError(s, err)
	return answered(client.Transport().RoundTrip(req))
}

// hopByHop tells proxies to drop all headers that identify the caller.
const hopByHop = "Authorization, X-DKU-ProxyUser, X-DKU-APITicket, Cookie, close"

// withRedirects are answers that send a call elsewhere.
func withRedirects() (attempts []attempt) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		attempts = append(attempts,
			attempt{name: fmt.Sprint("DSS redirects a call to itself with ", status), want: noCall, try: func(s *situation) error {
				s.fake.Intercept(projectsPath, 1, dsstest.Respond(status, "", "Location", "/dip/publicapi/projects"))
				err := s.visit(listProjects)
				assert.Zero(s, s.fake.Calls("/projects"), "the redirect was followed")
				return err
			}},
			attempt{name: fmt.Sprint("DSS redirects a call to another host with ", status), want: noCall, try: func(s *situation) error {
				s.fake.Intercept(runPath, 1, dsstest.Respond(status, "", "Location", otherHost(s)))
				return s.visit(func(r *http.Request) error {
					client, err := dssauth.ClientFromContext(r.Context())
					require.NoError(s, err)
					return client.Do(r.Context(), "POST", runPath, "it", nil)
				})
			}},
			attempt{name: fmt.Sprint("an HTTP library follows a redirect to DSS itself with ", status), want: asVisitor, try: func(s *situation) error {
				s.fake.Intercept(projectsPath, 1, dsstest.Respond(status, "", "Location", "/dip/publicapi/projects"))
				return s.visit(func(r *http.Request) error { return s.sendWith(r, func(*http.Request) {}) })
			}},
			attempt{name: fmt.Sprint("an HTTP library follows a redirect to another host with ", status), want: noCall, try: func(s *situation) error {
				s.fake.Intercept(projectsPath, 1, dsstest.Respond(status, "", "Location", otherHost(s)))
				return s.visit(func(r *http.Request) error { return s.sendWith(r, func(*http.Request) {}) })
			}},
		)
	}
	return append(attempts, attempt{name: "the ticket call is redirected to another host", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		s.fake.Intercept(ticketPath, -1, dsstest.Respond(307, "", "Location", otherHost(s)))
		return s.visit(listProjects)
	}})
}

// otherHost is a server that must get no request.
func otherHost(s *situation) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.Errorf("another host got %s %s", r.Method, r.URL.Path)
	}))
	s.Cleanup(server.Close)
	return server.URL + "/"
}

// throughReverseProxies are browsers' requests that an application passes on to
// DSS, with headers that ask the proxy to drop the credentials.
func throughReverseProxies() (attempts []attempt) {
	for name, style := range map[string]func(*httputil.ReverseProxy, func(*http.Request)){
		//lint:ignore SA1019 applications use it, and it is the more dangerous of the two
		"Director": func(p *httputil.ReverseProxy, to func(*http.Request)) { p.Director = to },
		"Rewrite": func(p *httputil.ReverseProxy, to func(*http.Request)) {
			p.Rewrite = func(r *httputil.ProxyRequest) { to(r.Out) }
		},
	} {
		proxied := func(s *situation, change func(*http.Request)) error {
			app := httptest.NewServer(s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				client, err := dssauth.ClientFromContext(r.Context())
				if !assert.NoError(s, err) {
					return
				}
				proxy := &httputil.ReverseProxy{Transport: client.Transport()}
				style(proxy, func(out *http.Request) {
					dss, err := url.Parse(s.front.URL)
					assert.NoError(s, err)
					out.URL.Scheme, out.URL.Host, out.URL.Path = dss.Scheme, dss.Host, "/dip/publicapi"+out.URL.Path
				})
				proxy.ServeHTTP(w, r)
			})))
			s.Cleanup(app.Close)
			req, err := http.NewRequest("GET", app.URL+projectsPath, nil)
			require.NoError(s, err)
			req.AddCookie(s.cookie)
			change(req)
			return answered((&http.Transport{DisableKeepAlives: true}).RoundTrip(req))
		}
		attempts = append(attempts,
			attempt{name: "a browser names the credentials as hop-by-hop, through ReverseProxy." + name, want: asVisitor, try: func(s *situation) error {
				return proxied(s, func(req *http.Request) { req.Header.Set("Connection", hopByHop) })
			}},
			attempt{name: "a browser sends orders to DSS, through ReverseProxy." + name, want: asVisitor, try: func(s *situation) error {
				return proxied(s, func(req *http.Request) { setForgedHeaders(s, req.Header) })
			}},
			attempt{name: "a browser asks for an upgrade, through ReverseProxy." + name, want: asVisitor, try: func(s *situation) error {
				return proxied(s, func(req *http.Request) {
					req.Header["Connection"] = []string{"Upgrade", hopByHop}
					req.Header.Set("Upgrade", "websocket")
				})
			}},
			attempt{name: "a body that cannot be sent twice meets an expired ticket, through ReverseProxy." + name, mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
				s.fake.Intercept(runPath, 1, notAuthenticated)
				return proxied(s, func(req *http.Request) {
					req.Method, req.URL.Path = "POST", runPath
					req.Body, req.ContentLength = io.NopCloser(strings.NewReader("it")), 2
				})
			}},
		)
	}
	return attempts
}

// behindHops are proxies before DSS that drop headers that identify the caller.
func behindHops() (attempts []attempt) {
	for name, row := range map[string]struct {
		mode   dssauth.Impersonation
		header string
		want   bool
	}{
		"drops whom to act as":                    {dssauth.ByProxyUser, "X-DKU-ProxyUser", noCall},
		"drops the ticket":                        {dssauth.ByTicket, "X-DKU-APITicket", noCall},
		"drops the ticket, which is not used":     {dssauth.ByProxyUser, "X-DKU-APITicket", asVisitor},
		"drops whom to act as, which is not used": {dssauth.ByTicket, "X-DKU-ProxyUser", asVisitor},
	} {
		hop := func(s *situation, _ *dssauth.Config) {
			s.fake.Intercept("", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				r.Header.Del(row.header)
				next.ServeHTTP(w, r)
			})
		}
		attempts = append(attempts,
			attempt{name: "a proxy before DSS " + name, mode: row.mode, want: row.want, try: func(s *situation) error {
				return s.visit(listProjects)
			}, config: hop},
			attempt{name: "a proxy before DSS " + name + ", and a call goes through Transport", mode: row.mode, want: row.want, try: func(s *situation) error {
				return s.sendThrough(s.kept())
			}, config: hop},
		)
	}
	return attempts
}

var withOwnTransports = []attempt{
	{name: "the application brings a transport", want: asVisitor, try: func(s *situation) error {
		return s.visit(listProjects)
	}, config: ownHTTPClient(func(s *situation) *http.Client {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	})},
	{name: "the application has an administrator's ticket in place of a key", want: asVisitor, try: func(s *situation) error {
		return s.visit(listProjects)
	}, config: func(s *situation, c *dssauth.Config) {
		var err error
		c.Client, err = dss.New(dss.Config{URL: s.front.URL, Ticket: "canary-of-admin"})
		require.NoError(s, err)
		s.Cleanup(c.Client.CloseIdleConnections)
	}},
	{name: "the application brings a transport that sends everything twice", want: asVisitor, try: func(s *situation) error {
		return s.visit(listProjects)
	}, config: ownHTTPClient(func(s *situation) *http.Client {
		return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if reply, err := http.DefaultTransport.RoundTrip(r.Clone(r.Context())); err == nil && r.Body == nil {
				reply.Body.Close()
			}
			if r.GetBody != nil {
				r.Body, _ = r.GetBody()
			}
			return http.DefaultTransport.RoundTrip(r)
		})}
	})},
	{name: "the application brings an http.Client with cookies, which follows redirects", want: noCall, try: func(s *situation) error {
		s.fake.Intercept(projectsPath, 1, dsstest.Respond(307, "", "Location", otherHost(s)))
		return s.visit(listProjects)
	}, config: ownHTTPClient(func(s *situation) *http.Client {
		jar, err := cookiejar.New(nil)
		require.NoError(s, err)
		at, err := url.Parse(s.front.URL)
		require.NoError(s, err)
		jar.SetCookies(at, []*http.Cookie{s.fake.SignIn("admin")})
		return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	})},
	{name: "the application brings a transport that fails", want: noCall, try: func(s *situation) error {
		return s.visit(listProjects)
	}, config: ownHTTPClient(func(*situation) *http.Client {
		return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, lookupPath) {
				return http.DefaultTransport.RoundTrip(r)
			}
			return nil, errors.New("no way there")
		})}
	})},
	{name: "the handler's library keeps cookies", want: asVisitor, try: func(s *situation) error {
		jar, err := cookiejar.New(nil)
		require.NoError(s, err)
		at, err := url.Parse(s.front.URL)
		require.NoError(s, err)
		jar.SetCookies(at, []*http.Cookie{s.fake.SignIn("admin")})
		return answered((&http.Client{Jar: jar, Transport: s.kept().Transport()}).Get(s.front.URL + "/dip/publicapi" + projectsPath))
	}},
	{name: "the handler speaks TLS to a DSS that does not", want: noCall, try: func(s *situation) error {
		client := &http.Client{Transport: s.kept().Transport()}
		return answered(client.Get(strings.Replace(s.front.URL, "http:", "https:", 1) + "/dip/publicapi" + projectsPath))
	}, config: ownHTTPClient(func(*situation) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	})},
}

func ownHTTPClient(h func(*situation) *http.Client) func(*situation, *dssauth.Config) {
	return func(s *situation, c *dssauth.Config) { c.Client = s.client(s.fake.AdminKey(), h(s)) }
}

// afterwards are clients that outlive their request or their session.
var afterwards = []attempt{
	{name: "the client is kept after the handler returned", want: asVisitor, try: func(s *situation) error {
		return listWith(s.kept())
	}},
	{name: "the client is kept after the answer about the visitor ended", want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		s.auth.ForgetUser("ann")
		return listWith(client)
	}},
	{name: "the request's context is kept after the handler returned", want: asVisitor, try: func(s *situation) error {
		var ctx context.Context
		require.NoError(s, s.visit(func(r *http.Request) error { ctx = r.Context(); return nil }))
		client, err := dssauth.ClientFromContext(ctx)
		require.NoError(s, err)
		return listWith(client)
	}},
	{name: "the visitor signed out before the first call", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.SignOut(s.cookie)
		return listWith(client)
	}},
	{name: "the visitor signed out after the first call", want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, listWith(client))
		s.fake.SignOut(s.cookie)
		return listWith(client)
	}},
	{name: "the visitor signed out and the application forgot", want: noCall, try: func(s *situation) error {
		require.NoError(s, s.visit(func(*http.Request) error { return nil }))
		s.fake.SignOut(s.cookie)
		s.auth.Forget(s.request())
		return s.visit(listProjects)
	}},
	{name: "an administrator signed in to the same session before the first call", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client := s.kept()
		s.fake.AddSession(s.cookie.Name, s.cookie.Value, "admin")
		err := listWith(client)
		assert.ErrorIs(s, err, dssauth.ErrUnauthenticated)
		return err
	}},
	{name: "an administrator signed in to the same session, known by proxy user", mode: dssauth.ByProxyUser, want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		s.fake.AddSession(s.cookie.Name, s.cookie.Value, "admin")
		return listWith(client)
	}},
	{name: "an administrator signed in to the same session after the first call", want: asVisitor, try: func(s *situation) error {
		client := s.kept()
		require.NoError(s, listWith(client))
		s.fake.AddSession(s.cookie.Name, s.cookie.Value, "admin")
		return listWith(client)
	}},
}

// actingTwice are attempts to turn the visitor's client into somebody else's.
var actingTwice = []attempt{
	{name: "the visitor's client is to act as an administrator", want: noCall, try: func(s *situation) error {
		_, err := s.kept().As("admin")
		return err
	}},
	{name: "the visitor's client is to act as the visitor", want: noCall, try: func(s *situation) error {
		_, err := s.kept().As("ann")
		return err
	}},
	{name: "the visitor's client is to use an administrator's ticket", want: noCall, try: func(s *situation) error {
		_, err := s.kept().WithTicket("canary-of-admin")
		return err
	}},
	{name: "the visitor's client is to use tickets of an administrator", want: noCall, try: func(s *situation) error {
		return listWith(s.kept().WithTicketSource(func(context.Context) (string, error) { return "canary-of-admin", nil }))
	}},
	{name: "a client with a ticket is to act as an administrator", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		client, err := s.own.WithTicket("canary-of-bob")
		require.NoError(s, err)
		_, err = client.As("admin")
		return err
	}},
	{name: "a ticket source gives the empty ticket", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		return listWith(s.own.WithTicketSource(func(context.Context) (string, error) { return "", nil }))
	}},
	{name: "a ticket source is nil", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		return listWith(s.own.WithTicketSource(nil))
	}},
	{name: "a ticket source panics", mode: dssauth.ByTicket, want: noCall, try: func(s *situation) error {
		return listWith(s.own.WithTicketSource(func(context.Context) (string, error) { panic("canary") }))
	}},
}

// A user who signs in to another user's former session acts only as oneself, from the
// first request after the end of the former user's answer.
func TestNewUserOfASessionActsOnlyAsOneself(t *testing.T) {
	for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
		s := newSituation(t, mode, nil)
		require.NoError(t, s.visit(func(*http.Request) error { return nil }), "ann is remembered")
		s.fake.AddSession(s.cookie.Name, s.cookie.Value, "bob")
		if mode == dssauth.ByTicket {
			// The ticket is bob's while ann is remembered: it ends her answer.
			require.ErrorIs(t, s.visit(listProjects), dssauth.ErrUnauthenticated)
		} else {
			s.auth.Forget(s.request())
		}
		require.NoError(t, s.visit(func(r *http.Request) error {
			id, _ := dssauth.FromContext(r.Context())
			assert.Equal(t, "bob", id.Login)
			return listProjects(r)
		}))
		assert.Equal(t, 1, s.actedAs("bob"))
	}
}

// Two DSS instances behind one application: a client calls the one that identified the
// visitor last, and sends no credential to the other.
func TestClientsOfTwoInstancesDoNotMix(t *testing.T) {
	for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
		one, two := newSituation(t, mode, nil), newSituation(t, mode, nil)
		r := one.request()
		r.AddCookie(two.cookie)
		require.NoError(t, through(one.auth.Handler, r, func(r *http.Request) error {
			require.NoError(t, listProjects(r))
			return through(two.auth.Handler, r, func(r *http.Request) error {
				assert.Error(t, two.sendWith(r, func(req *http.Request) { req.URL.Host = strings.TrimPrefix(one.front.URL, "http://") }))
				return listProjects(r)
			})
		}))
		assert.Equal(t, 1, one.actedAs("ann"))
		assert.Equal(t, 1, two.actedAs("ann"))
	}
}

// Many visitors at once, over sockets, on connections that they share: each
// call is made as its own visitor.
func TestConcurrentVisitorsActOnlyAsThemselves(t *testing.T) {
	const visitors, rounds = 20, 15
	for _, mode := range []dssauth.Impersonation{dssauth.ByTicket, dssauth.ByProxyUser} {
		s := newSituation(t, mode, nil)
		app := httptest.NewServer(s.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client, err := dssauth.ClientFromContext(r.Context())
			if err != nil {
				s.auth.Refuse(w, r, err)
				return
			}
			if err := client.Do(r.Context(), "POST", runPath, "it", w); err != nil {
				s.auth.Refuse(w, r, err)
			}
		})))
		t.Cleanup(app.Close)

		var running sync.WaitGroup
		logins := make([]string, visitors)
		for i := range visitors {
			login := fmt.Sprint("user", i)
			logins[i] = login
			s.fake.AddUser(dsstest.User{Login: login})
			cookie := s.fake.SignIn(login)
			running.Go(func() {
				for range rounds {
					req, _ := http.NewRequest("GET", app.URL, nil)
					req.AddCookie(cookie)
					reply, err := app.Client().Do(req)
					if !assert.NoError(t, err) {
						return
					}
					body, _ := io.ReadAll(reply.Body)
					reply.Body.Close()
					assert.Equal(t, login+` ran "it"`, string(body))
				}
			})
		}
		running.Wait()
		assert.Equal(t, visitors*rounds, s.actedAs(logins...))
		if mode == dssauth.ByTicket {
			assert.Equal(t, visitors, s.fake.Calls(ticketPath), "a ticket is fetched once for each visitor")
		}
	}
}

func TestATicketIsFetchedAtFirstUse(t *testing.T) {
	s := newSituation(t, dssauth.ByTicket, nil)
	s.kept()
	assert.Zero(t, s.fake.Calls(ticketPath), "the handler did not use its client")

	for range 3 {
		require.NoError(t, s.visit(listProjects))
	}
	assert.Equal(t, []dsstest.Call{
		{Method: "POST", Path: lookupPath, Admin: true, Status: 200},
		{Method: "POST", Path: ticketPath, Admin: true, Status: 200},
		{Method: "GET", Path: ownInfoPath, Caller: "ann", Status: 200}, // the user of the ticket
		{Method: "GET", Path: projectsPath, Caller: "ann", Status: 200},
		{Method: "GET", Path: projectsPath, Caller: "ann", Status: 200},
		{Method: "GET", Path: projectsPath, Caller: "ann", Status: 200},
	}, s.fake.Log(""))
	assert.Equal(t, map[string]string{"Cookie": s.cookie.Name + "=" + s.cookie.Value}, s.fake.LastBrowserHeaders(), "the bytes that were keyed")
}

// If a proxy before DSS drops the header, DSS treats a visitor's calls as the
// administrator's.
func TestDroppedProxyUserStopsAllCalls(t *testing.T) {
	s := newSituation(t, dssauth.ByProxyUser, nil)
	drops := true
	s.fake.Intercept(ownInfoPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if drops {
			r.Header.Del("X-DKU-ProxyUser")
		}
		next.ServeHTTP(w, r)
	})
	for range 3 {
		err := s.visit(listProjects)
		require.ErrorContains(t, err, "a proxy before it may drop X-DKU-ProxyUser")
		assert.Equal(t, http.StatusServiceUnavailable, dssauth.StatusCode(err), "no sign-in mends it")
	}
	assert.Zero(t, s.fake.Calls(projectsPath))
	drops = false
	require.NoError(t, s.visit(listProjects))
	assert.Equal(t, 1, s.actedAs("ann"))
}

func TestProxyUserIsVerifiedOnceAnAnswer(t *testing.T) {
	actsOnceAnAnswer(t, dssauth.ByProxyUser, ownInfoPath)
}

func TestTicketEndsWithTheAnswer(t *testing.T) {
	actsOnceAnAnswer(t, dssauth.ByTicket, ticketPath)
}

// actsOnceAnAnswer checks that the call to path, which lets handlers act as the visitor,
// is made once for each answer about the visitor, for every kind of end.
func actsOnceAnAnswer(t *testing.T, by dssauth.Impersonation, path string) {
	for name, row := range map[string]struct {
		ttl   time.Duration
		end   func(*situation)
		calls int // after three requests before and one after
	}{
		"while the answer lasts":           {0, func(*situation) {}, 1},
		"after Forget":                     {0, func(s *situation) { s.auth.Forget(s.request()) }, 2},
		"after ForgetUser":                 {0, func(s *situation) { s.auth.ForgetUser("ann") }, 2},
		"where answers are not remembered": {-1, func(*situation) {}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(t, by, func(_ *situation, c *dssauth.Config) { c.TTL = row.ttl })
			s.kept()
			require.Zero(t, s.fake.Calls(path), "the handler did not use its client")
			for range 3 {
				require.NoError(t, s.visit(listProjects))
			}
			row.end(s)
			require.NoError(t, s.visit(listProjects))
			assert.Equal(t, row.calls, s.fake.Calls(path))
			assert.Equal(t, 4, s.actedAs("ann"))
		})
	}
}

func TestConcurrentFirstUsesVerifyOnce(t *testing.T) {
	firstUsesAtOnce(t, dssauth.ByProxyUser, ownInfoPath)
}

func TestConcurrentFirstUsesFetchOneTicket(t *testing.T) {
	firstUsesAtOnce(t, dssauth.ByTicket, ticketPath)
}

// firstUsesAtOnce lets 30 handlers use their clients for the first time at once: the
// calls to path wait for all of them. DSS gets one such call.
func firstUsesAtOnce(t *testing.T, by dssauth.Impersonation, path string) {
	s := newSituation(t, by, nil)
	s.kept() // so that the answer is shared
	const callers = 30
	var waiting, running sync.WaitGroup
	waiting.Add(callers)
	s.fake.Intercept(path, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		waiting.Wait()
		next.ServeHTTP(w, r)
	})
	for range callers {
		running.Go(func() {
			client := s.kept()
			waiting.Done()
			assert.NoError(t, listWith(client))
		})
	}
	running.Wait()
	assert.Equal(t, 1, s.fake.Calls(path))
	assert.Equal(t, callers, s.actedAs("ann"))
}

func TestAFailedVerificationIsTriedAgain(t *testing.T) {
	failsAndThenSucceeds(t, dssauth.ByProxyUser, ownInfoPath)
}

func TestFailedTicketFetchIsNotRemembered(t *testing.T) {
	failsAndThenSucceeds(t, dssauth.ByTicket, ticketPath)
}

func failsAndThenSucceeds(t *testing.T, by dssauth.Impersonation, path string) {
	s := newSituation(t, by, nil)
	s.fake.Intercept(path, 1, dsstest.Respond(500, ""))
	client := s.kept()
	require.Error(t, listWith(client))
	require.NoError(t, listWith(client))
	require.NoError(t, s.visit(listProjects))
	assert.Equal(t, 2, s.fake.Calls(path))
	assert.Equal(t, 1, s.fake.Calls(lookupPath), "a failure forgets nobody")
}

// A request that leaves while a ticket is fetched does not take it from others.
func TestATicketIsFetchedForAllWhoWait(t *testing.T) {
	s := newSituation(t, dssauth.ByTicket, nil)
	first, second := s.kept(), s.kept()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	s.fake.Intercept(ticketPath, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		cancel()
		<-gone
		next.ServeHTTP(w, r)
	})
	require.ErrorIs(t, first.Do(ctx, "GET", projectsPath, nil, nil), context.Canceled)
	close(gone)
	require.NoError(t, listWith(second))
	assert.Equal(t, 1, s.fake.Calls(ticketPath))
	assert.Equal(t, 1, s.actedAs("ann"))
}

// A handler waits for a ticket at most as long as Config.Timeout.
func TestATicketTakesNoLongerThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, auth := inBubble(t, dssauth.Config{Impersonation: dssauth.ByTicket, Timeout: 3 * time.Second})
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn("ann"))
		fake.Intercept(ticketPath, -1, dsstest.Hang)
		start := time.Now()
		require.ErrorIs(t, through(auth.Handler, r, listProjects), context.DeadlineExceeded)
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, 1, fake.Calls(ticketPath))
		assert.Zero(t, fake.Calls(projectsPath))
	})
}

func TestTicketExpiresWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, auth := inBubble(t, dssauth.Config{Impersonation: dssauth.ByTicket, TTL: time.Minute})
		cookie := fake.SignIn("ann")
		visit := func() {
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(cookie)
			require.NoError(t, through(auth.Handler, r, listProjects))
		}
		visit()
		<-time.After(30 * time.Second)
		visit()
		assert.Equal(t, 1, fake.Calls(ticketPath))
		<-time.After(31 * time.Second)
		visit()
		assert.Equal(t, 2, fake.Calls(ticketPath))
		assert.Equal(t, 2, fake.Calls(lookupPath))
		assert.Equal(t, "ann", fake.LastCaller())
	})
}

// DSS gives no ticket, and the gate returns that error: it is not a mistake of the gate.
func TestGateThatFindsTheSessionEnded(t *testing.T) {
	s := newSituation(t, dssauth.ByTicket, nil)
	require.NoError(t, s.visit(func(*http.Request) error { return nil }))
	s.fake.SignOut(s.cookie)
	gate := s.auth.Require(func(r *http.Request, _ dssauth.Identity) error { return listProjects(r) })
	assert.Equal(t, 401, serve(gate(whoami), s.request()).Code)
}
