package promises

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

// If a DSS differs from our assumptions, nobody is admitted, and the log names
// once the setting that may help.
func TestUnexpectedDSSAdmitsNobody(t *testing.T) {
	always := func(status int, body string, header ...string) func(*dsstest.DSS) {
		return func(d *dsstest.DSS) { d.Intercept(lookupPath, -1, dsstest.Respond(status, body, header...)) }
	}
	options := func(o dsstest.Options) func(*dsstest.DSS) {
		return func(d *dsstest.DSS) { d.Configure(o) }
	}
	for name, row := range map[string]struct {
		differs func(*dsstest.DSS)
		want    string
		level   string
		says    []string // in the one line
	}{
		"sessions are hidden": {options(dsstest.Options{HideAccessTokens: true}), "401", "WARN",
			[]string{"has identified none of the first visitors", "switch “Hide access tokens” off"}},
		"sessions are hidden, and nobody is an empty answer": {options(dsstest.Options{HideAccessTokens: true, EmptyIdentifier: true}), "401", "WARN",
			[]string{"has identified none of the first visitors", "switch “Hide access tokens” off"}},
		"a lookup needs another header": {options(dsstest.Options{LookupNeeds: "User-Agent"}), "401", "WARN",
			[]string{"has identified none of the first visitors", "Config.Headers"}},
		"we may not ask": {always(403, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException"}`), "503", "ERROR",
			[]string{"does not let us ask who a browser is", "give the API key, or the run-as user of this webapp, the right to"}},
		"we may not ask, as a 401": {always(401, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException"}`), "503", "ERROR",
			[]string{"does not let us ask who a browser is", "give the API key, or the run-as user of this webapp, the right to"}},
		"a proxy forbids it": {always(403, `<html>`), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor", "403 Forbidden"}},
		"nobody is a 404": {always(404, `{"errorType":"com.dataiku.dip.server.controllers.NotFoundException"}`), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor, then contract", "NotFoundException"}},
		"nobody is a NotAuthenticatedException of another status": {always(403, nobodyReply), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor, then contract", "NotAuthenticatedException"}},
		"a lookup is redirected": {always(302, ``, "Location", "/login"), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor", "redirects are not followed"}},
		"a lookup has a page for an answer": {always(200, `<html>`), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor", "unexpected reply"}},
		"a lookup is compressed otherwise": {always(200, `x`, "Content-Encoding", "br"), "503", "WARN",
			[]string{"could not be identified", "run cmd/dssauth doctor", "unexpected reply"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				row.differs(d)
				var book logBook
				m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger()})
				for range 30 {
					assert.Equal(t, row.want, who(m, signedIn(d, "ann")))
				}
				synctest.Wait() // a line is written after its visitor was answered
				lines := book.with(row.says[0])
				if assert.Len(t, lines, 1, book.with("")) {
					assert.Contains(t, lines[0], "level="+row.level)
					for _, part := range row.says {
						assert.Contains(t, lines[0], part)
					}
				}
			})
		})
	}
}

// The line about visitors whom DSS does not know is for an instance that knows
// none. On other instances strangers are normal.
func TestStrangersAreNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		var book logBook
		m := newAuth(t, dssauth.Config{Client: client, Logger: book.logger()})
		for i := range 19 {
			assert.Equal(t, "401", who(m, browser(fmt.Sprint(i))))
		}
		assert.Equal(t, "ann", who(m, signedIn(d, "ann")))
		for i := range 100 {
			assert.Equal(t, "401", who(m, browser(fmt.Sprint("later ", i))))
		}
		assert.Empty(t, book.with("identified none"))
	})
}

// A ticket from a caller inside DSS is not used, and not passed on.
func TestTicketsOfCallersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newMemory(t)
		d.AddTicket("ticket-of-bob", "bob")
		m := newAuth(t, dssauth.Config{Client: client})
		alone := request(http.MethodGet, "/", "X-DKU-APITicket", "ticket-of-bob")
		assert.Equal(t, "401", who(m, alone))
		assert.Zero(t, d.Calls(""), "DSS is not asked")

		beside := signedIn(d, "ann")
		beside.Header.Set("X-DKU-APITicket", "ticket-of-bob")
		assert.Equal(t, "ann", who(m, beside))
		assert.NotContains(t, d.LastBrowserHeaders(), "X-Dku-Apiticket")
		assert.Len(t, d.LastBrowserHeaders(), 1, "the cookie alone")
	})
}

// If DSS reads X-DKU-ProxyUser as another login than the one sent, no call is
// made.
func TestMisreadProxyUserStopsCalls(t *testing.T) {
	for name, row := range map[string]struct {
		options dsstest.Options
		others  []string // users of DSS beside the visitor, é
		acts    bool
	}{
		"as Latin-1, which names no user":    {dsstest.Options{Latin1ProxyUser: true}, nil, false},
		"as Latin-1, which is another user":  {dsstest.Options{Latin1ProxyUser: true}, []string{"Ã©"}, false},
		"as the visitor":                     {dsstest.Options{}, []string{"Ã©"}, true},
		"in any case, and names the visitor": {dsstest.Options{IgnoreLoginCase: true}, []string{"É"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, client := newMemory(t)
				d.Configure(row.options)
				for _, login := range append(row.others, "é") {
					d.AddUser(dsstest.User{Login: login})
				}
				m := newAuth(t, dssauth.Config{Client: client, Impersonation: dssauth.ByProxyUser})
				w := serve(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					visitor, err := dssauth.ClientFromContext(r.Context())
					if err == nil {
						err = visitor.Do(r.Context(), http.MethodGet, "/projects/", nil, nil)
					}
					if err != nil {
						dssauth.WriteRefusal(w, r, err)
					}
				})), signedIn(d, "é"))
				var callers []string
				for _, c := range d.Log("/projects/") {
					callers = append(callers, c.Caller)
				}
				if row.acts {
					assert.Equal(t, []string{"é"}, callers)
					return
				}
				assert.Equal(t, http.StatusServiceUnavailable, w.Code)
				assert.Empty(t, callers, "no call is made")
			})
		})
	}
}
