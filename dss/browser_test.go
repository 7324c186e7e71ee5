package dss_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/latin1"
)

func TestBrowserHeadersSentToDSS(t *testing.T) {
	for name, row := range map[string]struct {
		in   http.Header
		want string
	}{
		"nothing":               {nil, `{}`},
		"one cookie":            {http.Header{"Cookie": {"a=1"}}, `{"Cookie":"a=1"}`},
		"several cookies":       {http.Header{"Cookie": {"a=1", "b=2; c=3"}}, `{"Cookie":"a=1; b=2; c=3"}`},
		"cookies in two cases":  {http.Header{"Cookie": {"a=1"}, "cookie": {"b=2"}}, `{"Cookie":"a=1; b=2"}`},
		"bytes as they are":     {http.Header{"Cookie": {`a="<&>é"; b=%41`}}, `{"Cookie":"a=\"<&>é\"; b=%41"}`},
		"lines of a list":       {http.Header{"X-Forwarded-For": {"10.0.0.1", "10.0.0.2, 10.0.0.3"}}, `{"X-Forwarded-For":"10.0.0.1, 10.0.0.2, 10.0.0.3"}`},
		"a list in two cases":   {http.Header{"Via": {"b"}, "via": {"a", ""}}, `{"Via":"b, a, "}`},
		"one line twice":        {http.Header{"Authorization": {"Bearer a"}, "authorization": {"Bearer a"}}, `{"Authorization":"Bearer a"}`},
		"a name in Latin-1":     {http.Header{"X-Name": {"Andr\xe9", "André"}}, `{"X-Name":"André, André"}`},
		"a cookie in Latin-1":   {http.Header{"Cookie": {"a=\xff\x80", "b=é"}}, "{\"Cookie\":\"a=ÿ\u0080; b=é\"}"},
		"a key in Latin-1":      {http.Header{"Authorization": {"Basic \xc3"}}, `{"Authorization":"Basic Ã"}`},
		"a name without values": {http.Header{"Cookie": {"a=1"}, "X-Empty": {}}, `{"Cookie":"a=1"}`},
		"the user to act as":    {http.Header{"Cookie": {"a=1"}, "X-Dku-Proxyuser": {"admin"}}, `{"Cookie":"a=1"}`},
		"as it was written":     {http.Header{"Cookie": {"a=1"}, "x-dku-ProxyUser": {"admin"}}, `{"Cookie":"a=1"}`},
		"with underscores":      {http.Header{"Cookie": {"a=1"}, "X_DKU_APITicket": {"t"}, "X-Dku_Future": {"t"}}, `{"Cookie":"a=1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, replying(http.StatusOK, aliceInfo))
			_, err := server.client(t).AuthInfoFromBrowserHeaders(t.Context(), row.in)
			require.NoError(t, err)
			sent := server.last(t)
			assert.Equal(t, row.want, sent.Body)
			assert.Equal(t, "application/json", sent.Header.Get("Content-Type"))
			assert.Empty(t, sent.Header.Get("Cookie"), "they are in the body only")
			assert.Empty(t, sent.Header.Get("X-DKU-ProxyUser"))
		})
	}
}

func TestBrowserHeadersRefused(t *testing.T) {
	for name, row := range map[string]struct {
		in   http.Header
		want string
	}{
		"two authorizations":          {http.Header{"Authorization": {"Bearer canary1", "Bearer canary2"}}, `there are Authorization headers that differ; DSS takes one`},
		"two spellings of a header":   {http.Header{"Authorization": {"canary1"}, "authorization": {"canary2"}}, `there are Authorization headers that differ; DSS takes one`},
		"three, of which two differ":  {http.Header{"Authorization": {"canary1", "canary1", "canary2"}}, `there are Authorization headers that differ; DSS takes one`},
		"a header name of such bytes": {http.Header{"X-\xff": {"canary"}}, `the name of the header "…" is not valid UTF-8, which JSON cannot carry`},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, replying(http.StatusOK, aliceInfo))
			_, err := server.client(t).AuthInfoFromBrowserHeaders(t.Context(), row.in)
			assert.EqualError(t, err, "dss: POST /auth/info-from-browser-headers: "+row.want)
			_, err = server.client(t).TicketFromBrowserHeaders(t.Context(), row.in)
			assert.EqualError(t, err, "dss: POST /auth/ticket-from-browser-headers: "+row.want)
			assert.Empty(t, server.requests(), "calls")
		})
	}
}

func TestTicket(t *testing.T) {
	for name, row := range map[string]struct{ reply, want string }{
		"as DSS answers":             {`{"msg": "ticket-1"}`, "ticket-1"},
		"with more beside it":        {`{"x": {}, "msg": "ticket-1"}`, "ticket-1"},
		"the ticket itself":          {"ticket-1", "ticket-1"},
		"with a line end after it":   {"ticket-1\r\n", "ticket-1"},
		"the ticket as JSON":         {`"ticket-1"`, "ticket-1"},
		"a ticket of digits":         {"12345", "12345"},
		"of 8 KiB":                   {strings.Repeat("t", 8<<10), strings.Repeat("t", 8<<10)},
		"of 8 KiB in DSS's JSON":     {`{"msg": "` + strings.Repeat("t", 8<<10) + `"}`, strings.Repeat("t", 8<<10)},
		"with signs of base64":       {`{"msg": "aZ09+/=_-.~"}`, "aZ09+/=_-.~"},
		"with an escape in its JSON": {`{"msg": "a\u0062c"}`, "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder(t, replying(http.StatusOK, row.reply))
			ticket, err := server.client(t).TicketFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"a=1"}})
			require.NoError(t, err)
			assert.Equal(t, row.want, ticket)
			assert.Equal(t, "/dip/publicapi/auth/ticket-from-browser-headers", server.last(t).Target)
		})
	}
}

func TestInvalidTicketsAreRefused(t *testing.T) {
	const unfit = "the ticket has spaces, control or other characters that a header cannot carry"
	for name, row := range map[string]struct{ reply, want string }{
		"nothing":               {"", "the ticket is empty"},
		"blank":                 {" \n", "the ticket is empty"},
		"an empty object":       {`{}`, "the body is an object whose msg is missing"},
		"an empty ticket":       {`{"msg": ""}`, "the body is an object whose msg is missing"},
		"a ticket null":         {`{"msg": null}`, "the body is an object whose msg is missing"},
		"a ticket of a number":  {`{"msg": 1}`, "the body is an object whose msg is not a string"},
		"in another case":       {`{"Msg": "canary"}`, "the body is an object whose msg is spelled in another case"},
		"twice":                 {`{"msg": "canary", "msg": "canary2"}`, "the body has a name twice"},
		"two replies":           {`{"msg": "canary"}{"msg": "canary2"}`, "the body has something after its end"},
		"an object cut short":   {`{"msg": "canary`, "the body is not valid JSON"},
		"a string cut short":    {`"canary`, "the body is not a string"},
		"null":                  {`null`, "the body is not a ticket"},
		"true":                  {`true`, "the body is not a ticket"},
		"a list":                {`["canary"]`, "the body is not a ticket"},
		"a page":                {`<html>canary</html>`, "the body is not a ticket"},
		"a sentence":            {`internal canary error`, unfit},
		"with a line end in it": {`{"msg": "canary\r\nX-DKU-ProxyUser: admin"}`, unfit},
		"outside ASCII":         {`{"msg": "canäry"}`, unfit},
		"invalid UTF-8":         {"canary\xff", unfit},
		"longer than 8 KiB":     {strings.Repeat("t", 8<<10+1), "the ticket is longer than 8 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			ticket, err := newRecorder(t, replying(http.StatusOK, row.reply)).client(t).TicketFromBrowserHeaders(t.Context(), nil)
			assert.EqualError(t, err, "dss: POST /auth/ticket-from-browser-headers: unexpected reply: "+row.want)
			assert.Empty(t, ticket)
		})
	}
}

func FuzzTicket(f *testing.F) {
	for _, seed := range []string{`{"msg": "ticket"}`, `ticket`, `"ticket"`, `null`, `{"msg": "a\nb"}`, `<html>`, "\xff", `"\ud800"`, `1`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ticket, err := dss.DecodeTicket(body)
		if err != nil {
			return
		}
		require.NotEmpty(t, ticket)
		require.LessOrEqual(t, len(ticket), 8<<10)
		for _, b := range []byte(ticket) {
			require.True(t, '!' <= b && b <= '~', "%q", ticket)
		}
	})
}

// FuzzHeaderDictionary checks that DSS reads the bytes that the browser sent,
// and that a browser cannot tell DSS which user to act as.
func FuzzHeaderDictionary(f *testing.F) {
	f.Add("Cookie", "a=1", "b=2")
	f.Add("X_Dku_ProxyUser", "admin", "")
	f.Add("Authorization", "<&>\u2028\x00", "")
	f.Add("Authorization", "\xff", "")
	f.Add("cookie", `a="\"`, "\ufffd")
	f.Fuzz(func(t *testing.T, name, one, two string) {
		h := http.Header{name: {one}}
		if two != "" {
			h[name] = append(h[name], two)
		}
		dictionary, err := dss.HeaderDictionary(h)
		if err != nil {
			require.True(t, two != "" && two != one || !utf8.ValidString(name), "a refusal without a reason")
			return
		}
		var read map[string]string
		require.NoError(t, json.Unmarshal(dss.EncodeTexts(dictionary), &read))
		require.Equal(t, dictionary, read)
		for name, value := range read {
			require.False(t, strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "x-dku-"), "%q", name)
			rest, found := strings.CutPrefix(value, latin1.Text(one))
			require.True(t, found, "the first line comes first")
			if two != "" && name != "Authorization" {
				separator := map[bool]string{true: "; ", false: ", "}[name == "Cookie"]
				require.Equal(t, separator+latin1.Text(two), rest)
			} else {
				require.Empty(t, rest)
			}
		}
	})
}

// DSS can quote any header that it was sent, and any header may hold a
// credential.
func TestNoErrorQuotesTheBrowser(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "cannot read %s", sent)
	}))
	t.Cleanup(server.Close)
	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "key"})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	for _, name := range []string{"Cookie", "Authorization", "X-Sso-Session"} {
		_, err := client.AuthInfoFromBrowserHeaders(t.Context(), http.Header{name: {"token=canary-5d41402a"}})
		assert.EqualError(t, err, "dss: 500 Internal Server Error", name)
	}
}
