package dss_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// prints returns v, printed in all common ways and some rare ones.
func prints(v any, moreVerbs ...string) string {
	var out bytes.Buffer
	for _, verb := range append(moreVerbs, "%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%10v", "%!") {
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", []any{v})
		fmt.Fprintf(&out, verb+"\n", map[string]any{"k": v})
	}
	fmt.Fprint(&out, v, &v, "\n")
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("printed", "v", v, "list", []any{v}, slog.Group("g", "v", v))
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		text, err := marshal(v)
		fmt.Fprintf(&out, "%s %v\n", text, err)
	}
	return out.String()
}

func TestNothingPrintsACredential(t *testing.T) {
	const canary = "canary-of-the-tests"
	server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/current-user"):
			fmt.Fprintf(w, `{"secrets": [{"name": "db", "value": %q}], "credentials": {"pg": {"password": %[1]q}}}`, canary)
		case strings.HasSuffix(r.URL.Path, "/auth/info"):
			fmt.Fprintf(w, `{"authIdentifier": "alice", "groups": [], "secrets": [{"name": "db", "value": %q}]}`, canary)
		default:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"errorType": "x.%s", "message": "no key %[1]s, Basic %s"}`, canary, base64.StdEncoding.EncodeToString([]byte(canary+":")))
		}
	})
	cfg := dss.Config{URL: server.URL, APIKey: canary, Certificates: []tls.Certificate{{PrivateKey: canary}}}
	withTicket := dss.Config{URL: server.URL, Ticket: canary}
	own, err := dss.New(cfg)
	require.NoError(t, err)
	t.Cleanup(own.CloseIdleConnections)
	internal, err := dss.New(withTicket)
	require.NoError(t, err)
	asBob, err := own.As("bob")
	require.NoError(t, err)
	byTicket, err := own.WithTicket(canary)
	require.NoError(t, err)
	bySource := own.WithTicketSource(func(context.Context) (string, error) { return canary, nil })
	info, err := bySource.AuthInfo(t.Context(), dss.WithSecrets())
	require.NoError(t, err)
	require.Equal(t, canary, info.Secrets[0].Value())
	settings, err := own.OwnSettings(t.Context())
	require.NoError(t, err)
	settings.AddSecret("another", canary)
	failed := own.Do(t.Context(), "GET", "/fails", nil, nil)
	var e *dss.Error
	require.ErrorAs(t, failed, &e)
	_, browserFailed := own.AuthInfoFromBrowserHeaders(t.Context(), http.Header{"Cookie": {"session=" + canary}, "Authorization": {"Bearer " + canary}})
	require.Error(t, browserFailed)

	for name, v := range map[string]any{
		"a config":                 cfg,
		"a pointer to a config":    &cfg,
		"a config in a struct":     struct{ Config dss.Config }{cfg},
		"a config with a ticket":   withTicket,
		"a client":                 own,
		"a client as a value":      *own, //nolint:govet // what a caller may do
		"a client in a struct":     struct{ client *dss.Client }{own},
		"a client of a ticket":     internal,
		"a client as a user":       asBob,
		"a client by a ticket":     byTicket,
		"a client by a source":     bySource,
		"it in a struct, by value": struct{ client dss.Client }{*bySource},
		"a transport":              own.Transport(),
		"an auth info":             info,
		"a secret":                 info.Secrets[0],
		"a secret in a struct":     struct{ secret dss.Secret }{info.Secrets[0]},
		"settings":                 settings,
		"settings as a value":      *settings,
		"settings in a struct":     struct{ settings *dss.Settings }{settings},
		"an error":                 failed,
		"an error as a value":      *e,
		"an error about a browser": browserFailed,
		"an error that is wrapped": fmt.Errorf("app: %w", failed),
	} {
		printed := prints(v)
		if !strings.Contains(name, "config") {
			// For these two fmt calls no method, so a plain struct cannot redact itself.
			printed += prints(v, "%p", "%w")
		}
		for _, form := range []string{
			canary, strings.ToUpper(canary), hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))),
			base64.StdEncoding.EncodeToString([]byte(canary + ":")), base64.StdEncoding.EncodeToString([]byte(canary)),
			strings.Trim(fmt.Sprint([]byte(canary)), "[]"), strings.TrimSpace(fmt.Sprintf("% x", canary)),
		} {
			assert.NotContains(t, printed, form, name)
		}
	}
	assert.Contains(t, prints(struct{ Key string }{canary}), canary, "prints shows everything")
}

func TestKindOfCredentialsIsPrinted(t *testing.T) {
	cfg := dss.Config{URL: "https://dss.example", APIKey: testKey}
	c, err := dss.New(cfg)
	require.NoError(t, err)
	asBob, err := c.As("bob")
	require.NoError(t, err)
	byTicket, err := c.WithTicket("ticket")
	require.NoError(t, err)
	for want, v := range map[string]any{
		`dss.Config{URL: "https://dss.example", API key}`:                        cfg,
		`dss.Config{URL: "https://dss.example", ticket}`:                         dss.Config{URL: "https://dss.example", Ticket: "t"},
		`dss.Config{URL: (not shown, it may hold a password), no credentials}`:   dss.Config{URL: "https://a:b@dss.example"},
		`dss.Client(https://dss.example, API key, from Config)`:                  c,
		`dss.Client(https://dss.example, API key acting as a user, from Config)`: asBob,
		`dss.Client(https://dss.example, ticket of a user, from Config)`:         byTicket,
		`dss.Client(https://dss.example, tickets of a user, from Config)`:        c.WithTicketSource(func(context.Context) (string, error) { return "", nil }),
		`dss.Settings[redacted]`:                                                 new(dss.Settings),
		`secret "db" [redacted]`:                                                 dss.Secret{Name: "db"},
	} {
		assert.Equal(t, want, fmt.Sprintf("%v", v))
		assert.Equal(t, want, fmt.Sprintf("%+v", v))
		assert.Equal(t, want, fmt.Sprintf("%#v", v))
		var line bytes.Buffer
		slog.New(slog.NewJSONHandler(&line, nil)).Info("", "v", v)
		var logged struct{ V string }
		require.NoError(t, json.Unmarshal(line.Bytes(), &logged))
		assert.Equal(t, want, logged.V)
	}
}
