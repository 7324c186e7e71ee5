package diagnose_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/internal/diagnose"
)

const (
	runnersKey    = "dkuaps-canary-of-runner"
	runnersTicket = "canary-ticket-of-runner"
)

func newDSS(t *testing.T) *dsstest.Server {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddUser(dsstest.User{Login: "runner"})
	fake.AddAPIKey(runnersKey, "runner")
	fake.AddTicket(runnersTicket, "runner")
	return fake
}

func application(t *testing.T, cfg dss.Config) *diagnose.Application {
	client, err := dss.New(cfg)
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return &diagnose.Application{Client: client, Timeout: time.Minute}
}

// found returns Start's findings, one on a line, without the advice. It checks
// that each problem has advice, and that nothing holds the key in any form.
func found(t *testing.T, a *diagnose.Application) (lines []string, advice string) {
	for f := range a.Start(t.Context()) {
		assert.Equal(t, f.Status == diagnose.Problem, f.Advice != nil, f.Check)
		lines = append(lines, f.Status+" "+f.Check+": "+f.Found)
		advice += strings.Join(f.Advice, "\n")
	}
	all := strings.Join(lines, "\n") + advice
	assert.NotContains(t, all, "canary")
	assert.NotContains(t, all, base64.StdEncoding.EncodeToString([]byte(runnersKey+":")))
	return lines, advice
}

func TestStart(t *testing.T) {
	const (
		answers = "ok connection: DSS answers, version 14.3.3, API version 1"
		silent  = "ok connection: DSS answers, without its version"
		runner  = `ok own credentials: to DSS, we are the user "runner", profile "DESIGNER"`
		mayAsk  = "ok right to ask who a browser is: we have it"
	)
	answer := func(path string, status int, body string) func(*dsstest.Server, *diagnose.Application) {
		return func(fake *dsstest.Server, _ *diagnose.Application) {
			fake.Intercept(path, -1, dsstest.Respond(status, body))
		}
	}
	for name, row := range map[string]struct {
		spoil func(*dsstest.Server, *diagnose.Application)
		found []string
		fix   string
	}{
		"all is well": {func(*dsstest.Server, *diagnose.Application) {}, []string{answers, runner, mayAsk}, ""},
		"the key was revoked": {func(fake *dsstest.Server, _ *diagnose.Application) { fake.RemoveAPIKey(runnersKey) },
			[]string{answers, "problem own credentials: DSS rejects them"}, "set it as DKU_API_KEY"},
		"the ticket has expired": {func(fake *dsstest.Server, a *diagnose.Application) { fake.RemoveAPIKey(runnersKey); a.Inside = true },
			[]string{answers, "problem own credentials: DSS rejects them"}, "The ticket in DKU_API_TICKET has expired"},
		"the right to ask is missing": {func(fake *dsstest.Server, _ *diagnose.Application) {
			fake.Configure(dsstest.Options{AdminLookupsOnly: true})
		}, []string{answers, runner, `problem right to ask who a browser is: DSS does not give it to the user "runner", profile "DESIGNER"`}, "give it the right in DSS"},
		"a proxy adds a cookie to what is asked": {answer("/auth/info-from-browser-headers", 200,
			`{"authIdentifier": "ann", "authSource": "USER_FROM_UI", "groups": []}`),
			[]string{answers, runner, `problem right to ask who a browser is: DSS identified made-up cookies as the user "ann"`}, "a proxy between this application and DSS that adds cookies"},
		"DSS is down behind a proxy": {answer("/auth/info", 502, "<html>canary</html>"),
			[]string{"problem connection: the answer is 502 Bad Gateway, and it is from a proxy"}, "starting, stopped or overloaded"},
		"a web server is at the address": {answer("/auth/info", 404, "<html>canary</html>"),
			[]string{"problem connection: the answer is 404 Not Found, and it is not from DSS"}, "the path, port or host is wrong"},
		"a sign-in page is at the address": {answer("/auth/info", 200, "<html>canary</html>"),
			[]string{"problem connection: another program than DSS answered with success"}, "Most likely a proxy's sign-in page"},
		"a proxy puts words for a version": {func(fake *dsstest.Server, _ *diagnose.Application) {
			fake.Intercept("/auth/info", -1, dsstest.Respond(200, `{"authIdentifier": "runner", "authSource": "USER_FROM_UI"}`, "DSS-Version", "canary"))
		}, []string{silent, `ok own credentials: to DSS, we are the user "runner"`, mayAsk}, ""},
		"DSS does not answer": {func(fake *dsstest.Server, a *diagnose.Application) {
			a.Timeout = time.Nanosecond
		}, []string{"problem connection: there was no answer in time"}, "If DSS takes so long, it is overloaded."},
		"an administrator is needed, and we are not one": {func(_ *dsstest.Server, a *diagnose.Application) { a.ByProxyUser = true },
			[]string{answers, runner, mayAsk, "problem administrator's rights: we do not have them"}, "ByTicket and identifying visitors work without one"},
		"an administrator is needed, and there is no user to try": {func(fake *dsstest.Server, a *diagnose.Application) {
			a.ByProxyUser = true
			fake.Intercept("/users", -1, dsstest.Respond(200, `[]`))
		}, []string{answers, runner, mayAsk, "skipped administrator's rights: we found no user to act as in a test"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newDSS(t)
			a := application(t, dss.Config{URL: fake.URL(), APIKey: runnersKey})
			row.spoil(fake, a)
			lines, advice := found(t, a)
			assert.Equal(t, row.found, lines)
			assert.Contains(t, advice, row.fix)
			assert.NotContains(t, advice, "-timeout", "a flag that only the doctor has")
		})
	}
}

// The server at DSS's address may repeat our credentials as our name.
func TestFindingsHoldNoCredential(t *testing.T) {
	for _, cfg := range []dss.Config{{APIKey: runnersKey}, {Ticket: runnersTicket}} {
		fake := newDSS(t)
		cfg.URL = fake.URL()
		fake.Intercept("/auth/info", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			login := r.Header.Get("X-DKU-APITicket") + r.Header.Get("Authorization")
			if key, _, ok := r.BasicAuth(); ok {
				login += " " + key
			}
			dsstest.Respond(200, `{"authIdentifier": "`+login+`", "authSource": "USER_FROM_UI", "groups": [], "userProfile": "a`+login+`"}`)(w, r, next)
		})
		lines, _ := found(t, application(t, cfg))
		require.Len(t, lines, 3)
		assert.Contains(t, lines[1], `"a[hidden]`)
	}
}

func TestStartWithoutDSS(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	lines, advice := found(t, application(t, dss.Config{URL: gone.URL, APIKey: runnersKey}))
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], "problem connection: the connection is refused: no program listens at 127.0.0.1:")
	assert.Contains(t, advice, "DSS is not running, or is at another port")
}

// A program that stops during the checks reports nothing about DSS.
func TestStartIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fake := newDSS(t)
	fake.Intercept("/auth/info", -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		cancel()
		dsstest.Hang(w, r, next)
	})
	for f := range application(t, dss.Config{URL: fake.URL(), APIKey: runnersKey}).Start(ctx) {
		assert.Fail(t, "a finding", f)
	}
}
