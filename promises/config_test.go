package promises

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func someClient(t testing.TB) *dss.Client {
	t.Helper()
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "key-c4n4ry"})
	require.NoError(t, err)
	return client
}

func TestWrongSettings(t *testing.T) {
	client := someClient(t)
	asBob, err := client.As("bob")
	require.NoError(t, err)
	ok := newDoorman()
	tests := []struct {
		name   string
		config dssauth.Config
		want   string
	}{
		{"nobody to ask", dssauth.Config{}, `dssauth: Config.Client is missing: make one with dss.FromEnv or dss.New`},
		{"a client that New did not make", dssauth.Config{Client: new(dss.Client)}, `dssauth: Config.Client was not made by dss.New or dss.FromEnv`},
		{"a client that New did not make, beside a resolver", dssauth.Config{Client: new(dss.Client), Resolver: ok}, `dssauth: Config.Client was not made by dss.New or dss.FromEnv`},
		{"tickets by a client that acts as a user", dssauth.Config{Client: asBob, Impersonation: dssauth.ByTicket}, `dssauth: Config.Impersonation needs a Config.Client that was not made by As or WithTicket: dss: As: this client acts as a user already; use the one it was made from`},
		{"ProxyUser by a client that acts as a user", dssauth.Config{Client: asBob, Impersonation: dssauth.ByProxyUser}, `dssauth: Config.Impersonation needs a Config.Client that was not made by As or WithTicket: dss: As: this client acts as a user already; use the one it was made from`},
		{"tickets without a client", dssauth.Config{Resolver: ok, Impersonation: dssauth.ByTicket}, `dssauth: Config.Impersonation needs Config.Client`},
		{"ProxyUser without a client", dssauth.Config{Resolver: ok, Impersonation: dssauth.ByProxyUser}, `dssauth: Config.Impersonation needs Config.Client`},
		{"an impersonation that does not exist", dssauth.Config{Client: client, Impersonation: 3}, `dssauth: Config.Impersonation is 3: use NoImpersonation, ByTicket or ByProxyUser`},
		{"a negative impersonation", dssauth.Config{Client: client, Impersonation: -1}, `dssauth: Config.Impersonation is -1: use NoImpersonation, ByTicket or ByProxyUser`},
		{"details beside a resolver", dssauth.Config{Resolver: ok, UserDetails: true}, `dssauth: Config.UserDetails has no effect beside Config.Resolver: set DisplayName and Email there`},

		{"no headers", dssauth.Config{Resolver: ok, Headers: []string{}}, `dssauth: Config.Headers is empty: nil means Cookie and Authorization`},
		{"an empty header", dssauth.Config{Resolver: ok, Headers: []string{"Cookie", ""}}, `dssauth: Config.Headers: "" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header with a space", dssauth.Config{Resolver: ok, Headers: []string{"X Sso"}}, `dssauth: Config.Headers: "X Sso" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header with its colon", dssauth.Config{Resolver: ok, Headers: []string{"X-Sso:"}}, `dssauth: Config.Headers: "X-Sso:" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header with its value, which is not quoted", dssauth.Config{Resolver: ok, Headers: []string{"Authorization: Bearer c4n4ry"}}, `dssauth: Config.Headers: "Authorization:…" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header with a line end", dssauth.Config{Resolver: ok, Headers: []string{"X-Sso\r\n"}}, `dssauth: Config.Headers: "X-Sso\r\n" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header twice", dssauth.Config{Resolver: ok, Headers: []string{"Cookie", "cookie"}}, `dssauth: Config.Headers: "cookie" appears twice`},
		{"X-DKU-ProxyUser", dssauth.Config{Resolver: ok, Headers: []string{"X-DKU-ProxyUser"}}, `dssauth: Config.Headers: "X-DKU-ProxyUser" is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out`},
		{"x-dku-apiticket in lower case", dssauth.Config{Resolver: ok, Headers: []string{"x-dku-apiticket"}}, `dssauth: Config.Headers: "x-dku-apiticket" is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out`},
		{"X_DKU_ProxyUser with underscores", dssauth.Config{Resolver: ok, Headers: []string{"X_DKU_ProxyUser"}}, `dssauth: Config.Headers: "X_DKU_ProxyUser" is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out`},
		{"x-dKu_anything mixed", dssauth.Config{Resolver: ok, Headers: []string{"x-dKu_anything"}}, `dssauth: Config.Headers: "x-dKu_anything" is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out`},
		{"Host", dssauth.Config{Resolver: ok, Headers: []string{"host"}}, `dssauth: Config.Headers: "host" does not identify a visitor: leave it out`},
		{"Connection", dssauth.Config{Resolver: ok, Headers: []string{"Connection"}}, `dssauth: Config.Headers: "Connection" does not identify a visitor: leave it out`},
		{"Content-Length", dssauth.Config{Resolver: ok, Headers: []string{"Content-Length"}}, `dssauth: Config.Headers: "Content-Length" does not identify a visitor: leave it out`},

		{"no cookies", dssauth.Config{Resolver: ok, Cookies: []string{}}, `dssauth: Config.Cookies is empty: nil sends all except well-known stray ones; to send none, leave Cookie out of Config.Headers`},
		{"cookies without Cookie", dssauth.Config{Resolver: ok, Headers: []string{"Authorization"}, Cookies: []string{"a"}}, `dssauth: Config.Cookies is set, but Config.Headers leaves Cookie out: add "Cookie" to it`},
		{"a cookie without a name", dssauth.Config{Resolver: ok, Cookies: []string{""}}, `dssauth: Config.Cookies: "" is not a cookie name: name cookies as in "session" or "dss_*"`},
		{"a cookie with its value, which is not quoted", dssauth.Config{Resolver: ok, Cookies: []string{"session=c4n4ry"}}, `dssauth: Config.Cookies: "session=…" is not a cookie name: name cookies as in "session" or "dss_*"`},
		{"a cookie's bare value, which is not quoted", dssauth.Config{Resolver: ok, Cookies: []string{"dGhlLWM0bjRyeQ=="}}, `dssauth: Config.Cookies: "…" is not a cookie name: name cookies as in "session" or "dss_*"`},
		{"a broken pattern that is a value, which is not quoted", dssauth.Config{Resolver: ok, Cookies: []string{"dGhlLWM0bjRyeQ["}}, `dssauth: Config.Cookies: "…" is not a valid pattern: use * for any characters, as in "dss_*"`},
		{"a header's bare value, which is not quoted", dssauth.Config{Resolver: ok, Headers: []string{"Bearer dGhlLWM0bjRyeQ"}}, `dssauth: Config.Headers: "…" is not a header name: name headers as in "X-Sso-Session"`},
		{"a header's bare value twice, which is not quoted", dssauth.Config{Resolver: ok, Headers: []string{"dGhlLWM0bjRyeQ", "dGhlLWM0bjRyeQ"}}, `dssauth: Config.Headers: "…" appears twice`},
		{"a DSS header with its value behind it, which is not quoted", dssauth.Config{Resolver: ok, Headers: []string{"X-DKU-APITicket-dGhlLWM0bjRyeQ"}}, `dssauth: Config.Headers: "…" is never taken from a browser: DSS could read it as an order to act as somebody else; leave it out`},
		{"cookies in one string", dssauth.Config{Resolver: ok, Cookies: []string{"a, b"}}, `dssauth: Config.Cookies: "a, b" is not a cookie name: name cookies as in "session" or "dss_*"`},
		{"a broken pattern", dssauth.Config{Resolver: ok, Cookies: []string{"a["}}, `dssauth: Config.Cookies: "a[" is not a valid pattern: use * for any characters, as in "dss_*"`},

		{"a TTL without a unit", dssauth.Config{Resolver: ok, TTL: 10}, `dssauth: Config.TTL is 10ns: is a unit missing, as in 10*time.Second?`},
		{"a TTL of a day", dssauth.Config{Resolver: ok, TTL: 24 * time.Hour}, `dssauth: Config.TTL is 24h0m0s: the most is 1h0m0s, since a user who lost access keeps it that long`},
		{"a RefusalTTL without a unit", dssauth.Config{Resolver: ok, RefusalTTL: 2}, `dssauth: Config.RefusalTTL is 2ns: is a unit missing, as in 10*time.Second?`},
		{"a RefusalTTL of a day", dssauth.Config{Resolver: ok, RefusalTTL: 24 * time.Hour}, `dssauth: Config.RefusalTTL is 24h0m0s: the most is 1h0m0s, since a user who signs in waits that long`},
		{"a negative StaleIfError", dssauth.Config{Resolver: ok, StaleIfError: -time.Second}, `dssauth: Config.StaleIfError is -1s: it cannot be negative`},
		{"a StaleIfError of a week", dssauth.Config{Client: client, StaleIfError: 168 * time.Hour}, `dssauth: Config.StaleIfError is 168h0m0s: the most is 24h0m0s, since a user who lost access keeps it that long in an outage`},
		{"a StaleIfError beside a resolver", dssauth.Config{Resolver: ok, StaleIfError: time.Minute}, `dssauth: Config.StaleIfError has no effect beside Config.Resolver, since an outage of a Resolver cannot be seen: leave it zero, and bridge outages in the Resolver`},
		{"a StaleIfError beside a resolver and a client", dssauth.Config{Client: client, Resolver: ok, StaleIfError: time.Minute}, `dssauth: Config.StaleIfError has no effect beside Config.Resolver, since an outage of a Resolver cannot be seen: leave it zero, and bridge outages in the Resolver`},
		{"a StaleIfError of answers that are not kept", dssauth.Config{Client: client, StaleIfError: time.Minute, TTL: -1}, `dssauth: Config.StaleIfError needs remembered answers, but Config.TTL is negative: make one of them zero`},
		{"a negative Timeout", dssauth.Config{Resolver: ok, Timeout: -time.Second}, `dssauth: Config.Timeout is -1s: it cannot be negative`},
		{"a Timeout of an hour", dssauth.Config{Resolver: ok, Timeout: time.Hour}, `dssauth: Config.Timeout is 1h0m0s: the most is 1m0s, since a request waits that long`},
		{"a Timeout without a unit", dssauth.Config{Resolver: ok, Timeout: 5}, `dssauth: Config.Timeout is 5ns: is a unit missing, as in 10*time.Second?`},

		{"one lookup, which leaves no lane", dssauth.Config{Resolver: ok, MaxLookups: 1}, `dssauth: Config.MaxLookups is 1: use 2 to 65536, or 0 for the default`},
		{"negative lookups", dssauth.Config{Resolver: ok, MaxLookups: -1}, `dssauth: Config.MaxLookups is -1: use 2 to 65536, or 0 for the default`},
		{"too many lookups", dssauth.Config{Resolver: ok, MaxLookups: 65537}, `dssauth: Config.MaxLookups is 65537: use 2 to 65536, or 0 for the default`},
		{"negative entries", dssauth.Config{Resolver: ok, MaxEntries: -1}, `dssauth: Config.MaxEntries is -1: use 1 to 16777216, or 0 for the default`},
		{"too many entries", dssauth.Config{Resolver: ok, MaxEntries: 1<<24 + 1}, `dssauth: Config.MaxEntries is 16777217: use 1 to 16777216, or 0 for the default`},
		{"negative entries of a user", dssauth.Config{Resolver: ok, MaxEntriesPerUser: -8}, `dssauth: Config.MaxEntriesPerUser is -8: use 1 to 1024, or 0 for the default`},
		{"too many entries of a user", dssauth.Config{Resolver: ok, MaxEntriesPerUser: 1025}, `dssauth: Config.MaxEntriesPerUser is 1025: use 1 to 1024, or 0 for the default`},
		{"headers too small for a session", dssauth.Config{Resolver: ok, MaxHeaderBytes: 255}, `dssauth: Config.MaxHeaderBytes is 255: use 256 to 1048576, or 0 for the default`},
		{"headers too large", dssauth.Config{Resolver: ok, MaxHeaderBytes: 1<<20 + 1}, `dssauth: Config.MaxHeaderBytes is 1048577: use 256 to 1048576, or 0 for the default`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := dssauth.New(tt.config)
			assert.EqualError(t, err, tt.want)
			assert.Nil(t, m)
		})
	}
}

func TestSettingsAtTheirBounds(t *testing.T) {
	for _, c := range []dssauth.Config{
		{TTL: time.Millisecond, RefusalTTL: time.Millisecond, Timeout: time.Millisecond, StaleIfError: time.Millisecond},
		{TTL: time.Hour, RefusalTTL: time.Hour, Timeout: time.Minute, StaleIfError: 24 * time.Hour},
		{TTL: -1, RefusalTTL: -1},
		{MaxLookups: 2, MaxEntries: 1, MaxEntriesPerUser: 1, MaxHeaderBytes: 256},
		{MaxLookups: 1 << 16, MaxEntriesPerUser: 1 << 10, MaxHeaderBytes: 1 << 20},
		{Headers: []string{"x-sso", "COOKIE", "X-Dk", "Xdku"}, Cookies: []string{"*"}},
		{Client: someClient(t), Impersonation: dssauth.ByProxyUser},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, client := newMemory(t)
			d.AddSession("session", "ann", "ann")
			switch {
			case c.StaleIfError > 0: // which is refused beside a Resolver
				c.Client = client
			default:
				c.Resolver = newDoorman()
			}
			m := newAuth(t, c)
			assert.Equal(t, "ann", serve(m.Handler(whoami), fromAnn()).Body.String(), "%+v", c)
		})
	}
}

func TestSettingsAreCopied(t *testing.T) {
	headers, cookies := []string{"Cookie"}, []string{"session"}
	known := newDoorman()
	m := newAuth(t, dssauth.Config{Resolver: known, Headers: headers, Cookies: cookies})
	headers[0], cookies[0] = "X-Dku-Proxyuser", "other"
	r := fromAnn()
	r.Header.Set("X-Dku-Proxyuser", "admin")
	assert.Equal(t, "ann", serve(m.Handler(whoami), r).Body.String())
	assert.Equal(t, http.Header{"Cookie": {"session=ann"}}, known.lastAsked())
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := newDoorman()
		m := newAuth(t, dssauth.Config{Resolver: known})
		asksNow := func(r *http.Request) bool {
			before := known.calls()
			serve(m.Optional(whoami), r)
			return known.calls() > before
		}
		require.True(t, asksNow(fromAnn()))
		pass(6 * time.Second)
		assert.False(t, asksNow(fromAnn()), "an answer lives for 10s, less a tenth, and is refreshed after 7/10 of that")
		pass(4 * time.Second)
		assert.True(t, asksNow(fromAnn()))

		nobody := request("GET", "/", "Cookie", "session=nobody")
		require.True(t, asksNow(nobody))
		pass(1900 * time.Millisecond)
		assert.False(t, asksNow(nobody), "a refusal lives for 2s")
		pass(200 * time.Millisecond)
		assert.True(t, asksNow(nobody))

		serve(m.Handler(whoami), request("GET", "/", "Authorization", strings.Repeat("a", 16<<10)))
		assert.Equal(t, 401, serve(m.Handler(whoami), request("GET", "/", "Authorization", strings.Repeat("a", 16<<10))).Code)
		assert.Equal(t, 431, serve(m.Handler(whoami), request("GET", "/", "Authorization", strings.Repeat("a", 16<<10+1))).Code)
		assert.Equal(t, 403, serve(m.Handler(whoami), request("GET", "/", "Authorization", "Bearer key")).Code, "API keys are not admitted")
	})
}

func TestLogsGoToTheDefaultLogger(t *testing.T) {
	var log logBook
	before := slog.Default()
	slog.SetDefault(log.logger())
	defer slog.SetDefault(before)
	m, err := dssauth.New(dssauth.Config{Resolver: resolveFunc(func(context.Context, http.Header) (dssauth.Identity, error) {
		return dssauth.Identity{}, errBroken
	})})
	require.NoError(t, err)
	serve(m.Handler(unreachable(t)), fromAnn())
	require.NoError(t, m.Close())
	assert.Len(t, log.with("level=WARN"), 1)
}

func TestEntriesAreBoundedByDefault(t *testing.T) {
	m := newAuth(t, dssauth.Config{Resolver: resolveFunc(func(_ context.Context, h http.Header) (dssauth.Identity, error) {
		login, _, _ := strings.Cut(strings.TrimPrefix(h.Get("Cookie"), "session="), "-")
		return dssauth.NewIdentity(login), nil
	})})
	for i := range 33 {
		assert.Equal(t, i, m.Stats().Entries)
		serve(m.Handler(whoami), request("GET", "/", "Cookie", fmt.Sprintf("session=ann-%d", i)))
	}
	assert.Equal(t, 32, m.Stats().Entries, "one user's")
	for i := range 10_100 {
		serve(m.Handler(whoami), request("GET", "/", "Cookie", fmt.Sprintf("session=user%d", i)))
	}
	assert.Equal(t, 10_000, m.Stats().Entries)
}

// No value that holds the client may print its credentials, with any verb.
func TestNothingPrintsCredentials(t *testing.T) {
	client := someClient(t)
	c := dssauth.Config{Client: client}
	m := newAuth(t, c)
	type holder struct {
		config dssauth.Config
		auth   *dssauth.Middleware
		client *dss.Client
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range []any{c, &c, m, client, holder{c, m, client}, &holder{c, m, client}, []any{c, m}, map[string]any{"c": c, "m": m}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T", "%p"} {
			assert.NotContains(t, fmt.Sprintf(verb, v), "c4n4ry", "%s of %T", verb, v)
			assert.NotContains(t, fmt.Sprintf(verb, v), fmt.Sprintf("%x", "c4n4ry"), "%s of %T", verb, v)
		}
		if text, err := json.Marshal(v); err == nil {
			assert.NotContains(t, string(text), "c4n4ry", "JSON of %T", v)
		}
		logger.Info("here", "value", v)
	}
	assert.NotContains(t, log.String(), "c4n4ry")
	assert.Equal(t, "dssauth.Middleware", fmt.Sprintf("%+v", m))
}
