package promises

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

const annPath = "/users/ann"

// annAnalyst is ann with a name, known to a Middleware that asks for it.
func annAnalyst(t *testing.T, change func(*situation, *dssauth.Config)) *situation {
	t.Helper()
	return newSituation(t, dssauth.NoImpersonation, func(s *situation, c *dssauth.Config) {
		s.fake.AddUser(dsstest.User{Login: "ann", DisplayName: "Ann Analyst", Email: "ann@example.com", Groups: []string{"analysts"}, Profile: "DESIGNER"})
		c.UserDetails = true
		if change != nil {
			change(s, c)
		}
	})
}

// identity returns ann's identity in the handler.
func (s *situation) identity() (id dssauth.Identity) {
	s.Helper()
	require.NoError(s, s.visit(func(r *http.Request) error {
		var ok bool
		id, ok = dssauth.FromContext(r.Context())
		require.True(s, ok)
		return nil
	}))
	return id
}

func TestUserDetailsAreNotFetchedByDefault(t *testing.T) {
	s := annAnalyst(t, func(_ *situation, c *dssauth.Config) { c.UserDetails = false })
	id := s.identity()
	assert.Empty(t, id.DisplayName)
	assert.Empty(t, id.Email)
	assert.Equal(t, 1, s.fake.Calls(""), "the lookup, and nothing else")
}

func TestUserDetailsAreRememberedWithTheIdentity(t *testing.T) {
	s := annAnalyst(t, nil)
	for range 3 {
		id := s.identity()
		assert.Equal(t, "Ann Analyst", id.DisplayName)
		assert.Equal(t, "ann@example.com", id.Email)
	}
	assert.Equal(t, 1, s.fake.Calls(annPath))
	assert.Equal(t, 1, s.fake.Calls(lookupPath))

	s.fake.AddUser(dsstest.User{Login: "ann", DisplayName: "Ann Married"})
	s.auth.ForgetUser("ann")
	id := s.identity()
	assert.Equal(t, "Ann Married", id.DisplayName)
	assert.Empty(t, id.Email)
	assert.Equal(t, 2, s.fake.Calls(annPath))
}

func TestAnAPIKeyHasNoDetails(t *testing.T) {
	s := annAnalyst(t, func(_ *situation, c *dssauth.Config) { c.AllowAPIKeys = true })
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(s.fake.AdminKey(), "")
	require.NoError(t, through(s.auth.Handler, r, func(*http.Request) error { return nil }))
	assert.Equal(t, 1, s.fake.Calls(""))
}

func TestIdentityIsKeptIfDetailsFail(t *testing.T) {
	for name, answer := range map[string]dsstest.Interceptor{
		"with 401":                          notAuthenticated,
		"with 403":                          dsstest.Respond(403, `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "ann may not"}`),
		"with 404":                          dsstest.Respond(404, `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException", "detailedMessage": "user does not exist: ann"}`),
		"with 500":                          dsstest.Respond(500, ""),
		"with a redirect":                   dsstest.Respond(302, "", "Location", "/dip/publicapi/users/bob"),
		"with a reset":                      dsstest.Reset,
		"with half an answer":               dsstest.CutShort,
		"with an answer that has no end":    dsstest.Endless,
		"with a login page":                 dsstest.Respond(200, "<html></html>"),
		"with null":                         dsstest.Respond(200, `null`),
		"with nothing":                      dsstest.Respond(200, ``),
		"with an object that says nothing":  dsstest.Respond(200, `{}`),
		"with a name that is a number":      dsstest.Respond(200, `{"login": "ann", "displayName": 1, "email": "e@example.com", "groups": [], "enabled": true}`),
		"with somebody else's":              dsstest.Respond(200, `{"login": "bob", "displayName": "Bob", "email": "bob@example.com", "groups": [], "enabled": true}`),
		"with those of a login like theirs": dsstest.Respond(200, `{"login": "Ann", "displayName": "Other", "email": "Ann@example.com", "groups": [], "enabled": true}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			s := annAnalyst(t, func(_ *situation, c *dssauth.Config) {
				c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			s.fake.Intercept(annPath, -1, answer)
			id := s.identity()
			assert.Equal(t, "ann", id.Login)
			assert.Equal(t, []string{"analysts"}, id.Groups())
			assert.Empty(t, id.DisplayName)
			assert.Empty(t, id.Email)
			s.identity()
			assert.Equal(t, 1, s.fake.Calls(lookupPath), "the identity is remembered all the same")
			assert.Zero(t, s.fake.Calls("/users/bob"))
			assert.NotContains(t, log.String(), "ann", "a login in the log")
			assert.Regexp(t, "no display name and e-mail address for a visitor|DSS does not let us read users", log.String())
		})
	}
}

// A missing right to read users concerns all visitors: the log has it once a minute,
// and not for each visitor.
func TestMissingRightToReadUsersIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		const said = `{"errorType": "com.dataiku.dip.exceptions.UnauthorizedException", "message": "ann may not"}`
		answer := dsstest.Respond(403, said)
		fake, auth := inBubble(t, dssauth.Config{UserDetails: true, TTL: -1, Logger: book.logger()})
		fake.Intercept(annPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) { answer(w, r, next) })
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn("ann"))
		for minute := 1; minute <= 3; minute++ {
			for range 100 {
				assert.Equal(t, "ann", who(auth, r))
			}
			warned := book.with("Config.UserDetails")
			require.Len(t, warned, minute)
			assert.Contains(t, warned[minute-1], "level=WARN")
			assert.Contains(t, warned[minute-1], "give the API key")
			assert.NotContains(t, warned[minute-1], "ann")
			assert.Len(t, book.with("level=WARN"), minute)
			answer = dsstest.Respond(401, said) // DSS may also say it in this way
			pass(time.Minute)
		}
		answer = dsstest.Respond(404, `{"errorType": "com.dataiku.dip.server.controllers.NotFoundException"}`)
		assert.Equal(t, "ann", who(auth, r))
		assert.Len(t, book.with("Config.UserDetails"), 3, "another failure is not a missing right")
	})
}

// A second call that hangs costs a second, and not the lookup.
func TestIdentityIsKeptIfDetailsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, auth := inBubble(t, dssauth.Config{UserDetails: true})
		fake.Intercept(annPath, -1, dsstest.Hang)
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn("ann"))
		start := time.Now()
		require.NoError(t, through(auth.Handler, r, func(r *http.Request) error {
			id, _ := dssauth.FromContext(r.Context())
			assert.Equal(t, "ann", id.Login)
			assert.Empty(t, id.DisplayName)
			return nil
		}))
		assert.Equal(t, time.Second, time.Since(start))
	})
}

// A DSS that lets only administrators read users still tells visitors their own
// name.
func TestUserDetailsAreReadAsTheVisitor(t *testing.T) {
	for name, test := range map[string]struct {
		mode  dssauth.Impersonation
		calls []string
	}{
		"by ticket":     {dssauth.ByTicket, []string{lookupPath, "/auth/ticket-from-browser-headers", "/current-user"}},
		"by proxy user": {dssauth.ByProxyUser, []string{lookupPath, ownInfoPath, "/current-user"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := annAnalyst(t, func(_ *situation, c *dssauth.Config) { c.Impersonation = test.mode })
			s.fake.Intercept(annPath, -1, dsstest.Respond(403, ""))
			id := s.identity()
			assert.Equal(t, "Ann Analyst", id.DisplayName)
			assert.Equal(t, "ann@example.com", id.Email)
			var calls []string
			for _, call := range s.fake.Log("") {
				calls = append(calls, call.Path)
			}
			assert.Equal(t, test.calls, calls)
			assert.Equal(t, "ann", s.fake.LastCaller())
		})
	}
}

// If the call as the visitor fails in any way, a call with our own rights may work.
func TestUserDetailsAreReadWithOurRightsIfTheVisitorsFail(t *testing.T) {
	for name, spoil := range map[string]func(*dsstest.Server){
		"no right to": func(d *dsstest.Server) { d.Configure(dsstest.Options{NoImpersonation: []string{"*"}}) },
		"somebody else's settings": func(d *dsstest.Server) {
			d.Intercept("/current-user", -1, dsstest.Respond(200, `{"login": "bob", "displayName": "Bob", "email": "bob@example.com"}`))
		},
		"settings without a login": func(d *dsstest.Server) {
			d.Intercept("/current-user", -1, dsstest.Respond(200, `{"displayName": "Bob"}`))
		},
		"settings without an end": func(d *dsstest.Server) { d.Intercept("/current-user", -1, dsstest.Endless) },
		"a page":                  func(d *dsstest.Server) { d.Intercept("/current-user", -1, dsstest.Respond(200, "<html>")) },
		"a refusal":               func(d *dsstest.Server) { d.Intercept("/current-user", -1, notAuthenticated) },
	} {
		t.Run(name, func(t *testing.T) {
			s := annAnalyst(t, func(_ *situation, c *dssauth.Config) { c.Impersonation = dssauth.ByTicket })
			spoil(s.fake)
			assert.Equal(t, "Ann Analyst", s.identity().DisplayName)
			assert.Equal(t, 1, s.fake.Calls(annPath))
		})
	}
}

// annsSecrets is ann with a secret, and somebody else with another.
func annsSecrets(t *testing.T, change func(*situation, *dssauth.Config)) *situation {
	t.Helper()
	s := newSituation(t, dssauth.NoImpersonation, change)
	s.keepSecret("ann", "canary-1")
	s.keepSecret("bob", "canary-of-bob")
	s.keepSecret("admin", "canary-of-admin")
	return s
}

func (s *situation) keepSecret(login, value string) {
	s.fake.SetOwnSettings(login, fmt.Sprintf(`{"secrets": [{"name": "db", "value": %q, "secret": true}]}`, value))
}

// secrets returns its visitor's secrets that a handler reads.
func secrets(r *http.Request) (map[string]string, error) {
	list, err := dssauth.SecretsFromContext(r.Context())
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, secret := range list {
		values[secret.Name] = secret.Value()
	}
	return values, nil
}

func TestSecretsOfTheVisitor(t *testing.T) {
	s := annsSecrets(t, nil)
	before := 0
	require.NoError(t, s.visit(func(r *http.Request) error {
		before = s.fake.Calls("")
		for _, value := range []string{"canary-1", "canary-2"} {
			s.keepSecret("ann", value)
			got, err := secrets(r)
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"db": value}, got)
		}
		return nil
	}))
	assert.Equal(t, before+2, s.fake.Calls(""), "DSS is asked each time, and nothing else is")
	assert.Equal(t, before+2, s.fake.Calls(lookupPath))
}

func TestSecretsAreAskedForWithTheKeyedHeaders(t *testing.T) {
	s := annsSecrets(t, nil)
	r := s.request()
	setForgedHeaders(s, r.Header)
	r.AddCookie(&http.Cookie{Name: "_ga", Value: "1"})
	require.NoError(t, through(s.auth.Handler, r, func(r *http.Request) error {
		_, err := secrets(r)
		return err
	}))
	assert.Equal(t, map[string]string{"Cookie": s.cookie.Name + "=" + s.cookie.Value}, s.fake.LastBrowserHeaders())
}

func TestSecretsAreNeitherPrintedNorLogged(t *testing.T) {
	var log bytes.Buffer
	s := annsSecrets(t, func(_ *situation, c *dssauth.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	require.NoError(t, s.visit(func(r *http.Request) error {
		list, err := dssauth.SecretsFromContext(r.Context())
		require.NoError(t, err)
		require.Equal(t, "canary-1", list[0].Value())
		id, _ := dssauth.FromContext(r.Context())
		for _, v := range []any{list, list[0], id, s.auth, r.Context(), struct{ V any }{list}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
				assert.NotContains(t, fmt.Sprintf(verb, v), "canary", "%s of a %T", verb, v)
			}
			text, err := json.Marshal(v)
			if err == nil {
				assert.NotContains(t, string(text), "canary", "%T", v)
			}
			slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
		}
		return nil
	}))
	assert.NotContains(t, log.String(), "canary")
}

func TestSecretsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		want   error // nil: any
		ask    func(*situation) error
		config func(*situation, *dssauth.Config)
	}{
		{"without a Middleware", nil, func(s *situation) error {
			_, err := secrets(s.request())
			return err
		}, nil},
		{"to an anonymous visitor", nil, func(s *situation) error {
			return through(s.auth.Optional, httptest.NewRequest("GET", "/", nil), readSecrets)
		}, nil},
		{"for an identity that is a test's", nil, func(s *situation) error {
			return readSecrets(s.request().WithContext(dssauth.NewContext(t.Context(), dssauth.NewIdentity("ann"))))
		}, nil},
		{"to an API key", dssauth.ErrForbidden, func(s *situation) error {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer "+s.fake.AdminKey())
			return through(s.auth.Handler, r, readSecrets)
		}, func(_ *situation, c *dssauth.Config) { c.AllowAPIKeys = true }},
		{"where the cookie became somebody else's", dssauth.ErrUnauthenticated, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				r.Header.Set("Cookie", s.fake.SignIn("bob").String())
				return readSecrets(r)
			})
		}, nil},
		{"where an API key came beside the cookie", dssauth.ErrUnauthenticated, func(s *situation) error {
			s.fake.AddAPIKey("key-of-bob", "bob")
			return s.visit(func(r *http.Request) error {
				r.Header.Set("Authorization", "Bearer key-of-bob")
				return readSecrets(r)
			})
		}, nil},
		{"where the cookie was deleted", dssauth.ErrUnauthenticated, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				r.Header.Del("Cookie")
				return readSecrets(r)
			})
		}, nil},
		{"where the session belongs to somebody else now", dssauth.ErrUnauthenticated, func(s *situation) error {
			err := s.visit(func(r *http.Request) error {
				s.fake.AddSession(s.cookie.Name, s.cookie.Value, "bob")
				return readSecrets(r)
			})
			assert.Equal(s, "bob", s.identity().Login, "the former visitor is forgotten")
			return err
		}, nil},
		{"where the visitor signed out", nil, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				s.fake.SignOut(s.cookie)
				return readSecrets(r)
			})
		}, nil},
		{"where DSS says that the session is anonymous now", dssauth.ErrUnauthenticated, func(s *situation) error {
			s.fake.Configure(dsstest.Options{EmptyIdentifier: true})
			return s.visit(func(r *http.Request) error {
				s.fake.SignOut(s.cookie)
				return readSecrets(r)
			})
		}, nil},
		{"where DSS is down", dssauth.ErrUnavailable, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				s.fake.SetDown(true)
				return readSecrets(r)
			})
		}, nil},
		{"where our own key was revoked", dssauth.ErrUnavailable, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				s.fake.RemoveAPIKey(s.fake.AdminKey())
				return readSecrets(r)
			})
		}, nil},
		{"where DSS answers with a malformed secret", dssauth.ErrUnavailable, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				s.fake.Intercept(lookupPath, 1, dsstest.Respond(200, `{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "groups": [], "secrets": ["canary"]}`))
				return readSecrets(r)
			})
		}, nil},
		{"where the request has ended", context.Canceled, func(s *situation) error {
			return s.visit(func(r *http.Request) error {
				ctx, cancel := context.WithCancel(r.Context())
				cancel()
				return readSecrets(r.WithContext(ctx))
			})
		}, nil},
		{"without a client of DSS", nil, func(s *situation) error {
			return s.visit(readSecrets)
		}, func(_ *situation, c *dssauth.Config) {
			c.Client = nil
			c.Resolver = resolveFunc(func(context.Context, http.Header) (dssauth.Identity, error) {
				return dssauth.NewIdentity("ann"), nil
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := annsSecrets(t, tc.config)
			err := tc.ask(s)
			require.Error(t, err)
			require.NotErrorIs(t, err, errNotReached)
			s.quotesNoCredential(err)
			if tc.want != nil {
				assert.ErrorIs(t, err, tc.want)
			}
		})
	}
}

func readSecrets(r *http.Request) error {
	_, err := secrets(r)
	return err
}

// A hanging call for secrets ends after Config.Timeout.
func TestSecretsTakeNoLongerThanTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, auth := inBubble(t, dssauth.Config{Timeout: 3 * time.Second})
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn("ann"))
		require.NoError(t, through(auth.Handler, r, func(r *http.Request) error {
			fake.Intercept(lookupPath, -1, dsstest.Hang)
			start := time.Now()
			assert.ErrorIs(t, readSecrets(r), dssauth.ErrUnavailable)
			assert.Equal(t, 3*time.Second, time.Since(start))
			return nil
		}))
	})
}
