package promises

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

const notSignedInClass = "com.dataiku.dip.exceptions.NotAuthenticatedException"

// If a visitor's cookies, or our own key, contain a word of DSS's reply, the reply
// still has the same meaning.
func TestVisitorsBytesDoNotChangeWhatDSSMeans(t *testing.T) {
	for _, key := range []string{"dkuaps-ordinary-key", "k", "e", "dataiku", "Exception"} {
		fake := dsstest.NewServer(t)
		fake.AddUser(dsstest.User{Login: "ann"})
		fake.AddAPIKey(key, "")
		session := fake.SignIn("ann").String()
		client, err := dss.New(dss.Config{URL: fake.URL(), APIKey: key})
		require.NoError(t, err)
		for _, cookie := range []string{
			"theme=light", "theme=dataiku", "x=Exception", "x=e", "x=.", "x=com", "x=" + notSignedInClass, "NotAuthenticatedException", "errorType=errorType",
			`x="errorType"`, `x={"errorType":"` + notSignedInClass + `"}`, "x=401", "x=null", "x=\ufffd", `x=\ud800`, "x=" + strings.Repeat(`"`, 15<<10),
		} {
			m := newAuth(t, dssauth.Config{Client: client})
			assert.Equal(t, "401", who(m, withCookies(cookie)), "key %q, cookie %.100q", key, cookie)
			assert.Equal(t, "ann", who(m, withCookies(cookie+"; "+session)), "key %q, cookie %.100q", key, cookie)
		}
		client.CloseIdleConnections()
	}
}

// The same if DSS repeats credentials in its text, in any form.
func TestQuotesInRepliesDoNotChangeTheirMeaning(t *testing.T) {
	for form, quote := range quotations {
		t.Run(form, func(t *testing.T) {
			fake := dsstest.NewServer(t)
			m := newAuth(t, dssauth.Config{Client: fake.Client()})
			fake.Intercept(lookupPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				body, _ := io.ReadAll(r.Body)
				said := quote(string(body) + fmt.Sprint(r.Header))
				dsstest.Respond(401, `{"errorType": "`+notSignedInClass+`", "message": "`+said+`", "detailedMessage": "`+said+said+`"}`)(w, r, next)
			})
			for _, cookie := range []string{"theme=dataiku", "x=\ufffd", "x=é", "x=" + strings.Repeat(`"`, 15<<10)} {
				assert.Equal(t, "401", who(m, withCookies(cookie)), "cookie %.100q", cookie)
			}
		})
	}
}

// quotations are the forms in which DSS can say what it was sent, as they stand
// in a string of JSON.
var quotations = map[string]func(sent string) string{
	"as it was": quoted,
	"in escapes": func(sent string) string {
		var b strings.Builder
		for _, c := range sent {
			fmt.Fprintf(&b, `\u%04x`, c)
		}
		return b.String()
	},
	"quoted":      func(sent string) string { return quoted(quoted(sent)) },
	"in one line": func(sent string) string { return quoted(strings.Join(strings.Fields(sent), " ")) },
	"decoded": func(sent string) string {
		decoded, _ := url.PathUnescape(strings.ReplaceAll(sent, "%!", "%25!"))
		_, key, _ := strings.Cut(sent, "Basic ")
		key, _, _ = strings.Cut(key, "]")
		own, _ := base64.StdEncoding.DecodeString(key)
		return quoted(decoded + " " + string(own))
	},
	"cut within a character": func(sent string) string {
		if i := strings.IndexFunc(sent, func(r rune) bool { return r >= 0x80 }); i >= 0 {
			return quoted(sent[:i]) + sent[i:i+1]
		}
		return quoted(sent[:len(sent)/2])
	},
	"half a character": func(sent string) string { return quoted(sent) + `\ud83d` },
	"truncated":        func(sent string) string { return quoted(sent[:min(len(sent), 24)] + "…") },
	"a login":          func(string) string { return "user does not exist: l0g1n-of-ann" },
	"a word of it":     func(string) string { return "c4n4ry" },
}

// quoted is s in a string of JSON.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.Trim(strings.TrimSpace(b.String()), `"`)
}

// onTheWire answers in place of DSS with bytes of any kind. SAID stands for DSS's text.
func onTheWire(reply string, quote func(string) string) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		body, _ := io.ReadAll(r.Body)
		said := quote(string(body) + fmt.Sprint(r.Header))
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, strings.ReplaceAll(reply, "SAID", said))
	}
}

// For any server in place of DSS, and any reply: errors, hooks and the log have only
// words of ours, in every form of printing.
func TestSentBytesReachNoErrorHookOrLog(t *testing.T) {
	for name, reply := range map[string]string{
		"in place of HTTP":      "SAID\r\n\r\n",
		"as the version":        "SAID 200 OK\r\n\r\n",
		"as the status":         "HTTP/1.1 SAID\r\n\r\n",
		"as a header":           "HTTP/1.1 200 OK\r\nSAID\r\n\r\n",
		"as the length":         "HTTP/1.1 200 OK\r\nContent-Length: SAID\r\n\r\n",
		"as the encoding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: SAID\r\n\r\n",
		"as a chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSAID\r\n",
		"as a body":             "HTTP/1.1 200 OK\r\n\r\nSAID",
		"as a login":            "HTTP/1.1 200 OK\r\n\r\n{\"authIdentifier\": [\"SAID\"], \"authSource\": \"SAID\", \"msg\": \"<SAID>\"}",
		"as where to go":        "HTTP/1.1 302 Found\r\nLocation: https://SAID/SAID\r\n\r\n",
		"as a refusal":          "HTTP/1.1 401 SAID\r\n\r\n{\"errorType\": \"" + notSignedInClass + "\", \"message\": \"SAID\", \"detailedMessage\": \"SAID\"}",
		"as a refusal of a key": "HTTP/1.1 403 SAID\r\n\r\n{\"errorType\": \"x.UnauthorizedException\", \"message\": \"SAID\"}",
		"as a class":            "HTTP/1.1 500 SAID\r\n\r\n{\"errorType\": \"no SAID\", \"message\": \"SAID\"}",
		"as a page":             "HTTP/1.1 502 SAID\r\nRetry-After: SAID\r\n\r\n<h1>SAID</h1>",
	} {
		t.Run(name, func(t *testing.T) {
			for form, quote := range quotations {
				p := new(printed)
				tellWhatWasSent(t, p, onTheWire(reply, quote))
				for _, leak := range p.showing(append([]string{"l0g1n", "s3ssion", "malformed", "net/http"}, forms...)) {
					t.Errorf("%s: %s", form, leak)
				}
			}
		})
	}
}

// tellWhatWasSent records errors, hooks and log lines while answer stands in for DSS,
// before a visitor is known and after.
func tellWhatWasSent(t *testing.T, p *printed, answer dsstest.Interceptor) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "l0g1n-of-ann", Groups: []string{"analysts"}})
	fake.AddSession("session", `c4n4ry%2Ds3ssion`, "l0g1n-of-ann")
	fake.AddAPIKey(keyCanary, "")
	client, err := dss.New(dss.Config{URL: fake.URL(), APIKey: keyCanary})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	note := func(what string, err error) {
		if err != nil {
			p.value(what, err)
		}
	}
	config := dssauth.Config{
		Client: client, Impersonation: dssauth.ByTicket, UserDetails: true, Logger: p.logger(),
		Hooks: dssauth.Hooks{
			LookupEnd: func(_ context.Context, l dssauth.Lookup) { p.value("LookupEnd", l); note("LookupEnd's error", l.Err) },
			Refused:   func(_ *http.Request, err error) { note("Refused", err) },
		},
		OnError: func(w http.ResponseWriter, r *http.Request, err error) {
			note("OnError", err)
			dssauth.WriteRefusal(w, r, err)
		},
	}
	ann := func() *http.Request {
		return request("GET", "/", "Cookie", `session=c4n4ry%2Ds3ssion; other="c4n4ry+s3ssion"; é=c4n4ry`)
	}
	known := newAuth(t, config)
	gate := known.Require(func(r *http.Request, _ dssauth.Identity) error {
		return client.Do(r.Context(), "GET", "/projects/", nil, nil) // as gates
	})
	calls := known.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fake.Intercept("", -1, answer)
		ctx := r.Context()
		_, err := dssauth.SecretsFromContext(ctx)
		note("secrets", err)
		visitor, err := dssauth.ClientFromContext(ctx)
		require.NoError(t, err)
		var projects []struct{ ProjectKey string }
		note("a call as the visitor", visitor.Do(ctx, "GET", "/projects/", nil, &projects))
		_, err = client.User(ctx, "l0g1n-of-bob")
		note("a user", err)
		_, err = client.As(" l0g1n-of-bob")
		note("acting as somebody", err)
		_, err = client.AuthInfo(ctx)
		note("who we are", err)
		serve(gate(http.NotFoundHandler()), r)
		live, end := known.WhileSignedIn(r, time.Hour)
		end()
		note("a connection's end", context.Cause(live))
	}))
	require.Equal(t, 200, serve(calls, ann()).Code, "ann is known before it begins")

	_, err = newAuth(t, config).Authenticate(ann())
	require.Error(t, err)
	note("Authenticate", err)
	require.NotEqual(t, 200, serve(newAuth(t, config).Handler(unreachable(t)), ann()).Code)
}

// An application that wants DSS's words can ask for them.
func TestDSSsWordsCanBeAskedFor(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.Intercept(lookupPath, -1, dsstest.Respond(500, `{"errorType": "x.E", "message": "no c4n4ry"}`))
	m := newAuth(t, dssauth.Config{Client: fake.Client()})
	_, err := m.Authenticate(fromAnn())
	var reply *dss.Error
	require.ErrorAs(t, err, &reply)
	assert.Equal(t, "no c4n4ry", reply.Message())
	assert.EqualError(t, err, "dssauth: visitor cannot be identified now: the lookup failed: dss: 500 x.E")
}

// A program finds its own errors in ours.
func TestErrorsOfPluggedInCodeAreFound(t *testing.T) {
	own := fmt.Errorf("no database: %w", io.ErrClosedPipe)
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"an error of no kind":      {own, "the resolver failed: an error of type *fmt.wrapError"},
		"an outage":                {fmt.Errorf("%w: %w", dssauth.ErrUnavailable, own), "the resolver says so: an error of type *fmt.wrapErrors"},
		"a nobody":                 {fmt.Errorf("%w: %w", dssauth.ErrUnauthenticated, own), "the resolver says so: an error of type *fmt.wrapErrors"},
		"an answer of DSS":         {fmt.Errorf("asking: %w: %w", &dss.Error{StatusCode: 502}, own), "the resolver failed: dss: 502 Bad Gateway"},
		"a fault of the wire":      {fmt.Errorf("asking: %w: %w", &dss.WireError{Kind: "no reply in time"}, own), "the resolver failed: dss: no reply in time"},
		"one of ours, a long wait": {fmt.Errorf("%w: %w", tooLong(t), own), "the resolver says so: dssauth: visitor cannot be identified now: the lookup failed: dss: 429 Too Many Requests"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newAuth(t, dssauth.Config{Resolver: resolveFunc(func(context.Context, http.Header) (dssauth.Identity, error) {
				return dssauth.Identity{}, row.err
			})})
			_, err := m.Authenticate(fromAnn())
			assert.True(t, strings.HasSuffix(err.Error(), ": "+row.want), "%v", err)
			assert.ErrorIs(t, err, io.ErrClosedPipe)
			assert.Equal(t, name == "a nobody", errors.Is(err, dssauth.ErrUnauthenticated))
			assert.Equal(t, name != "a nobody", errors.Is(err, dssauth.ErrUnavailable))
			if name == "one of ours, a long wait" {
				w := serve(m.Handler(unreachable(t)), fromAnn())
				assert.Equal(t, "4", w.Header().Get("Retry-After"))
			}
		})
	}
}

// A gate's refusal keeps its own words.
func TestAGatesRefusalIsPassedOn(t *testing.T) {
	forbidden := fmt.Errorf("%w: the terms of use are not accepted", dssauth.ErrForbidden)
	var hook, page error
	m := newAuth(t, dssauth.Config{
		Resolver: newDoorman(),
		Hooks:    dssauth.Hooks{Refused: func(_ *http.Request, err error) { hook = err }},
		OnError:  func(w http.ResponseWriter, r *http.Request, err error) { page = err; dssauth.WriteRefusal(w, r, err) },
	})
	gate := m.Require(func(*http.Request, dssauth.Identity) error { return forbidden })
	assert.Equal(t, 403, serve(gate(unreachable(t)), fromAnn()).Code)
	assert.Equal(t, []error{forbidden, forbidden}, []error{hook, page})
}

// tooLong is a Middleware's error after DSS asked it to wait for 4 seconds.
func tooLong(t *testing.T) error {
	fake := dsstest.NewServer(t)
	fake.Intercept(lookupPath, -1, dsstest.Respond(429, "", "Retry-After", "4"))
	_, err := newAuth(t, dssauth.Config{Client: fake.Client()}).Authenticate(fromAnn())
	require.Error(t, err)
	return err
}
