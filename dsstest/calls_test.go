package dsstest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestCalls(t *testing.T) {
	fake := newFake(t)
	assert.Zero(t, fake.Calls(""))
	assert.Empty(t, fake.LastCaller())
	assert.Empty(t, fake.Log(""))

	call(t, fake, keyOf("ann-key"), "GET", authInfo+"?withSecrets=True", "")
	call(t, fake, keyOf("nope"), "GET", authInfo, "")
	call(t, fake, creds(keyOf("root-key")).as("ann"), "GET", "/users/a%2Fb", "")
	fake.SetDown(true)
	call(t, fake, keyOf("ann-key"), "GET", authInfo, "")
	fake.SetDown(false)
	fake.Intercept("", 1, dsstest.Respond(500, ""))
	call(t, fake, keyOf("ann-key"), "GET", authInfo, "")

	assert.Equal(t, 5, fake.Calls(""))
	assert.Equal(t, 4, fake.Calls(authInfo), "with any answer")
	assert.Equal(t, 1, fake.Calls("/users/a/b"), "decoded")
	assert.Zero(t, fake.Calls("/nothing"))
	assert.Equal(t, []dsstest.Call{
		{Method: "GET", Path: authInfo, Caller: "ann", Status: 200},
		{Method: "GET", Path: authInfo, Status: 401},
		{Method: "GET", Path: "/users/a/b", Caller: "ann", Status: 404},
		{Method: "GET", Path: authInfo, Status: 503},
		{Method: "GET", Path: authInfo, Status: 500},
	}, fake.Log(""))
	assert.Len(t, fake.Log(authInfo), 4)
	assert.Empty(t, fake.LastCaller(), "a call that DSS did not act upon")
}

func TestLastCallerIsThatOfTheLastCall(t *testing.T) {
	fake := newFake(t)
	for _, tc := range []struct {
		by   creds
		want string
	}{
		{keyOf("ann-key"), "ann"},
		{keyOf(fake.AdminKey()), ""},
		{creds(keyOf(fake.AdminKey())).as("ops"), "ops"},
		{noCreds, ""},
		{ticketOf("root-ticket"), "root"},
		{creds(keyOf("ann-key")).as("root"), ""},
	} {
		call(t, fake, tc.by, "GET", "/projects/", "")
		assert.Equal(t, tc.want, fake.LastCaller())
	}
}

func TestTheLogIsBounded(t *testing.T) {
	fake := dsstest.New()
	const calls = 25_000
	for i := range calls {
		r := httptest.NewRequest("GET", fmt.Sprintf("/dip/publicapi/users/%d", i), nil)
		fake.ServeHTTP(httptest.NewRecorder(), r)
	}
	assert.Equal(t, calls, fake.Calls(""))
	assert.Equal(t, 1, fake.Calls("/users/0"))
	assert.Zero(t, fake.Calls(fmt.Sprint("/users/", calls-1)), "paths beyond the first ten thousand have no count")
	log := fake.Log("")
	require.Len(t, log, 10_000)
	assert.Equal(t, fmt.Sprint("/users/", calls-10_000), log[0].Path)
	assert.Equal(t, fmt.Sprint("/users/", calls-1), log[9_999].Path)
	assert.Equal(t, 401, log[0].Status)
}

func TestEndOfADroppedCallChangesNoOther(t *testing.T) {
	fake := dsstest.New()
	get := func(path string) {
		fake.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/dip/publicapi"+path, nil))
	}
	fake.Intercept("/slow", 1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for range 10_000 {
			get("/quick")
		}
		w.WriteHeader(500)
	})
	get("/slow")
	log := fake.Log("")
	assert.Len(t, log, 10_000)
	assert.NotContains(t, log, dsstest.Call{Method: "GET", Path: "/quick", Status: 500}, "its end does not change another call")
}

// All calls at once: the race detector finds nothing, and no call is lost or
// mixed up with another.
func TestConcurrency(t *testing.T) {
	fake := newFake(t)
	const workers, rounds = 8, 200
	var running sync.WaitGroup
	for w := range workers {
		login := fmt.Sprint("user", w)
		fake.AddUser(dsstest.User{Login: login})
		fake.AddAPIKey(login, login)
		running.Go(func() {
			for i := range rounds {
				groups := []string{fmt.Sprint(i)}
				fake.AddUser(dsstest.User{Login: login, Groups: groups})
				cookie := fake.SignIn(login)
				fake.Configure(dsstest.Options{NoImpersonation: groups})
				fake.SetLatency(0)
				fake.SetDown(false)
				fake.Intercept("/elsewhere", 1, dsstest.Hang)
				fake.Intercept("/elsewhere", 0, nil)

				r := httptest.NewRequest("GET", "/dip/publicapi/auth/info?withSecrets=true", nil)
				r.SetBasicAuth(login, "")
				rec := httptest.NewRecorder()
				fake.ServeHTTP(rec, r)
				assert.Equal(t, http.StatusOK, rec.Code)
				assert.Contains(t, rec.Body.String(), fmt.Sprintf(`"authIdentifier":%q,"groups":["%d"]`, login, i))

				fake.SignOut(cookie)
				fake.AddTicket(login, login)
				fake.OwnSettings(login)
				fake.LastCaller()
				fake.LastBrowserHeaders()
				fake.Log(authInfo)
			}
		})
	}
	running.Wait()
	assert.Equal(t, workers*rounds, fake.Calls(authInfo))
	callers := map[string]int{}
	for _, c := range fake.Log("") {
		callers[c.Caller]++
	}
	assert.Len(t, callers, workers)
	for login, n := range callers {
		assert.Equal(t, rounds, n, login)
	}
}

func TestContentIsNotPrinted(t *testing.T) {
	fake := newFake(t)
	fake.AddSession("sid", "canary", "ann")
	fake.SetOwnSettings("ann", `{"secrets": [{"name": "s", "value": "canary"}]}`)
	for _, v := range []any{fake, fake.DSS, struct{ F *dsstest.Server }{fake}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			out := fmt.Sprintf(format, v)
			for _, secret := range []string{fake.AdminKey(), "ann-key", "ann-ticket", "canary"} {
				assert.NotContains(t, out, secret, format)
			}
		}
	}
}
