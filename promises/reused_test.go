package promises

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// reused is memory of a server built on fasthttp: the next request's strings take the
// place of the last one's.
type reused []byte

func (m reused) string() string { return unsafe.String(&m[0], len(m)) }

func (m reused) becomes(next string) {
	if len(next) != len(m) {
		panic("the next string must be as long")
	}
	copy(m, next)
}

// slowReader is a Resolver that reads its headers only on command, and uses a header's
// value as the login.
type slowReader struct {
	name string
	read chan struct{}

	mu   sync.Mutex
	seen []string
}

func (s *slowReader) Resolve(_ context.Context, h http.Header) (dssauth.Identity, error) {
	<-s.read
	value := h.Get(s.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, string([]byte(value)))
	return dssauth.NewIdentity(string([]byte(value[len(value)-3:])), "analysts"), nil
}

func TestReusedHeaderMemoryMixesUpNobody(t *testing.T) {
	entries := map[string]func(*dssauth.Middleware, *http.Request){
		"Handler":      func(m *dssauth.Middleware, r *http.Request) { serve(m.Handler(whoami), r) },
		"Optional":     func(m *dssauth.Middleware, r *http.Request) { serve(m.Optional(whoami), r) },
		"RequireGroup": func(m *dssauth.Middleware, r *http.Request) { serve(m.RequireGroup("analysts")(whoami), r) },
		"Require": func(m *dssauth.Middleware, r *http.Request) {
			serve(m.Require(func(*http.Request, dssauth.Identity) error { return nil })(whoami), r)
		},
		"Authenticate": func(m *dssauth.Middleware, r *http.Request) { _, _ = m.Authenticate(r) },
	}
	for _, name := range []string{"Cookie", "Authorization", "X-Sso-Session"} {
		for entry, enter := range entries {
			for _, when := range []string{"a first lookup", "a refresh ahead"} {
				t.Run(fmt.Sprint(name, " through ", entry, " during ", when), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						reader := &slowReader{name: name, read: make(chan struct{}, 100)}
						m := newAuth(t, dssauth.Config{Resolver: reader, Headers: []string{"Cookie", "Authorization", "X-Sso-Session"}})
						request := func(value string) *http.Request { return request("GET", "/", name, value) }
						if when == "a refresh ahead" {
							reader.read <- struct{}{}
							require.Equal(t, "ann", who(m, request("session=ann")))
							pass(9500 * time.Millisecond / 10 * 9) // late in the answer's life
						}
						memory := reused("session=ann")
						ctx, leave := context.WithCancel(t.Context())
						r := request("")
						r.Header[name] = []string{memory.string()}
						done := make(chan struct{})
						go func() {
							defer close(done)
							enter(m, r.WithContext(ctx))
						}()
						synctest.Wait() // the lookup is under way
						leave()
						<-done
						memory.becomes("session=bob") // the next request
						for range 10 {
							reader.read <- struct{}{}
						}
						synctest.Wait()

						reader.mu.Lock()
						last := reader.seen[len(reader.seen)-1]
						reader.mu.Unlock()
						assert.Equal(t, "session=ann", last, "what DSS is asked about")
						assert.Equal(t, "ann", who(m, request("session=ann")))
						assert.Equal(t, "bob", who(m, request("session=bob")))
					})
				})
			}
		}
	}
}

// A connection is watched, and calls are made as its visitor, long after its headers'
// memory was reused.
func TestReusedMemoryOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		m := newAuth(t, dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
		ann, bob := cookie(d, "ann"), cookie(d, "bob")
		memory := reused(ann)
		r := withCookies("")
		r.Header["Cookie"] = []string{memory.string()}
		var watched context.Context
		var visitor *dss.Client
		serve(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			watched, _ = m.WhileSignedIn(r.WithContext(context.WithoutCancel(r.Context())), time.Second)
			var err error
			visitor, err = dssauth.ClientFromContext(r.Context())
			require.NoError(t, err)
		})), r)
		memory.becomes(bob)
		m.ForgetUser("ann")
		pass(5 * time.Second)
		assert.NoError(t, watched.Err(), "ann is still signed in")
		info, err := visitor.AuthInfo(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "ann", info.Login(), "a ticket for another caller")
		assert.Equal(t, "bob", who(m, withCookies(bob)))
		assert.Equal(t, "ann", who(m, withCookies(ann)))
	})
}

func TestReusedMemoryOfAForgottenLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		m := newAuth(t, dssauth.Config{Resolver: s})
		asked := asks(m, browser("ann"))
		synctest.Wait()
		memory := reused("ann")
		pass(time.Millisecond)
		m.ForgetUser(memory.string())
		memory.becomes("bob")
		s.say(0, dssauth.NewIdentity("ann"), nil)
		require.Equal(t, "ann", <-asked)
		assert.Zero(t, m.Stats().Entries, "ann is the one who was forgotten")
	})
}

// cookie returns a session's cookie, of the same length for ann and bob.
func cookie(d *dsstest.DSS, login string) string {
	c := d.SignIn(login)
	return c.Name + "=" + c.Value
}

// Names of cookies in the warning about changing ones must not be read from memory that
// holds others now.
func TestReusedMemoryOfCookieNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		dss := resolver(func(context.Context, string) (dssauth.Identity, error) { return dssauth.NewIdentity("ann"), nil })
		m := newAuth(t, dssauth.Config{Resolver: dss, Logger: book.logger(), MaxEntriesPerUser: 2})
		memory := reused("changing=0000; session=ann")
		for i := range 8 {
			memory.becomes(fmt.Sprintf("changing=%04d; session=ann", i))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Cookie"] = []string{memory.string()}
			require.Equal(t, "ann", who(m, r))
			memory.becomes("hijacked=0000; session=bob")
		}
		synctest.Wait() // the line is written once the visitor has the answer
		lines := book.with("changing")
		require.Len(t, lines, 1)
		assert.NotContains(t, lines[0], "hijacked")
	})
}
