package dsstest_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

// wireCase is one call of the official Python client: its request and the
// reply.
type wireCase struct {
	Name     string
	Requests []struct {
		Method, Target string
		Headers        map[string]string
		RawBody        string `json:"raw_body"`
	}
	Replies []struct {
		Status int
		Body   json.RawMessage
	}
}

// wireNames replaces the recording's own names. They are new on each run, so
// that no code can be made to fit them.
type wireNames struct{ key, ticket, owner, other, unknown, cookie, value, project string }

func newWireNames() wireNames {
	return wireNames{
		key: rand.Text(), ticket: rand.Text(), owner: rand.Text(), other: rand.Text(), unknown: rand.Text(),
		cookie: "c_" + rand.Text(), value: rand.Text(), project: rand.Text(),
	}
}

func readWire(t *testing.T, file string, to wireNames) []wireCase {
	text, err := os.ReadFile("../dss/testdata/wire/" + file)
	require.NoError(t, err)
	basic := func(key string) string { return base64.StdEncoding.EncodeToString([]byte(key + ":")) }
	renamed := strings.NewReplacer(
		"dkuaps-EXAMPLEKEY", to.key, basic("dkuaps-EXAMPLEKEY"), basic(to.key),
		"ticket-EXAMPLE", to.ticket,
		"alice", to.owner, "bob", to.other,
		"/users/x", "/users/"+to.unknown, "exist: x", "exist: "+to.unknown,
		"dss_session=abc", to.cookie+"="+to.value, "CHURN", to.project, "NOPE", to.unknown,
	).Replace(string(text))
	var recording struct{ Cases []wireCase }
	require.NoError(t, json.Unmarshal([]byte(renamed), &recording))
	require.GreaterOrEqual(t, len(recording.Cases), 10, "cases of the recording")
	return recording.Cases
}

// learn gives the fake the facts of a recorded reply about users.
func learn(fake *dsstest.Server, names wireNames, path string, reply json.RawMessage) {
	var facts struct {
		AuthIdentifier, Login, DisplayName, Email, UserProfile string
		Groups                                                 []string
		Secrets                                                json.RawMessage
	}
	if json.Unmarshal(reply, &facts) != nil {
		return // an empty reply, or a page
	}
	user := dsstest.User{
		Login: facts.AuthIdentifier + facts.Login, DisplayName: facts.DisplayName, Email: facts.Email,
		Groups: facts.Groups, Profile: facts.UserProfile,
		Admin: facts.AuthIdentifier+facts.Login == names.owner,
	}
	if user.Login == "" {
		return
	}
	fake.AddUser(user)
	if path == "/current-user" {
		fake.SetOwnSettings(user.Login, string(reply))
	} else if facts.Secrets != nil {
		fake.SetOwnSettings(user.Login, `{"secrets": `+string(facts.Secrets)+`}`)
	}
}

// The fake accepts each recorded request, and gives the recorded answer.
func TestWire(t *testing.T) {
	for _, base := range []string{"/dip/publicapi", "/public/api"} {
		names := newWireNames()
		for _, file := range []string{"recorded.json", "projects.json"} {
			for _, c := range readWire(t, file, names) {
				t.Run(strings.Trim(base, "/")+"/"+c.Name, func(t *testing.T) { replay(t, base, names, c) })
			}
		}
	}
}

func replay(t *testing.T, base string, names wireNames, c wireCase) {
	fake := dsstest.NewServer(t)
	// The recording's key and ticket are its owner's, an administrator.
	fake.AddUser(dsstest.User{Login: names.owner, DisplayName: "Alice", Admin: true})
	addWireProject(fake, names, c)
	fake.AddSession(names.cookie, names.value, names.owner)
	if c.Replies[0].Status != http.StatusUnauthorized {
		fake.AddAPIKey(names.key, names.owner)
		fake.AddTicket(names.ticket, names.owner)
	}
	var ticket string
	for i, sent := range c.Requests {
		reply := c.Replies[i]
		target := strings.TrimPrefix(sent.Target, "/dip/publicapi")
		path, _, _ := strings.Cut(target, "?")
		learn(fake, names, path, reply.Body)
		var page string
		if json.Unmarshal(reply.Body, &page) == nil && page != "" {
			fake.Intercept(path, 1, dsstest.Respond(reply.Status, page))
		}

		req, err := http.NewRequest(sent.Method, fake.URL()+base+target, strings.NewReader(sent.RawBody))
		require.NoError(t, err)
		for name, value := range sent.Headers {
			if value == "ticket-for-"+names.owner {
				value = ticket // the fake's own, from the last call
			}
			req.Header.Set(name, value)
		}
		status, body := send(t, req)
		assert.Equal(t, reply.Status, status)

		switch {
		case page != "":
			assert.Equal(t, page, body)
		case sent.Method == http.MethodPut:
			assert.Empty(t, body)
			assert.Equal(t, sent.RawBody, fake.OwnSettings(names.owner), "it stores the sent settings")
		case path == "/auth/ticket-from-browser-headers":
			ticket = assertTicketOf(t, fake, names.owner, body)
		default:
			want := decode(t, string(reply.Body))
			if path == "/auth/info" && reply.Status == http.StatusOK && byOwnKey(sent.Headers) {
				// The recording server gave the same authSource for all credentials; DSS
				// has one of its own for a personal key.
				want.(map[string]any)["authSource"] = "PERSONAL_API_KEY"
			}
			addKeys(want)
			assert.Equal(t, want, decode(t, body))
		}
	}
}

// addKeys adds keys to the secrets of a recorded auth info, as in a live DSS:
// samples of DSS read secrets by key. The recording server had only names, as
// settings have.
func addKeys(reply any) {
	info, _ := reply.(map[string]any)
	if info["authIdentifier"] == nil {
		return
	}
	secrets, _ := info["secrets"].([]any)
	for _, secret := range secrets {
		secret.(map[string]any)["key"] = secret.(map[string]any)["name"]
	}
}

func byOwnKey(headers map[string]string) bool {
	return headers["Authorization"] != "" && headers["X-DKU-ProxyUser"] == ""
}

// addWireProject adds the project of the recording. The other user is in its
// reading group, except in the cases that refused that user.
func addWireProject(fake *dsstest.Server, names wireNames, c wireCase) {
	reader := dsstest.User{Login: names.other, Groups: []string{"readers"}}
	if strings.HasSuffix(c.Name, "_forbidden") {
		reader.Groups = nil
	}
	fake.AddUser(reader)
	fake.AddProject(dsstest.Project{Key: names.project, Name: "Churn", Owner: names.owner, Permissions: []dsstest.Permission{
		{Group: "readers", Rights: map[string]bool{"admin": false, "readProjectContent": true, "readDashboards": true, "someFutureRight": true}},
		{Group: "admins", Rights: map[string]bool{"admin": true}},
	}})
}

// assertTicketOf checks that the reply holds a ticket that acts as login, and
// returns it.
func assertTicketOf(t *testing.T, fake *dsstest.Server, login, reply string) string {
	t.Helper()
	var ticket struct{ Msg string }
	require.NoError(t, json.Unmarshal([]byte(reply), &ticket))
	assert.Equal(t, login, whoAmI(t, fake, ticketOf(ticket.Msg)))
	return ticket.Msg
}
