package dsstest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

// newFake returns a fake with the users ann (a plain user), root (an
// administrator), ops (one by group) and old (disabled), each with a key
// "<login>-key" and a ticket "<login>-ticket".
func newFake(t testing.TB) *dsstest.Server {
	fake := dsstest.NewServer(t)
	for _, u := range []dsstest.User{
		{Login: "ann", DisplayName: "Ann", Email: "ann@example.com", Groups: []string{"analysts", "readers"}, Profile: "READER"},
		{Login: "root", Admin: true},
		{Login: "ops", Groups: []string{"administrators"}},
		{Login: "old", Admin: true, Disabled: true},
	} {
		fake.AddUser(u)
		fake.AddAPIKey(u.Login+"-key", u.Login)
		fake.AddTicket(u.Login+"-ticket", u.Login)
	}
	return fake
}

func TestRefusedCredentials(t *testing.T) {
	fake := newFake(t)
	fake.AddAPIKey("revoked", "")
	fake.RemoveAPIKey("revoked")
	fake.AddAPIKey("early", "nobody-yet")
	for name, tc := range map[string]struct {
		by     creds
		status int
		kind   string
	}{
		"none":                             {noCreds, 401, "NotAuthenticatedException"},
		"an unknown key":                   {keyOf("nope"), 401, "NotAuthenticatedException"},
		"an empty key":                     {keyOf(""), 401, "NotAuthenticatedException"},
		"a key in another case":            {keyOf("ANN-KEY"), 401, "NotAuthenticatedException"},
		"a revoked key":                    {keyOf("revoked"), 401, "NotAuthenticatedException"},
		"a key of an unknown user":         {keyOf("early"), 401, "NotAuthenticatedException"},
		"a key of a disabled user":         {keyOf("old-key"), 401, "NotAuthenticatedException"},
		"a ticket of a disabled user":      {ticketOf("old-ticket"), 401, "NotAuthenticatedException"},
		"a key with a password":            {header("Authorization", "Basic YW5uLWtleTpw"), 401, "NotAuthenticatedException"},
		"a key in two halves":              {header("Authorization", "Basic YW5uLTprZXk="), 401, "NotAuthenticatedException"},
		"a key without a colon":            {header("Authorization", "Basic YW5uLWtleQ=="), 401, "NotAuthenticatedException"},
		"Basic that is not base64":         {header("Authorization", "Basic ***"), 401, "NotAuthenticatedException"},
		"another scheme":                   {header("Authorization", "Digest ann-key"), 401, "NotAuthenticatedException"},
		"a bare key":                       {header("Authorization", "ann-key"), 401, "NotAuthenticatedException"},
		"an unknown ticket":                {ticketOf("nope"), 401, "NotAuthenticatedException"},
		"a key as ticket":                  {ticketOf("ann-key"), 401, "NotAuthenticatedException"},
		"a good ticket and an unknown key": {both(ticketOf("ann-ticket"), keyOf("nope")), 401, "NotAuthenticatedException"},
		"two keys":                         {header("Authorization", "Bearer ann-key", "Bearer root-key"), 400, "IllegalArgumentException"},
		"two tickets":                      {header("X-DKU-APITicket", "ann-ticket", "root-ticket"), 400, "IllegalArgumentException"},
		"acting as another user with a plain user's key":    {creds(keyOf("ann-key")).as("root"), 403, "UnauthorizedException"},
		"acting as oneself with a plain user's key":         {creds(keyOf("ann-key")).as("ann"), 403, "UnauthorizedException"},
		"acting as another user with a plain user's ticket": {creds(ticketOf("ann-ticket")).as("root"), 403, "UnauthorizedException"},
		"acting as an unknown user":                         {creds(keyOf("root-key")).as("zed"), 404, "NotFoundException"},
		"acting as a user in another case":                  {creds(keyOf("root-key")).as("ANN"), 404, "NotFoundException"},
		"acting as a disabled user":                         {creds(keyOf("root-key")).as("old"), 404, "NotFoundException"},
		"acting as nobody":                                  {creds(keyOf("root-key")).as(""), 400, "IllegalArgumentException"},
		"acting as two users":                               {both(keyOf("root-key"), header("X-DKU-ProxyUser", "ann", "ops")), 400, "IllegalArgumentException"},
	} {
		t.Run(name, func(t *testing.T) {
			status, reply := call(t, fake, tc.by, "GET", authInfo, "")
			assert.Equal(t, tc.status, status)
			assertError(t, tc.kind, reply)
			assert.Empty(t, fake.LastCaller())
			last := lastCall(t, fake)
			assert.Equal(t, dsstest.Call{Method: "GET", Path: authInfo, Status: tc.status}, last)
		})
	}
}

func lastCall(t testing.TB, fake *dsstest.Server) dsstest.Call {
	t.Helper()
	log := fake.Log("")
	require.NotEmpty(t, log)
	return log[len(log)-1]
}

func TestCallerOfCredentials(t *testing.T) {
	fake := newFake(t)
	fake.AddAPIKey("global", "")
	fake.SetAPIKeyID("global", "ann") // a key's id may look like a login
	const (
		ann     = `"authIdentifier":"ann","groups":["analysts","readers"],"userProfile":"READER","associatedDSSUser":"ann"`
		someone = `"groups":[],"userProfile":"DESIGNER"`
	)
	for name, tc := range map[string]struct {
		by     creds
		caller string
		admin  bool
		reply  string
	}{
		"a user's own key": {keyOf("ann-key"), "ann", false,
			`{"authSource":"PERSONAL_API_KEY","via":[],` + ann + `,"userForImpersonation":"ann"}`},
		"a user's own key as Bearer": {header("Authorization", "bearer ann-key"), "ann", false,
			`{"authSource":"PERSONAL_API_KEY","via":[],` + ann + `,"userForImpersonation":"ann"}`},
		"a user's own key as the password of Basic": {header("Authorization", "Basic OmFubi1rZXk="), "ann", false,
			`{"authSource":"PERSONAL_API_KEY","via":[],` + ann + `,"userForImpersonation":"ann"}`},
		"a ticket": {ticketOf("ann-ticket"), "ann", false,
			`{"authSource":"USER_FROM_UI","via":[],` + ann + `,"userForImpersonation":"ann"}`},
		"an administrator's own key": {keyOf("root-key"), "root", true,
			`{"authSource":"PERSONAL_API_KEY","via":[],"authIdentifier":"root",` + someone + `,"associatedDSSUser":"root","userForImpersonation":"root"}`},
		"a global key has an id, and neither login nor groups": {keyOf("global"), "", true,
			`{"authSource":"GLOBAL_API_KEY","via":[],"authIdentifier":"ann"}`},
		"a global key acting as a user": {creds(keyOf("global")).as("ann"), "ann", false,
			`{"authSource":"USER_FROM_UI","via":[],` + ann + `}`},
		"an administrator's key acting as a user": {creds(keyOf("root-key")).as("ann"), "ann", false,
			`{"authSource":"USER_FROM_UI","via":[],` + ann + `,"userForImpersonation":"root"}`},
		"an administrator by group acting as a user": {creds(keyOf("ops-key")).as("ann"), "ann", false,
			`{"authSource":"USER_FROM_UI","via":[],` + ann + `,"userForImpersonation":"ops"}`},
		"an administrator's ticket acting as another administrator": {creds(ticketOf("ops-ticket")).as("root"), "root", true,
			`{"authSource":"USER_FROM_UI","via":[],"authIdentifier":"root",` + someone + `,"associatedDSSUser":"root","userForImpersonation":"ops"}`},
		"a key beside a ticket acts with the key's rights": {both(ticketOf("ann-ticket"), keyOf("root-key")), "root", true,
			`{"authSource":"PERSONAL_API_KEY","via":[],"authIdentifier":"root",` + someone + `,"associatedDSSUser":"root","userForImpersonation":"root"}`},
	} {
		t.Run(name, func(t *testing.T) {
			status, reply := call(t, fake, tc.by, "GET", authInfo+"?withSecrets=False", "")
			assert.Equal(t, 200, status)
			assert.JSONEq(t, tc.reply, reply)
			assert.Equal(t, tc.caller, fake.LastCaller())
			assert.Equal(t, dsstest.Call{Method: "GET", Path: authInfo, Caller: tc.caller, Admin: tc.admin, Status: 200}, lastCall(t, fake))
		})
	}
}

func TestKeysAndTicketsEnd(t *testing.T) {
	fake := newFake(t)
	fake.AddTicket("spare", "")
	require.Equal(t, "ann", whoAmI(t, fake, ticketOf("ann-ticket")))
	require.Empty(t, whoAmI(t, fake, ticketOf("spare")), "a ticket without a user")

	fake.ExpireTickets()
	for _, ticket := range []string{"ann-ticket", "spare"} {
		status, _ := call(t, fake, ticketOf(ticket), "GET", authInfo, "")
		assert.Equal(t, 401, status, ticket)
	}

	fake.RemoveAPIKey(fake.AdminKey())
	status, reply := call(t, fake, keyOf(fake.AdminKey()), "GET", authInfo, "")
	assert.Equal(t, 401, status)
	assert.JSONEq(t, `{"errorType":"com.dataiku.dip.exceptions.NotAuthenticatedException","message":"Unknown API Key"}`, reply)
}

func TestUsersChange(t *testing.T) {
	fake := newFake(t)
	cookie := fake.SignIn("ann")
	groups := []string{"readers"}
	fake.AddUser(dsstest.User{Login: "ann", Groups: groups, DisplayName: "Ann B."})
	groups[0] = "administrators"

	status, reply := call(t, fake, keyOf("ann-key"), "GET", authInfo, "")
	require.Equal(t, 200, status, "the key stays")
	assert.Equal(t, []any{"readers"}, decode(t, reply).(map[string]any)["groups"], "the groups change, and are a copy")
	assert.Equal(t, "ann", whoIs(t, fake, cookieOf(cookie)), "the session stays")
	_, reply = call(t, fake, keyOf("ann-key"), "GET", "/current-user", "")
	assert.Equal(t, "Ann B.", decode(t, reply).(map[string]any)["displayName"])

	fake.RemoveUser("ann")
	fake.AddUser(dsstest.User{Login: "ann"})
	assert.Empty(t, whoIs(t, fake, cookieOf(cookie)), "a removed user's session is gone for good")
	for name, by := range map[string]creds{"key": keyOf("ann-key"), "ticket": ticketOf("ann-ticket")} {
		status, _ := call(t, fake, by, "GET", authInfo, "")
		assert.Equal(t, 401, status, "a removed user's %s is gone for good", name)
	}
	assert.Panics(t, func() { fake.AddUser(dsstest.User{}) })
}

func TestRemovingUnknownUserKeepsGlobalKeys(t *testing.T) {
	fake := newFake(t)
	fake.RemoveUser("")
	status, _ := call(t, fake, keyOf(fake.AdminKey()), "GET", authInfo, "")
	assert.Equal(t, 200, status)
}

func TestUserInfo(t *testing.T) {
	fake := newFake(t)
	fake.AddUser(dsstest.User{Login: "a/b c@example.com"})
	for path, want := range map[string]string{
		"/users/ann":                   `{"login":"ann","displayName":"Ann","email":"ann@example.com","groups":["analysts","readers"],"enabled":true}`,
		"/users/old":                   `{"login":"old","displayName":"","email":"","groups":[],"enabled":false}`,
		"/users/a%2Fb%20c@example.com": `{"login":"a/b c@example.com","displayName":"","email":"","groups":[],"enabled":true}`,
	} {
		status, reply := call(t, fake, keyOf("ann-key"), "GET", path, "")
		assert.Equal(t, 200, status, path)
		assert.JSONEq(t, want, reply)
	}
	status, reply := call(t, fake, keyOf("ann-key"), "GET", "/users/ANN", "")
	assert.Equal(t, 404, status)
	assert.JSONEq(t, `{"errorType":"com.dataiku.dip.server.controllers.NotFoundException","message":"not found","detailedMessage":"user does not exist: ANN"}`, reply)

	status, reply = call(t, fake, keyOf("ann-key"), "GET", "/users", "")
	assert.Equal(t, 200, status)
	assert.Len(t, decode(t, reply), 5)
}

func TestRestrictedUsers(t *testing.T) {
	fake := newFake(t)
	fake.Configure(dsstest.Options{RestrictedUsers: true})
	for _, path := range []string{"/users", "/users/", "/users/ann", "/users/zed"} {
		status, reply := call(t, fake, keyOf("ann-key"), "GET", path, "")
		assert.Equal(t, 403, status, path)
		assertError(t, "UnauthorizedException", reply)
	}
	status, _ := call(t, fake, keyOf("root-key"), "GET", "/users/ann", "")
	assert.Equal(t, 200, status)
	status, _ = call(t, fake, keyOf("ann-key"), "GET", "/current-user", "")
	assert.Equal(t, 200, status, "a user's own name is in the own settings")
}

func TestEndpoints(t *testing.T) {
	fake := newFake(t)
	for target, want := range map[string]int{
		"/projects/":      200,
		"/projects":       200,
		"/users/":         200,
		"/auth/info/":     404,
		"/nothing":        404,
		"//auth/info":     404,
		"/x/../auth/info": 404,
		"/":               404,
	} {
		status, _ := call(t, fake, keyOf("ann-key"), "GET", target, "")
		assert.Equal(t, want, status, target)
	}
	status, _ := call(t, fake, keyOf("ann-key"), "DELETE", authInfo, "")
	assert.Equal(t, 404, status)
	for _, outside := range []string{"/", "/auth/info", "/dip/publicapi", "/dip/publicapiX/auth/info"} {
		resp, err := http.Get(fake.URL() + outside)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 404, resp.StatusCode, outside)
		assert.Contains(t, resp.Header.Get("Content-Type"), "text/html")
	}
}

func TestHandle(t *testing.T) {
	fake := newFake(t)
	fake.Handle("POST /projects/{key}/run", func(w http.ResponseWriter, r *http.Request, caller string) {
		w.Write([]byte(caller + " runs " + r.PathValue("key")))
	})
	fake.Handle("GET /users/{login}", func(http.ResponseWriter, *http.Request, string) {})

	status, reply := call(t, fake, keyOf("ann-key"), "POST", "/projects/SALES/run", "")
	assert.Equal(t, 200, status)
	assert.Equal(t, "ann runs SALES", reply)

	_, reply = call(t, fake, keyOf("ann-key"), "GET", "/users/ann", "")
	assert.Empty(t, reply, "an added endpoint goes before the fake's own")
	assert.Equal(t, 200, lastCall(t, fake).Status)

	status, _ = call(t, fake, keyOf("nope"), "POST", "/projects/SALES/run", "")
	assert.Equal(t, 401, status, "credentials are asked for first")
}
