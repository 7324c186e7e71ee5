package dss_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// wireCase is one call of the official client: its request, the reply, and the
// result that its caller got.
type wireCase struct {
	Name     string
	Result   json.RawMessage
	Error    string
	Requests []struct {
		Method, Target string
		Headers        map[string]string
		Body           json.RawMessage
	}
	Replies []struct {
		Status int
		Body   json.RawMessage
	}
}

// wireNames replace the recording's own names. They are new on each run, so
// that no code can be made to fit them.
type wireNames struct{ key, ticket, alice, bob, unknown, cookie, project string }

func readWire(t *testing.T) (wireNames, []wireCase) {
	to := wireNames{
		key: rand.Text(), ticket: rand.Text(), alice: rand.Text(), bob: rand.Text(), unknown: rand.Text(),
		cookie: rand.Text() + "=" + rand.Text(), project: rand.Text(),
	}
	basic := func(key string) string { return base64.StdEncoding.EncodeToString([]byte(key + ":")) }
	renames := strings.NewReplacer(
		"dkuaps-EXAMPLEKEY", to.key, basic("dkuaps-EXAMPLEKEY"), basic(to.key), "ticket-EXAMPLE", to.ticket,
		"alice", to.alice, "bob", to.bob, "/users/x", "/users/"+to.unknown, "exist: x", "exist: "+to.unknown,
		"dss_session=abc", to.cookie, "CHURN", to.project, "NOPE", to.unknown,
	)
	var cases []wireCase
	for _, file := range []string{"recorded.json", "projects.json"} {
		text, err := os.ReadFile("testdata/wire/" + file)
		require.NoError(t, err)
		var recording struct{ Cases []wireCase }
		require.NoError(t, json.Unmarshal([]byte(renames.Replace(string(text))), &recording))
		cases = append(cases, recording.Cases...)
	}
	require.Len(t, cases, 23+10, "cases of the recordings")
	return to, cases
}

// A wireCall makes the recorded call with this client. Its result has to be
// JSON-equal to the result of the official client.
type wireCall func(c *dss.Client, names wireNames, browser http.Header) (any, error)

func wireCalls(t *testing.T) map[string]wireCall {
	info := func(c *dss.Client, _ wireNames, _ http.Header) (any, error) {
		return facts(c.AuthInfo(t.Context()))
	}
	browserInfo := func(options ...dss.AuthInfoOption) wireCall {
		return func(c *dss.Client, _ wireNames, browser http.Header) (any, error) {
			return facts(c.AuthInfoFromBrowserHeaders(t.Context(), browser, options...))
		}
	}
	infoAsBob := func(c *dss.Client, names wireNames, _ http.Header) (any, error) {
		asBob, err := c.As(names.bob)
		require.NoError(t, err)
		return facts(asBob.AuthInfo(t.Context()))
	}
	user := func(login func(wireNames) string) wireCall {
		return func(c *dss.Client, names wireNames, _ http.Header) (any, error) {
			u, err := c.User(t.Context(), login(names))
			return map[string]any{"login": u.Login, "displayName": u.DisplayName, "email": u.Email, "groups": u.Groups, "enabled": u.Enabled}, err
		}
	}
	settings := func(change func(*dss.Settings)) wireCall {
		return func(c *dss.Client, _ wireNames, _ http.Header) (any, error) {
			s, err := c.OwnSettings(t.Context())
			require.NoError(t, err)
			change(s)
			return nil, s.Save(t.Context())
		}
	}
	get := func(c *dss.Client, path string) (reply json.RawMessage, err error) {
		err = c.Do(t.Context(), "GET", path, nil, &reply)
		return reply, err
	}
	project := func(path string) wireCall {
		return func(c *dss.Client, names wireNames, _ http.Header) (any, error) {
			return get(c, strings.ReplaceAll(path, "KEY", names.project))
		}
	}
	projectAsBob := func(path string) wireCall {
		return func(c *dss.Client, names wireNames, browser http.Header) (any, error) {
			asBob, err := c.As(names.bob)
			require.NoError(t, err)
			return project(path)(asBob, names, browser)
		}
	}
	projectByTicket := func(path string) wireCall {
		return func(c *dss.Client, names wireNames, browser http.Header) (any, error) {
			return project(path)(c.WithTicketSource(func(ctx context.Context) (string, error) {
				return c.TicketFromBrowserHeaders(ctx, browser)
			}), names, browser)
		}
	}
	return map[string]wireCall{
		"project_summary":                      project("/projects/KEY"),
		"project_summary_as_visitor_by_ticket": projectByTicket("/projects/KEY"),
		"project_summary_as_user":              projectAsBob("/projects/KEY"),
		"project_summary_forbidden":            projectAsBob("/projects/KEY"),
		"project_summary_unknown": func(c *dss.Client, names wireNames, _ http.Header) (any, error) {
			return get(c, "/projects/"+names.unknown)
		},
		"project_permissions":               project("/projects/KEY/permissions"),
		"project_jobs_as_visitor_by_ticket": projectByTicket("/projects/KEY/jobs/"),
		"project_jobs_as_user_forbidden":    projectAsBob("/projects/KEY/jobs/"),
		"projects":                          project("/projects/?includeLocation=False"),
		"project_keys": func(c *dss.Client, _ wireNames, _ http.Header) (any, error) {
			var list []struct{ ProjectKey string }
			err := c.Do(t.Context(), "GET", "/projects/", nil, &list)
			keys := []string{}
			for _, p := range list {
				keys = append(keys, p.ProjectKey)
			}
			return keys, err
		},
		"auth_info": info,
		"auth_info_secrets": func(c *dss.Client, _ wireNames, _ http.Header) (any, error) {
			return facts(c.AuthInfo(t.Context(), dss.WithSecrets()))
		},
		"auth_info_ticket":              info,
		"browser_headers":               browserInfo(),
		"browser_headers_secrets":       browserInfo(dss.WithSecrets()),
		"browser_headers_ticket_client": browserInfo(),
		"ticket_from_browser_headers": func(c *dss.Client, _ wireNames, browser http.Header) (any, error) {
			return c.TicketFromBrowserHeaders(t.Context(), browser)
		},
		"client_as_key":         infoAsBob,
		"client_as_ticket":      infoAsBob,
		"user_info":             user(func(names wireNames) string { return names.bob }),
		"user_info_email_login": user(func(names wireNames) string { return names.bob + "@example.com" }),
		"own_settings_get": func(c *dss.Client, _ wireNames, _ http.Header) (any, error) {
			var raw json.RawMessage
			err := c.Do(t.Context(), "GET", "/current-user", nil, &raw)
			return raw, err
		},
		"own_settings_property":                     settings(func(s *dss.Settings) { s.SetProperty("myprop", "myvalue") }),
		"own_settings_add_secret":                   settings(func(s *dss.Settings) { s.AddSecret("secretname", "secretvalue") }),
		"own_settings_replace_secret":               settings(func(s *dss.Settings) { s.AddSecret("old", "2") }),
		"own_settings_remove_secret":                settings(func(s *dss.Settings) { s.RemoveSecret("old") }),
		"own_settings_connection_credential":        settings(func(s *dss.Settings) { s.SetBasicConnectionCredential("myconnection", "username", "password") }),
		"own_settings_remove_connection_credential": settings(func(s *dss.Settings) { s.RemoveConnectionCredential("pg") }),
		"own_settings_plugin_credential": settings(func(s *dss.Settings) {
			s.SetBasicPluginCredential("myplugin", "my_paramset_id", "mypreset_id", "param_name", "username", "password")
		}),
		"own_settings_oauth2_plugin_credential": settings(func(s *dss.Settings) {
			s.SetOAuth2PluginCredential("myplugin", "my_paramset_id", "mypreset_id", "param_name", "refresh")
		}),
		"error_json":          info,
		"error_json_detailed": user(func(names wireNames) string { return names.unknown }),
		"error_text":          info,
	}
}

// facts is an AuthInfo as the official client returns it.
func facts(a dss.AuthInfo, err error) (map[string]any, error) {
	m := map[string]any{
		"authSource": a.AuthSource, "via": a.Via, "authIdentifier": a.AuthIdentifier, "groups": a.Groups,
		"userProfile": a.UserProfile, "associatedDSSUser": a.AssociatedDSSUser, "userForImpersonation": a.UserForImpersonation,
	}
	if a.Secrets != nil {
		var secrets []any
		for _, s := range a.Secrets {
			secrets = append(secrets, map[string]any{"name": s.Name, "value": s.Value(), "secret": true})
		}
		m["secrets"] = secrets
	}
	return m, err
}

// TestWire makes every recorded call with this client. It must send the same
// request as the official client, and return the same result.
func TestWire(t *testing.T) {
	names, cases := readWire(t)
	calls := wireCalls(t)
	for _, recorded := range cases {
		t.Run(recorded.Name, func(t *testing.T) {
			call := calls[recorded.Name]
			require.NotNil(t, call, "a call for this case")
			var answered int
			server := newRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
				require.Less(t, answered, len(recorded.Replies), "calls")
				reply := recorded.Replies[answered]
				answered++
				w.WriteHeader(reply.Status)
				var text string
				if json.Unmarshal(reply.Body, &text) != nil {
					text = string(reply.Body)
				}
				io.WriteString(w, text)
			})

			result, err := call(wireClient(t, server.URL, names, recorded), names, wireBrowser(t, recorded))

			seen := server.requests()
			require.Len(t, seen, len(recorded.Requests))
			for i, want := range recorded.Requests {
				got := seen[i]
				assert.Equal(t, want.Method, got.Method)
				assert.Equal(t, strings.ToLower(want.Target), strings.ToLower(got.Target))
				for _, name := range []string{"Authorization", "X-DKU-APITicket", "X-DKU-ProxyUser"} {
					assert.Equal(t, want.Headers[name], got.Header.Get(name), name)
				}
				assert.Equal(t, exact(t, want.Body), exact(t, []byte(got.Body)), "body")
			}
			if recorded.Error != "" {
				assert.Equal(t, recorded.Error, asPythonError(t, err))
				return
			}
			require.NoError(t, err)
			got, err := json.Marshal(result)
			require.NoError(t, err)
			assert.Equal(t, exact(t, recorded.Result), exact(t, got), "result")
		})
	}
}

func wireClient(t *testing.T, url string, names wireNames, recorded wireCase) *dss.Client {
	cfg := dss.Config{URL: url, APIKey: names.key}
	if recorded.Requests[0].Headers["X-DKU-APITicket"] != "" {
		cfg = dss.Config{URL: url, Ticket: names.ticket}
	}
	c, err := dss.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// wireBrowser returns the browser's headers in the recorded call.
func wireBrowser(t *testing.T, recorded wireCase) http.Header {
	if !strings.Contains(recorded.Requests[0].Target, "browser-headers") {
		return nil
	}
	var sent map[string]string
	require.NoError(t, json.Unmarshal(recorded.Requests[0].Body, &sent))
	h := http.Header{}
	for name, value := range sent {
		h.Set(name, value)
	}
	return h
}

// exact decodes a JSON value and keeps each digit of its numbers.
func exact(t testing.TB, text []byte) any {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%s", text)
	return v
}

func asPythonError(t *testing.T, err error) string {
	var e *dss.Error
	require.True(t, errors.As(err, &e), "%v", err)
	kind := e.Type
	if kind == "" {
		kind = "Unknown error"
	}
	return "DataikuException: " + kind + ": " + e.Message()
}
