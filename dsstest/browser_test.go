package dsstest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestBrowserHeadersOfAnonymous(t *testing.T) {
	fake := newFake(t)
	fake.AddSession("sid", "ann", "ann")
	fake.AddSession("sid", "old", "old")
	fake.AddSession("sid", "early", "nobody-yet")
	for name, headers := range map[string]string{
		"no headers":                         `{}`,
		"no cookies":                         `{"Cookie": ""}`,
		"another cookie":                     `{"Cookie": "a=1"}`,
		"another value":                      `{"Cookie": "sid=ANN"}`,
		"the cookie's name in another case":  `{"Cookie": "SID=ann"}`,
		"the value in the middle of another": `{"Cookie": "a=1,sid=ann"}`,
		"a disabled user's session":          `{"Cookie": "sid=old"}`,
		"a session of an unknown user":       `{"Cookie": "sid=early"}`,
		"an unknown key":                     `{"Authorization": "Bearer nope"}`,
		"an ignored header":                  `{"X-Cookie": "sid=ann"}`,
		"acting as an unknown user":          `{"X-DKU-ProxyUser": "zed"}`,
	} {
		t.Run(name, func(t *testing.T) {
			assert.Empty(t, whoIs(t, fake, headers))
			status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", browserTicket, headers)
			assert.Equal(t, 401, status)
			assertError(t, "NotAuthenticatedException", reply)
		})
	}
}

func TestBrowserHeadersOfUser(t *testing.T) {
	fake := newFake(t)
	fake.AddSession("sid", "a", "ann")
	fake.AddSession("other", "r", "root")
	fake.AddSession("sid", "old", "old")
	for name, tc := range map[string]struct{ headers, login string }{
		"one cookie among others":               {`{"Host": "app", "Cookie": "a=1; sid=a; b=2"}`, "ann"},
		"without spaces, at the end":            {`{"Cookie": "a=1;sid=a"}`, "ann"},
		"the header's name in any case":         {`{"cOOKIE": "sid=a"}`, "ann"},
		"the first of two live sessions":        {`{"Cookie": "other=r; sid=a"}`, "root"},
		"the same the other way round":          {`{"Cookie": "sid=a; other=r"}`, "ann"},
		"a personal key":                        {`{"authorization": "Bearer ann-key"}`, "ann"},
		"a personal key as Basic":               {`{"Authorization": "Basic YW5uLWtleTo="}`, "ann"},
		"a session goes before a key":           {`{"Authorization": "Bearer ann-key", "Cookie": "other=r"}`, "root"},
		"a key beside an ended session":         {`{"Authorization": "Bearer ann-key", "Cookie": "sid=gone"}`, "ann"},
		"a smuggled X-DKU-ProxyUser is trusted": {`{"Cookie": "sid=a", "x-dku-proxyuser": "root"}`, "root"},
		"also with another spelling":            {`{"Cookie": "sid=a", "X_DKU_ProxyUser": "root"}`, "root"},
		"a smuggled X-DKU-APITicket is trusted": {`{"Cookie": "sid=a", "X-DKU-APITicket": "root-ticket"}`, "root"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.login, whoIs(t, fake, tc.headers))
			assert.Empty(t, fake.LastCaller(), "the caller is the key, not the visitor")
		})
	}
}

func TestBrowserOfAnAPIKey(t *testing.T) {
	fake := newFake(t)
	fake.AddAPIKey("global", "")
	fake.SetAPIKeyID("global", "ann")
	status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", browserInfo+"?withSecrets=true", `{"Authorization": "Bearer global"}`)
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"authSource":"GLOBAL_API_KEY","via":[],"authIdentifier":"ann"}`, reply)
}

func TestMalformedBrowserHeaders(t *testing.T) {
	fake := newFake(t)
	for name, body := range map[string]string{
		"nothing":                          ``,
		"null":                             `null`,
		"a list":                           `["Cookie"]`,
		"a string":                         `"Cookie"`,
		"a list of values":                 `{"Cookie": ["a=1"]}`,
		"a number":                         `{"Cookie": 1}`,
		"a null value":                     `{"Cookie": null}`,
		"an object":                        `{"Cookie": {}}`,
		"something behind it":              `{"Cookie": "a=1"} {}`,
		"an object that does not end":      `{"Cookie": "a=1"`,
		"a comma too many":                 `{"Cookie": "a=1",}`,
		"single quotes":                    `{'Cookie': 'a=1'}`,
		"a header twice":                   `{"Cookie": "a=1", "Cookie": "b=1"}`,
		"a header twice, in another case":  `{"Cookie": "a=1", "cookie": "b=1"}`,
		"bytes that are not UTF-8":         "{\"Cookie\": \"a=\xff\"}",
		"a control character in a string":  "{\"Cookie\": \"a=\x01\"}",
		"a byte order mark":                "\ufeff{}",
		"the headers as a form":            `Cookie=a`,
		"an object within a list of those": `[{"Cookie": "a=1"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{browserInfo, browserTicket} {
				status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", path, body)
				assert.Equal(t, 400, status)
				assertError(t, "IllegalArgumentException", reply)
			}
			assert.Nil(t, fake.LastBrowserHeaders())
		})
	}
}

func TestSessions(t *testing.T) {
	fake := newFake(t)
	one, two := fake.SignIn("ann"), fake.SignIn("ann")
	require.NotEqual(t, one.Value, two.Value)
	require.Equal(t, "ann", whoIs(t, fake, cookieOf(one)))
	assert.NotEqual(t, one.Name, newFake(t).SignIn("ann").Name, "the name depends on the instance")

	fake.SignOut(one)
	assert.Empty(t, whoIs(t, fake, cookieOf(one)))
	assert.Equal(t, "ann", whoIs(t, fake, cookieOf(two)), "only that session ended")

	fake.AddSession(two.Name, two.Value, "root")
	assert.Equal(t, "root", whoIs(t, fake, cookieOf(two)), "another user signed in")

	fake.EndSessions()
	assert.Empty(t, whoIs(t, fake, cookieOf(two)))
	assert.PanicsWithValue(t, `dsstest: SignIn("zed"): no such user; call AddUser first`, func() { fake.SignIn("zed") })
}

func TestTickets(t *testing.T) {
	fake := newFake(t)
	cookie := fake.SignIn("ann")
	status, reply := call(t, fake, ticketOf("root-ticket"), "POST", browserTicket, cookieOf(cookie))
	require.Equal(t, 200, status)
	assert.Equal(t, "root", fake.LastCaller(), "the application's own key asks for the ticket")
	assertTicketOf(t, fake, "ann", reply)
	assert.Equal(t, "ann", fake.LastCaller(), "and acts as the visitor")

	fake.Configure(dsstest.Options{BareTickets: true})
	status, bare := call(t, fake, keyOf(fake.AdminKey()), "POST", browserTicket, cookieOf(cookie))
	require.Equal(t, 200, status)
	assert.Equal(t, "ann", whoAmI(t, fake, ticketOf(bare)))

	fake.SignOut(cookie)
	assert.Equal(t, "ann", whoAmI(t, fake, ticketOf(bare)), "a ticket outlives its session")
	fake.ExpireTickets()
	status, _ = call(t, fake, ticketOf(bare), "GET", authInfo, "")
	assert.Equal(t, 401, status)
}

func TestNoImpersonation(t *testing.T) {
	fake := newFake(t)
	ann, root := cookieOf(fake.SignIn("ann")), cookieOf(fake.SignIn("root"))
	for name, tc := range map[string]struct {
		groups    []string
		ann, root int
	}{
		"of nobody":      {nil, 200, 200},
		"of a group":     {[]string{"elsewhere", "readers"}, 403, 200},
		"of no member":   {[]string{"READERS", ""}, 200, 200},
		"of everybody":   {[]string{"*"}, 403, 403},
		"a login is not": {[]string{"ann"}, 200, 200},
	} {
		t.Run(name, func(t *testing.T) {
			fake.Configure(dsstest.Options{NoImpersonation: tc.groups})
			for headers, want := range map[string]int{ann: tc.ann, root: tc.root} {
				status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", browserTicket, headers)
				assert.Equal(t, want, status)
				if want == 403 {
					assertError(t, "UnauthorizedException", reply)
				}
			}
			assert.Equal(t, "ann", whoIs(t, fake, ann), "a lookup is still allowed")
		})
	}
}

func TestHideAccessTokens(t *testing.T) {
	fake := newFake(t)
	cookie := cookieOf(fake.SignIn("ann"))
	fake.Configure(dsstest.Options{HideAccessTokens: true})
	assert.Empty(t, whoIs(t, fake, cookie))
	assert.Equal(t, "ann", whoIs(t, fake, `{"Authorization": "Bearer ann-key"}`), "keys are still seen")
	fake.Configure(dsstest.Options{})
	assert.Equal(t, "ann", whoIs(t, fake, cookie))
}

func TestEmptyIdentifier(t *testing.T) {
	fake := newFake(t)
	fake.Configure(dsstest.Options{EmptyIdentifier: true})
	status, reply := call(t, fake, keyOf(fake.AdminKey()), "POST", browserInfo, `{}`)
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"via":[],"authIdentifier":""}`, reply)
	status, _ = call(t, fake, keyOf("nope"), "POST", browserInfo, `{}`)
	assert.Equal(t, 401, status, "an unknown key is still an error")
	status, _ = call(t, fake, keyOf(fake.AdminKey()), "POST", browserInfo, `[]`)
	assert.Equal(t, 400, status, "a malformed body, too")
	status, _ = call(t, fake, keyOf(fake.AdminKey()), "POST", browserTicket, `{}`)
	assert.Equal(t, 401, status, "an anonymous visitor gets no ticket")
}

func TestAdminLookupsOnly(t *testing.T) {
	fake := newFake(t)
	cookie := cookieOf(fake.SignIn("ann"))
	status, _ := call(t, fake, keyOf("ann-key"), "POST", browserInfo, cookie)
	require.Equal(t, 200, status, "any valid credentials do by default")

	fake.Configure(dsstest.Options{AdminLookupsOnly: true})
	for _, path := range []string{browserInfo, browserTicket} {
		status, reply := call(t, fake, keyOf("ann-key"), "POST", path, cookie)
		assert.Equal(t, 403, status)
		assertError(t, "UnauthorizedException", reply)
		status, _ = call(t, fake, keyOf("root-key"), "POST", path, cookie)
		assert.Equal(t, 200, status)
	}
}

func TestLastBrowserHeaders(t *testing.T) {
	fake := newFake(t)
	assert.Nil(t, fake.LastBrowserHeaders())
	whoIs(t, fake, `{"Cookie": "a=\"1\"; b=é", "authorization": ""}`)
	want := map[string]string{"Cookie": `a="1"; b=é`, "authorization": ""}
	got := fake.LastBrowserHeaders()
	assert.Equal(t, want, got)
	got["Cookie"] = ""
	assert.Equal(t, want, fake.LastBrowserHeaders(), "it is a copy")
	call(t, fake, keyOf("nope"), "POST", browserInfo, `{"Cookie": "other"}`)
	assert.Equal(t, want, fake.LastBrowserHeaders(), "a refused caller's headers are not read")
}

func TestLookupsOfOtherMethods(t *testing.T) {
	fake := newFake(t)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		status, _ := call(t, fake, keyOf("root-key"), method, browserInfo, `{}`)
		assert.Equal(t, 404, status, method)
	}
}
