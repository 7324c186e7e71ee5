package dss_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// settingsDSS answers with settings, and keeps the saved ones.
type settingsDSS struct {
	*recorder
	mu       sync.Mutex
	settings string
}

func newSettingsDSS(t testing.TB, settings string) *settingsDSS {
	d := &settingsDSS{settings: settings}
	d.recorder = newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if r.Method == http.MethodPut {
			d.settings = d.requests()[len(d.requests())-1].Body
			return
		}
		io.WriteString(w, d.settings)
	})
	return d
}

// changed applies change, saves the settings, and returns them.
func (d *settingsDSS) changed(t testing.TB, change func(*dss.Settings)) string {
	s, err := d.client(t).OwnSettings(t.Context())
	require.NoError(t, err)
	change(s)
	require.NoError(t, s.Save(t.Context()))
	saved := d.last(t)
	require.Equal(t, "PUT", saved.Method)
	require.Equal(t, "/dip/publicapi/current-user", saved.Target)
	require.Equal(t, "application/json", saved.Header.Get("Content-Type"))
	return saved.Body
}

func TestSettingsOfEveryShape(t *testing.T) {
	set := func(s *dss.Settings) { s.SetProperty("a", "b") }
	secret := func(s *dss.Settings) { s.AddSecret("a", "b") }
	credential := func(s *dss.Settings) { s.SetBasicConnectionCredential("a", "b", "c") }
	remove := func(s *dss.Settings) {
		s.RemoveProperty("a")
		s.RemoveSecret("a")
		s.RemoveConnectionCredential("a")
		s.RemovePluginCredential("a", "b", "c", "d")
	}
	nothing := func(*dss.Settings) {}
	for name, row := range map[string]struct {
		before string
		change func(*dss.Settings)
		after  string
	}{
		"an empty object":                 {`{}`, nothing, `{}`},
		"no properties":                   {`{"x":1}`, set, `{"x":1,"userProperties":{"a":"b"}}`},
		"properties null":                 {`{"userProperties":null,"x":1}`, set, `{"userProperties":{"a":"b"},"x":1}`},
		"properties empty":                {`{"userProperties":{}}`, set, `{"userProperties":{"a":"b"}}`},
		"a property replaced":             {`{"userProperties":{"z":"1","a":"2","y":"3"}}`, set, `{"userProperties":{"z":"1","a":"b","y":"3"}}`},
		"a property that is not a string": {`{"userProperties":{"z":1.50,"n":null,"o":{"k": []}}}`, set, `{"userProperties":{"z":1.50,"n":null,"o":{"k": []},"a":"b"}}`},
		"no secrets":                      {`{}`, secret, `{"secrets":[{"name":"a","value":"b","secret":true}]}`},
		"secrets null":                    {`{"secrets":null}`, secret, `{"secrets":[{"name":"a","value":"b","secret":true}]}`},
		"secrets empty":                   {`{"secrets":[]}`, secret, `{"secrets":[{"name":"a","value":"b","secret":true}]}`},
		"a secret replaced, at the end":   {`{"secrets":[{"name":"a","value":"1","future":1},{"name":"z", "future": 2e400}]}`, secret, `{"secrets":[{"name":"z", "future": 2e400},{"name":"a","value":"b","secret":true}]}`},
		"a secret that is there twice":    {`{"secrets":[{"name":"a"},{"name":"a"}]}`, secret, `{"secrets":[{"name":"a","value":"b","secret":true}]}`},
		"a secret without a name":         {`{"secrets":[{"value":"1"},{"name":null},{"name":7}]}`, secret, `{"secrets":[{"value":"1"},{"name":null},{"name":7},{"name":"a","value":"b","secret":true}]}`},
		"no credentials":                  {`{}`, credential, `{"credentials":{"a":{"type":"BASIC","user":"b","password":"c"}}}`},
		"credentials null":                {`{"credentials":null}`, credential, `{"credentials":{"a":{"type":"BASIC","user":"b","password":"c"}}}`},
		"credentials empty":               {`{"credentials":{}}`, credential, `{"credentials":{"a":{"type":"BASIC","user":"b","password":"c"}}}`},
		"a credential replaced":           {`{"credentials":{"a":{"type":"OAUTH","more":1},"z":{"n":1.0}}}`, credential, `{"credentials":{"a":{"type":"BASIC","user":"b","password":"c"},"z":{"n":1.0}}}`},
		"nothing to remove":               {`{"x":1}`, remove, `{"x":1}`},
		"nothing to remove from null":     {`{"secrets":null,"credentials":null,"userProperties":null}`, remove, `{"secrets":null,"credentials":null,"userProperties":null}`},
		"nothing to remove from empty":    {`{"secrets":[ ],"credentials":{ },"userProperties":{ }}`, remove, `{"secrets":[ ],"credentials":{ },"userProperties":{ }}`},
		"all removed": {`{"secrets":[{"name":"a"}],"credentials":{"a":{},"\"PLUGIN\", \"a\", \"b\", \"c\", \"d\"":{}},"userProperties":{"a":"b"}}`, remove,
			`{"secrets":[],"credentials":{},"userProperties":{}}`},
		"unknown parts, to the byte": {`{"big":12345678901234567890123456789,"odd":[1.10,-0,1E5,2e+400],"esc":"\u00e9\/<\ud800","é\u0041":{"a": {"b":[{}]}},"t":true}`, set,
			`{"big":12345678901234567890123456789,"odd":[1.10,-0,1E5,2e+400],"esc":"\u00e9\/<\ud800","é\u0041":{"a": {"b":[{}]}},"t":true,"userProperties":{"a":"b"}}`},
		"an oauth token": {`{}`, func(s *dss.Settings) { s.SetOAuth2PluginCredential("p", "s", "r", "m", "token") },
			`{"credentials":{"\"PLUGIN\", \"p\", \"s\", \"r\", \"m\"":{"type":"OAUTH_REFRESH_TOKEN","refreshToken":"token"}}}`},
		"markup as it is": {`{}`, func(s *dss.Settings) { s.SetProperty("<&>", "</script>&\"\\\n") },
			`{"userProperties":{"<&>":"</script>&\"\\\n"}}`},
		"empty names and values": {`{}`, func(s *dss.Settings) { s.SetProperty("", ""); s.AddSecret("", "") },
			`{"userProperties":{"":""},"secrets":[{"name":"","value":"","secret":true}]}`},
		"secrets whose names have U+FFFD": {`{"secrets":[{"name":"a\ufffd"},{"name":"�"}]}`, func(s *dss.Settings) { s.AddSecret("a\ufffd", "b"); s.RemoveSecret("\ufffd") },
			`{"secrets":[{"name":"a�","value":"b","secret":true}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, row.after, newSettingsDSS(t, row.before).changed(t, row.change))
		})
	}
}

// TestSettingsGoBackAsTheyCame makes deep objects of all kinds of values, and
// expects them back with one property more.
func TestSettingsGoBackAsTheyCame(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		before := `{"login": "alice", "future": ` + anyJSON(r, 6) + `, "userProperties": {"kept": ` + anyJSON(r, 3) + `}, "more": ` + anyJSON(r, 3) + `}`
		saved := newSettingsDSS(t, before).changed(t, func(s *dss.Settings) { s.SetProperty("new", "property") })

		want := exact(t, []byte(before)).(map[string]any)
		want["userProperties"].(map[string]any)["new"] = "property"
		require.Equal(t, want, exact(t, []byte(saved)), "seed %d", seed)
	}
}

func anyJSON(r *rand.Rand, depth int) string {
	kinds := 5
	if depth > 0 {
		kinds = 7
	}
	switch r.IntN(kinds) {
	case 0:
		return "null"
	case 1:
		return "true"
	case 2:
		return fmt.Sprintf("%d%d%d", 1+r.Uint64()/2, r.Uint64(), r.Uint64())
	case 3:
		return fmt.Sprintf("-%d.%de%+d", r.IntN(10), r.IntN(1000), r.IntN(2000)-1000)
	case 4:
		text, _ := json.Marshal(anyText(r))
		return string(text)
	case 5:
		var parts []string
		for range r.IntN(4) {
			parts = append(parts, anyJSON(r, depth-1))
		}
		return "[" + strings.Join(parts, " ,\n") + "]"
	}
	var parts []string
	for i := range r.IntN(4) {
		name, _ := json.Marshal(fmt.Sprint(i, anyText(r)))
		parts = append(parts, string(name)+" :\t"+anyJSON(r, depth-1))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func TestProperties(t *testing.T) {
	d := newSettingsDSS(t, `{"userProperties": {"a": "1", "n": 1, "z": null, "o": {}, "e": ""}}`)
	s, err := d.client(t).OwnSettings(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "1", "e": ""}, s.Properties())
	s.Properties()["a"] = "changed"
	assert.Equal(t, "1", s.Properties()["a"], "it is a copy")
	s.SetProperty("a", "2")
	s.RemoveProperty("e")
	assert.Equal(t, map[string]string{"a": "2"}, s.Properties())

	s, err = newSettingsDSS(t, `{}`).client(t).OwnSettings(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]string{}, s.Properties())
}

func TestSettingsRefuseTextThatIsNotUTF8(t *testing.T) {
	const bad = "canary\xff"
	for want, change := range map[string]func(*dss.Settings){
		"SetProperty: name":                        func(s *dss.Settings) { s.SetProperty(bad, "x") },
		"SetProperty: value":                       func(s *dss.Settings) { s.SetProperty("x", bad) },
		"AddSecret: name":                          func(s *dss.Settings) { s.AddSecret(bad, "x") },
		"AddSecret: value":                         func(s *dss.Settings) { s.AddSecret("x", bad) },
		"SetBasicConnectionCredential: connection": func(s *dss.Settings) { s.SetBasicConnectionCredential(bad, "x", "x") },
		"SetBasicConnectionCredential: user":       func(s *dss.Settings) { s.SetBasicConnectionCredential("x", bad, "x") },
		"SetBasicConnectionCredential: password":   func(s *dss.Settings) { s.SetBasicConnectionCredential("x", "x", bad) },
		"SetBasicPluginCredential: plugin":         func(s *dss.Settings) { s.SetBasicPluginCredential(bad, "x", "x", "x", "x", "x") },
		"SetBasicPluginCredential: paramSet":       func(s *dss.Settings) { s.SetBasicPluginCredential("x", bad, "x", "x", "x", "x") },
		"SetBasicPluginCredential: preset":         func(s *dss.Settings) { s.SetBasicPluginCredential("x", "x", bad, "x", "x", "x") },
		"SetBasicPluginCredential: param":          func(s *dss.Settings) { s.SetBasicPluginCredential("x", "x", "x", bad, "x", "x") },
		"SetBasicPluginCredential: user":           func(s *dss.Settings) { s.SetBasicPluginCredential("x", "x", "x", "x", bad, "x") },
		"SetBasicPluginCredential: password":       func(s *dss.Settings) { s.SetBasicPluginCredential("x", "x", "x", "x", "x", bad) },
		"SetOAuth2PluginCredential: plugin":        func(s *dss.Settings) { s.SetOAuth2PluginCredential(bad, "x", "x", "x", "x") },
		"SetOAuth2PluginCredential: refreshToken":  func(s *dss.Settings) { s.SetOAuth2PluginCredential("x", "x", "x", "x", bad) },
		"RemoveProperty: name":                     func(s *dss.Settings) { s.RemoveProperty(bad) },
		"RemoveSecret: name":                       func(s *dss.Settings) { s.RemoveSecret(bad) },
		"RemoveConnectionCredential: connection":   func(s *dss.Settings) { s.RemoveConnectionCredential(bad) },
		"RemovePluginCredential: preset":           func(s *dss.Settings) { s.RemovePluginCredential("x", "x", bad, "x") },
	} {
		d := newSettingsDSS(t, `{"x": 1}`)
		s, err := d.client(t).OwnSettings(t.Context())
		require.NoError(t, err)
		change(s)
		s.SetProperty("sound", "text")
		for range 2 {
			err = s.Save(t.Context())
			assert.EqualError(t, err, "dss: Settings."+want+" is not valid UTF-8")
		}
		assert.Len(t, d.requests(), 1, "nothing is saved")
	}
}

func TestInvalidSettings(t *testing.T) {
	for body, want := range map[string]string{
		``:                                     "the body is not a JSON object",
		`<html>canary`:                         "the body is not a JSON object",
		`null`:                                 "the body is not a JSON object",
		`{"a": 1`:                              "the body is cut short",
		`{"a": 1} canary`:                      "the body has something after its end",
		`{"a": 1, "a": 2}`:                     "the body has a name twice",
		"{\"a\": \"\xff\"}":                    "the body is not valid UTF-8",
		`{"userProperties": []}`:               "userProperties is not a JSON object",
		`{"userProperties": {"a": 1, "a": 2}}`: "the body has a name twice",
		`{"future": [{"a": 1, "a": 2}]}`:       "the body has a name twice",
		`{"secrets": [null]}`:                  "secrets has an element that is not a JSON object",
		`{"secrets\ud800": []}`:                "secrets is spelled with the character U+FFFD, or half a surrogate pair",
		`{"a": 1,}`:                            "the body is not valid JSON",
		`{"credentials": "canary"}`:            "credentials is not a JSON object",
		`{"secrets": {"a": "canary"}}`:         "secrets is not a list",
		`{"secrets": ["canary"]}`:              "secrets has an element that is not a JSON object",
		`{"Secrets": []}`:                      "secrets is spelled in another case",
	} {
		_, err := newSettingsDSS(t, body).client(t).OwnSettings(t.Context())
		assert.EqualError(t, err, "dss: GET /current-user: unexpected reply: "+want)
	}
	assert.EqualError(t, new(dss.Settings).Save(t.Context()), "dss: Settings: not read by Client.OwnSettings, so there is nothing to save")
	var none dss.Settings
	none.SetProperty("a", "b")
	none.AddSecret("a", "b")
	none.RemovePluginCredential("a", "b", "c", "d")
	assert.Error(t, none.Save(t.Context()))
}

func TestSaveFails(t *testing.T) {
	server := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, `{}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"errorType": "x.E", "message": "no secret canary-one, canary-two, canary-three, canary-four"}`)
	})
	s, err := server.client(t).OwnSettings(t.Context())
	require.NoError(t, err)
	s.AddSecret("name", "canary-one")
	s.SetBasicConnectionCredential("pg", "user", "canary-two")
	s.SetBasicPluginCredential("a", "b", "c", "d", "user", "canary-three")
	s.SetOAuth2PluginCredential("a", "b", "c", "e", "canary-four")
	assert.EqualError(t, s.Save(t.Context()), "dss: 400 x.E", "DSS quotes all of them")
}

func TestUpdateOwnSettings(t *testing.T) {
	d := newSettingsDSS(t, `{"x":1}`)
	c := d.client(t)
	require.NoError(t, c.UpdateOwnSettings(t.Context(), func(s *dss.Settings) error {
		s.SetProperty("a", "b")
		return nil
	}))
	assert.Equal(t, `{"x":1,"userProperties":{"a":"b"}}`, d.settings)

	refused := errors.New("no")
	before := len(d.requests())
	assert.ErrorIs(t, c.UpdateOwnSettings(t.Context(), func(s *dss.Settings) error {
		s.SetProperty("a", "c")
		return refused
	}), refused)
	assert.Len(t, d.requests(), before+1, "read, and not saved")
	assert.EqualError(t, c.UpdateOwnSettings(t.Context(), nil), "dss: UpdateOwnSettings: the change is nil")
	down := newRecorder(t, replying(http.StatusBadGateway, ""))
	assert.EqualError(t, down.client(t).UpdateOwnSettings(t.Context(), func(*dss.Settings) error { return nil }), "dss: 502 Bad Gateway")
}

// Updates of one client lose no change of each other, also if one fails.
func TestUpdatesOfOneClientWaitForEachOther(t *testing.T) {
	d := newSettingsDSS(t, `{}`)
	c := d.client(t)
	var updates sync.WaitGroup
	for i := range 20 {
		updates.Go(func() {
			assert.NoError(t, c.UpdateOwnSettings(t.Context(), func(s *dss.Settings) error { s.SetProperty(fmt.Sprint(i), "x"); return nil }))
		})
		updates.Go(func() {
			assert.Panics(t, func() { c.UpdateOwnSettings(t.Context(), func(*dss.Settings) error { panic("on purpose") }) })
		})
	}
	updates.Wait()
	s, err := c.OwnSettings(t.Context())
	require.NoError(t, err)
	assert.Len(t, s.Properties(), 20)

	ctx, cancel := context.WithCancel(t.Context())
	err = c.UpdateOwnSettings(t.Context(), func(*dss.Settings) error {
		cancel()
		return c.UpdateOwnSettings(ctx, func(*dss.Settings) error { return nil })
	})
	assert.EqualError(t, err, "dss: UpdateOwnSettings: waiting for another update: context canceled")
	assert.ErrorIs(t, err, context.Canceled)
	//lint:ignore SA1012 what a caller may get wrong
	assert.Error(t, c.UpdateOwnSettings(nil, func(*dss.Settings) error { return nil }))
	assert.Error(t, new(dss.Client).UpdateOwnSettings(t.Context(), func(*dss.Settings) error { return nil }))
}

// newTwoUsers returns a DSS with two keys of two users. It keeps their
// settings, and those of the users that clients act as.
func newTwoUsers(t testing.TB) (server *recorder, saved func(login string) map[string]any) {
	var mu sync.Mutex
	settings := map[string]string{}
	server = newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		login, _, _ := r.BasicAuth()
		if as := r.Header.Get("X-DKU-ProxyUser"); as != "" {
			login = as
		} else if ticket := r.Header.Get("X-DKU-APITicket"); ticket != "" {
			login = ticket
		}
		mu.Lock()
		defer mu.Unlock()
		switch before, ok := settings[login]; {
		case r.Method == http.MethodPut:
			body, _ := io.ReadAll(r.Body)
			settings[login] = string(body)
		case ok:
			io.WriteString(w, before)
		default:
			fmt.Fprintf(w, `{"login": %q}`, login)
		}
	})
	return server, func(login string) map[string]any {
		mu.Lock()
		defer mu.Unlock()
		properties, _ := exact(t, []byte(settings[login])).(map[string]any)["userProperties"].(map[string]any)
		return properties
	}
}

// The clients are: copies that act as the user with X-DKU-ProxyUser or with a
// ticket, clients with the user's own key, and new clients.
func TestUpdatesOfOneUserLoseNothing(t *testing.T) {
	server, saved := newTwoUsers(t)
	admin := server.client(t)
	var updates sync.WaitGroup
	update := func(c *dss.Client, name string) {
		updates.Go(func() {
			assert.NoError(t, c.UpdateOwnSettings(t.Context(), func(s *dss.Settings) error { s.SetProperty(name, "x"); return nil }))
		})
	}
	for i := range 16 {
		as, err := admin.As("ann")
		require.NoError(t, err)
		update(as, fmt.Sprint("proxy ", i))
		byTicket, err := admin.WithTicket("ann")
		require.NoError(t, err)
		update(byTicket, fmt.Sprint("ticket ", i))
		own, err := dss.New(dss.Config{URL: server.URL, APIKey: "ann"})
		require.NoError(t, err)
		t.Cleanup(own.CloseIdleConnections)
		update(own, fmt.Sprint("own ", i))
		for _, url := range []string{"http://dss.example", "http://DSS.example:80/"} {
			named, err := dss.New(dss.Config{URL: url, APIKey: "bea", HTTPClient: &http.Client{Transport: elsewhere(server.Listener.Addr().String())}})
			require.NoError(t, err)
			update(named, fmt.Sprint(url, i))
		}
		update(admin, fmt.Sprint("admin ", i))
	}
	updates.Wait()
	assert.Len(t, saved("ann"), 48)
	assert.Len(t, saved(testKey), 16)
	assert.Len(t, saved("bea"), 32, "with and without the usual port")
}

// elsewhere is a transport to one address, for any URL.
type elsewhere string

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *r.URL
	u.Host = string(e)
	to := r.Clone(r.Context())
	to.URL = &u
	return http.DefaultTransport.RoundTrip(to)
}

// Another update ends while the settings are read, so that they are read again.
// If that fails, the update gives its turn back.
func TestFailedUpdateGivesItsTurnBack(t *testing.T) {
	other := newSettingsDSS(t, `{}`).client(t)
	nothing := func(*dss.Settings) error { return nil }
	var reads atomic.Int64
	c := newRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
		case reads.Add(1) == 1:
			assert.NoError(t, other.UpdateOwnSettings(t.Context(), nothing))
			io.WriteString(w, `{"login": "ann"}`)
		case reads.Load() == 2:
			w.WriteHeader(http.StatusBadGateway)
		default:
			io.WriteString(w, `{"login": "ann"}`)
		}
	}).client(t)
	assert.EqualError(t, c.UpdateOwnSettings(t.Context(), nothing), "dss: 502 Bad Gateway")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	assert.NoError(t, c.UpdateOwnSettings(ctx, nothing))
}

// A slow visitor does not make others wait.
func TestUpdatesOfTwoUsersDoNotWait(t *testing.T) {
	server, saved := newTwoUsers(t)
	as := func(login string) *dss.Client {
		c, err := server.client(t).As(login)
		require.NoError(t, err)
		return c
	}
	require.NoError(t, as("ann").UpdateOwnSettings(t.Context(), func(s *dss.Settings) error {
		before := len(server.requests())
		assert.NoError(t, as("bob").UpdateOwnSettings(t.Context(), func(s *dss.Settings) error { s.SetProperty("b", "x"); return nil }))
		assert.Len(t, server.requests(), before+2, "one read, and one write")
		s.SetProperty("a", "x")
		return nil
	}))
	assert.Len(t, saved("ann"), 1)
	assert.Len(t, saved("bob"), 1)
}

// A client that acts as a user reads and saves that user's settings.
func TestSettingsOfImpersonatedUser(t *testing.T) {
	d := newSettingsDSS(t, `{}`)
	c, err := d.client(t).WithTicket("ticket-of-bob")
	require.NoError(t, err)
	require.NoError(t, c.UpdateOwnSettings(t.Context(), func(s *dss.Settings) error { s.SetProperty("a", "b"); return nil }))
	for _, r := range d.requests() {
		assert.Equal(t, map[string][]string{"x-dku-apiticket": {"ticket-of-bob"}}, credentialHeaders(r.Header))
	}
}
