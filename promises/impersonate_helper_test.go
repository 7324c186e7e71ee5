package promises

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// Calls that an application may make with its own credentials.
const (
	ownInfoPath  = "/auth/info"
	lookupPath   = "/auth/info-from-browser-headers"
	ticketPath   = "/auth/ticket-from-browser-headers"
	projectsPath = "/projects/"
	runPath      = "/scenarios/nightly/run"
)

// situation is ann, signed in to an application that acts as its visitors and has
// an administrator's key.
type situation struct {
	*testing.T
	fake   *dsstest.Server
	front  *httptest.Server // the server before fake; calls go there
	own    *dss.Client      // the application's, with an administrator's key
	auth   *dssauth.Middleware
	cookie *http.Cookie
}

func newSituation(t *testing.T, mode dssauth.Impersonation, change func(*situation, *dssauth.Config)) *situation {
	t.Helper()
	s := &situation{T: t, fake: dsstest.NewServer(t)}
	s.front = httptest.NewServer(careless(s.fake))
	t.Cleanup(func() {
		s.front.CloseClientConnections()
		s.front.Close()
	})
	s.own = s.client(s.fake.AdminKey(), nil)
	s.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	s.fake.AddUser(dsstest.User{Login: "bob"})
	s.fake.AddUser(dsstest.User{Login: "admin", Groups: []string{"administrators"}})
	s.fake.AddTicket("canary-of-bob", "bob")
	s.fake.AddTicket("canary-of-admin", "admin")
	s.fake.AddTicket("canary-of-nobody", "")
	s.fake.Handle("POST "+runPath, func(w http.ResponseWriter, r *http.Request, caller string) {
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, caller+" ran "+string(body))
	})
	s.cookie = s.fake.SignIn("ann")
	cfg := dssauth.Config{Client: s.own, Impersonation: mode}
	if change != nil {
		change(s, &cfg)
	}
	s.auth = newAuth(t, cfg)
	return s
}

// careless behaves like a careless proxy before DSS: it reads underscores in names of
// headers as hyphens, and trailers as headers, and drops the headers that Connection
// names.
func careless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		received := []http.Header{r.Header, r.Trailer}
		r.Header = http.Header{}
		for _, headers := range received {
			for name, values := range headers {
				name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
				r.Header[name] = append(r.Header[name], values...)
			}
		}
		for _, named := range r.Header["Connection"] {
			for name := range strings.SplitSeq(named, ",") {
				r.Header.Del(strings.TrimSpace(name))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// client is a client of the DSS with a key and settings of its own.
func (s *situation) client(apiKey string, h *http.Client) *dss.Client {
	s.Helper()
	c, err := dss.New(dss.Config{URL: s.front.URL, APIKey: apiKey, HTTPClient: h})
	require.NoError(s, err)
	s.Cleanup(c.CloseIdleConnections)
	return c
}

// request is ann's.
func (s *situation) request() *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(s.cookie)
	return r
}

// visit lets h handle ann's request, and returns its error, or the reason why h was not
// reached.
func (s *situation) visit(h func(*http.Request) error) error {
	return through(s.auth.Handler, s.request(), h)
}

var errNotReached = errors.New("the handler was not reached")

func through(wrap func(http.Handler) http.Handler, r *http.Request, h func(*http.Request) error) error {
	err := errNotReached
	wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { err = h(r) })).ServeHTTP(httptest.NewRecorder(), r)
	return err
}

// listProjects makes a handler's call as the visitor.
func listProjects(r *http.Request) error {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		return err
	}
	return listWith(client)
}

func listWith(client *dss.Client) error {
	return client.Do(context.Background(), "GET", projectsPath, nil, nil)
}

// sendWith sends a GET for the projects through the transport of the visitor's
// client, inside an http.Client, after change.
func (s *situation) sendWith(r *http.Request, change func(*http.Request)) error {
	client, err := dssauth.ClientFromContext(r.Context())
	if err != nil {
		return err
	}
	req, err := http.NewRequest("GET", s.front.URL+"/dip/publicapi"+projectsPath, nil)
	require.NoError(s, err)
	change(req)
	return answered((&http.Client{Transport: client.Transport()}).Do(req))
}

func answered(reply *http.Response, err error) error {
	if quoted := (*url.Error)(nil); errors.As(err, &quoted) {
		return quoted.Err // without the URL, which net/http quotes
	}
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return errors.New(reply.Status)
	}
	return nil
}

// kept is the client of a handler that has returned.
func (s *situation) kept() *dss.Client {
	s.Helper()
	var client *dss.Client
	require.NoError(s, s.visit(func(r *http.Request) (err error) {
		client, err = dssauth.ClientFromContext(r.Context())
		return err
	}))
	return client
}

// actedAs checks on DSS's side all calls except the application's own: none may have
// had an administrator's rights, or the rights of a user who is not among logins. It
// returns the number of calls on which DSS acted.
func (s *situation) actedAs(logins ...string) (calls int) {
	s.Helper()
	for _, c := range s.fake.Log("") {
		if slices.Contains([]string{ownInfoPath, lookupPath, ticketPath}, c.Path) {
			continue
		}
		assert.False(s, c.Admin, "DSS acted with an administrator's rights: %+v", c)
		if c.Caller != "" {
			assert.Contains(s, logins, c.Caller, "DSS acted as somebody else: %+v", c)
			calls++
		}
	}
	return calls
}

// quotesNoCredential fails if err shows a secret of the situation.
func (s *situation) quotesNoCredential(err error) {
	s.Helper()
	for _, secret := range []string{s.fake.AdminKey(), s.cookie.Value, "canary"} {
		assert.False(s, strings.Contains(err.Error(), secret), "a credential in the error %q", err)
	}
}

// notAuthenticated is DSS's rejection of a ticket, or of a key.
var notAuthenticated = dsstest.Respond(401, `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException", "message": "no"}`)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inBubble returns a fake DSS with ann, and a Middleware that asks it.
func inBubble(t *testing.T, c dssauth.Config) (*dsstest.DSS, *dssauth.Middleware) {
	t.Helper()
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann", DisplayName: "Ann Analyst"})
	fake.AddAPIKey("key", "")
	var err error
	c.Client, err = dss.New(dss.Config{URL: "http://127.0.0.1", APIKey: "key", HTTPClient: &http.Client{Transport: inMemory(fake)}})
	require.NoError(t, err)
	return fake, newAuth(t, c)
}

// inMemory brings calls to h without a socket, so that a bubble's clock can run.
func inMemory(h http.Handler) http.RoundTripper {
	return roundTripper(func(r *http.Request) (reply *http.Response, err error) {
		defer func() {
			if recover() != nil { // as a server cuts the connection
				err = cmp.Or(r.Context().Err(), io.EOF)
			}
		}()
		in := r.Clone(r.Context())
		if in.Body == nil {
			in.Body = http.NoBody
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, in)
		return rec.Result(), nil
	})
}
