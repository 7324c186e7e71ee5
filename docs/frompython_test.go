// Package docs_test holds the Go code of from-python.md as examples, so that
// it compiles, runs, and stays what the page shows.
package docs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

func Example_ownLogin() {
	client, err := dss.FromEnv() // inside DSS, on a laptop, or on a server
	if err != nil {
		log.Fatal(err)
	}
	info, err := client.AuthInfo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("this code runs as", info.Login())
	// Output: this code runs as ops
}

func Example_ownSecrets() {
	info, err := client.AuthInfo(ctx, dss.WithSecrets())
	if err != nil {
		log.Fatal(err)
	}
	for _, secret := range info.Secrets {
		if secret.Name == "weather-api" {
			askForWeather(secret.Value())
		}
		fmt.Println(secret) // safe: a secret prints as its name
	}
	// Output:
	// it will be sunny
	// secret "weather-api" [redacted]
}

func Example_webapp() {
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	hello := func(w http.ResponseWriter, r *http.Request) {
		visitor, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "hello", visitor.Login, visitor.Groups())
	}

	app := http.NewServeMux()
	app.Handle("/", auth.Handler(http.HandlerFunc(hello)))
	visit(app, "ann", "bob", "anonymous")
	// Output:
	// ann gets 200: hello ann [analysts]
	// bob gets 200: hello bob []
	// anonymous gets 401
}

func Example_group() {
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	report := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "the figures")
	}

	app := http.NewServeMux()
	app.Handle("/", auth.RequireGroup("analysts")(http.HandlerFunc(report)))
	visit(app, "ann", "bob", "anonymous")
	// Output:
	// ann gets 200: the figures
	// bob gets 403
	// anonymous gets 401
}

func Example_longConnection() {
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	ticks := func(w http.ResponseWriter, r *http.Request) {
		signedIn, end := auth.WhileSignedIn(r, 5*time.Second)
		defer end()
		for tick := range 3 {
			if signedIn.Err() != nil { // signed out meanwhile: context.Cause says why
				return
			}
			fmt.Fprint(w, "tick ", tick, " ")
		}
	}

	app := http.NewServeMux()
	app.Handle("/", auth.Handler(http.HandlerFunc(ticks)))
	visit(app, "ann")
	// Output: ann gets 200: tick 0 tick 1 tick 2
}

func Example_browserHeaders() {
	hello := func(w http.ResponseWriter, r *http.Request) {
		info, err := client.AuthInfoFromBrowserHeaders(r.Context(), r.Header)
		if err != nil {
			http.Error(w, "DSS does not say who you are", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "hello", info.Login())
	}

	visit(http.HandlerFunc(hello), "ann", "anonymous")
	// Output:
	// ann gets 200: hello ann
	// anonymous gets 503
}

func Example_visitorsName() {
	auth, err := dssauth.New(dssauth.Config{Client: client, UserDetails: true})
	if err != nil {
		log.Fatal(err)
	}
	hello := func(w http.ResponseWriter, r *http.Request) {
		visitor, ok := dssauth.FromContext(r.Context())
		if !ok { // only where the middleware did not run
			http.Error(w, "no visitor", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "hello %s <%s>\n", visitor.DisplayName, visitor.Email)
	}

	visit(auth.Handler(http.HandlerFunc(hello)), "ann")
	// Output: ann gets 200: hello Ann Analyst <ann@example.com>
}

func Example_visitorsSecrets() {
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	list := func(w http.ResponseWriter, r *http.Request) {
		secrets, err := dssauth.SecretsFromContext(r.Context())
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		fmt.Fprintln(w, secrets) // secret.Value() has what is secret
	}

	visit(auth.Handler(http.HandlerFunc(list)), "ann")
	// Output: ann gets 200: [secret "mail-server" [redacted]]
}

func Example_anotherUser() {
	ann, err := client.As("ann")
	if err != nil {
		log.Fatal(err)
	}
	info, err := ann.AuthInfo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("these calls are made by", info.Login())
	// Output: these calls are made by ann
}

func Example_asTheVisitor() {
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	projects := func(w http.ResponseWriter, r *http.Request) {
		visitor, err := dssauth.ClientFromContext(r.Context())
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		var list []struct{ ProjectKey string }
		if err := visitor.Do(r.Context(), "GET", "/projects/", nil, &list); err != nil {
			auth.Refuse(w, r, err)
			return
		}
		fmt.Fprintln(w, list)
	}

	visit(auth.Handler(http.HandlerFunc(projects)), "ann")
	fmt.Println("DSS acted as", fake.LastCaller())
	// Output:
	// ann gets 200: [{CHURN} {SALES}]
	// DSS acted as ann
}

func Example_ticket() {
	hello := func(w http.ResponseWriter, r *http.Request) {
		ticket, err := client.TicketFromBrowserHeaders(r.Context(), r.Header)
		if err != nil {
			http.Error(w, "DSS gives no ticket", http.StatusServiceUnavailable)
			return
		}
		visitor, err := client.WithTicket(ticket)
		if err != nil {
			http.Error(w, "DSS gives no ticket", http.StatusServiceUnavailable)
			return
		}
		info, err := visitor.AuthInfo(r.Context())
		if err != nil {
			http.Error(w, "DSS takes back its ticket", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "this ticket is", info.Login()+"'s")
	}

	visit(http.HandlerFunc(hello), "ann", "anonymous")
	// Output:
	// ann gets 200: this ticket is ann's
	// anonymous gets 503
}

func Example_userInfo() {
	ann, err := client.User(ctx, "ann")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ann.DisplayName, ann.Email, ann.Groups, ann.Enabled)
	// Output: Ann Analyst ann@example.com [analysts] true
}

func Example_property() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetProperty("myprop", "myvalue")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	settings, err := client.OwnSettings(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(settings.Properties()["myprop"])
	// Output: myvalue
}

func Example_readChangeSave() {
	settings, err := client.OwnSettings(ctx)
	if err != nil {
		log.Fatal(err)
	}
	settings.RemoveProperty("oldprop")
	if err := settings.Save(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(settings) // safe: they hold passwords, and show nothing
	fmt.Println(kept("oldprop"))
	// Output:
	// dss.Settings[redacted]
	// nothing
}

func Example_addSecret() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.AddSecret("secretname", "secretvalue") // replaces one of this name
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept("secretname"))
	// Output: a secret
}

func Example_removeSecret() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.RemoveSecret("secretname")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept("secretname"))
	// Output: nothing
}

func Example_connectionCredential() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetBasicConnectionCredential("myconnection", "username", "password")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept("myconnection"))
	// Output: BASIC
}

func Example_removeConnectionCredential() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.RemoveConnectionCredential("myconnection")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept("myconnection"))
	// Output: nothing
}

func Example_pluginCredential() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetBasicPluginCredential("myplugin", "my_paramset_id", "mypreset_id", "param_name", "username", "password")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept(`"PLUGIN", "myplugin", "my_paramset_id", "mypreset_id", "param_name"`))
	// Output: BASIC
}

func Example_pluginToken() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetOAuth2PluginCredential("myplugin", "my_paramset_id", "mypreset_id", "token_param", "refreshtoken")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept(`"PLUGIN", "myplugin", "my_paramset_id", "mypreset_id", "token_param"`))
	// Output: OAUTH_REFRESH_TOKEN
}

func Example_removePluginCredential() {
	err := client.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.RemovePluginCredential("myplugin", "my_paramset_id", "mypreset_id", "param_name")
		s.RemovePluginCredential("myplugin", "my_paramset_id", "mypreset_id", "token_param")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept(`"PLUGIN", "myplugin", "my_paramset_id", "mypreset_id", "param_name"`))
	// Output: nothing
}

func Example_anotherUsersSettings() {
	bob, err := client.As("bob")
	if err != nil {
		log.Fatal(err)
	}
	err = bob.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetProperty("myprop", "bobsvalue")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	settings, err := bob.OwnSettings(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(settings.Properties()["myprop"])
	// Output: bobsvalue
}

func Example_visitorsSettings() {
	auth, err := dssauth.New(dssauth.Config{Client: client, Impersonation: dssauth.ByTicket})
	if err != nil {
		log.Fatal(err)
	}
	save := func(w http.ResponseWriter, r *http.Request) {
		visitor, err := dssauth.ClientFromContext(r.Context())
		if err == nil {
			err = visitor.UpdateOwnSettings(r.Context(), func(s *dss.Settings) error {
				s.SetProperty("theme", "dark")
				return nil
			})
		}
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		fmt.Fprintln(w, "saved")
	}

	app := http.NewServeMux()
	app.Handle("POST /", auth.Handler(http.HandlerFunc(save)))
	csrf := http.NewCrossOriginProtection() // a foreign page must not save in the visitor's name
	visit(csrf.Handler(app), "ann")
	fmt.Println("DSS acted as", fake.LastCaller())
	// Output:
	// ann gets 200: saved
	// DSS acted as ann
}

// The examples need a DSS with the administrator ops. The environment holds the
// API key of ops.
var (
	fake   = dsstest.New()
	client *dss.Client
	ctx    = context.Background()
)

func TestMain(m *testing.M) {
	fake.AddUser(dsstest.User{Login: "ops", Groups: []string{"administrators"}})
	fake.AddUser(dsstest.User{Login: "ann", DisplayName: "Ann Analyst", Email: "ann@example.com", Groups: []string{"analysts"}})
	fake.AddUser(dsstest.User{Login: "bob"})
	fake.SetOwnSettings("ops", `{"secrets": [{"name": "weather-api", "value": "sunny", "secret": true}], "userProperties": {"oldprop": "1"}}`)
	fake.SetOwnSettings("ann", `{"secrets": [{"name": "mail-server", "value": "hidden", "secret": true}]}`)
	fake.AddAPIKey("key-of-ops", "ops")
	server := httptest.NewServer(fake)

	for name, value := range map[string]string{"DKU_API_TICKET": "", "DKU_DSS_URL": server.URL, "DKU_API_KEY": "key-of-ops"} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
	}
	var err error
	if client, err = dss.FromEnv(); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	client.CloseIdleConnections()
	server.CloseClientConnections()
	server.Close()
	os.Exit(code)
}

// visit serves h, and prints its answers to the browsers of some visitors.
func visit(h http.Handler, visitors ...string) {
	app := httptest.NewServer(h)
	defer app.Close()
	for _, visitor := range visitors {
		status, body := browse(app, "GET", visitor)
		if status == http.StatusMethodNotAllowed {
			status, body = browse(app, "POST", visitor)
		}
		fmt.Print(visitor, " gets ", status)
		if status == http.StatusOK {
			fmt.Print(": ", strings.TrimSpace(body))
		}
		fmt.Println()
	}
}

func browse(app *httptest.Server, method, visitor string) (status int, body string) {
	req, err := http.NewRequest(method, app.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	if visitor != "anonymous" {
		req.AddCookie(fake.SignIn(visitor))
	}
	reply, err := app.Client().Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		log.Fatal(err)
	}
	return reply.StatusCode, string(text)
}

func askForWeather(key string) { fmt.Println("it will be", key) }

// kept returns the value that ops keeps in DSS under a name.
func kept(name string) string {
	var settings struct {
		UserProperties map[string]string
		Secrets        []struct{ Name string }
		Credentials    map[string]struct{ Type string }
	}
	if err := json.Unmarshal([]byte(fake.OwnSettings("ops")), &settings); err != nil {
		log.Fatal(err)
	}
	for _, secret := range settings.Secrets {
		if secret.Name == name {
			return "a secret"
		}
	}
	if _, ok := settings.UserProperties[name]; ok {
		return "a property"
	}
	if credential, ok := settings.Credentials[name]; ok {
		return credential.Type
	}
	return "nothing"
}

// The Go code on the page is the code of the examples, all of it, to the letter.
func TestThePageShowsTheExamples(t *testing.T) {
	page, err := os.ReadFile("from-python.md")
	require.NoError(t, err)
	shown, err := blocks(string(page))
	require.NoError(t, err)
	code := examples(t)
	require.NotEmpty(t, code)

	var names []string
	for _, b := range shown {
		if b.language == "go" {
			assert.Equal(t, code[b.name], b.code, "%s differs from the page", b.name)
			names = append(names, b.name)
		}
	}
	assert.ElementsMatch(t, keys(code), names, "each example is on the page once")
}

// Each sample in Python has its counterpart in Go, right after it.
func TestEachPythonSampleHasGoCode(t *testing.T) {
	page, err := os.ReadFile("from-python.md")
	require.NoError(t, err)
	shown, err := blocks(string(page))
	require.NoError(t, err)
	for i, b := range shown {
		if b.language == "python" {
			require.Less(t, i+1, len(shown))
			assert.Equal(t, "go", shown[i+1].language, "after %s", b.code)
		} else {
			require.Positive(t, i)
			assert.Equal(t, "python", shown[i-1].language, "before %s", b.name)
		}
	}
	for _, call := range pythonCalls {
		assert.Contains(t, string(page), call)
	}
}

// pythonCalls are the calls on DSS's page, and on the pages about webapps that
// it links to.
var pythonCalls = []string{
	".get_auth_info()", ".get_auth_info(with_secrets=True)",
	".get_auth_info_from_browser_headers(headers)", ".get_auth_info_from_browser_headers(headers, with_secrets=True)",
	".get_ticket_from_browser_headers(", "dataiku.WebappImpersonationContext()",
	".get_user(", ".get_client_as()", ".get_info()",
	".get_own_user()", ".get_settings()", ".user_properties[", ".save()",
	".add_secret(", ".remove_secret(",
	".set_basic_connection_credential(", ".remove_connection_credential(",
	".set_basic_plugin_credential(", ".set_oauth2_plugin_credential(", ".remove_plugin_credential(",
}

// The check above can fail.
func TestBlocksOfAPage(t *testing.T) {
	got, err := blocks("```python\na\n```\n\n<!-- Example_b -->\n```go\nb\n\n\tb\n```\n")
	require.NoError(t, err)
	assert.Equal(t, []block{{"python", "", "a\n"}, {"go", "Example_b", "b\n\n\tb\n"}}, got)

	for _, page := range []string{
		"```go\nb\n```\n",                           // of no example
		"<!-- Example_b -->\n\n```go\nb\n```\n",     // too far from its name
		"<!-- Example_b -->\n```go\nb\n",            // without an end
		"<!-- Example_b -->\n```golang\nb\n```\n",   // in a language of its own
		"~~~go\nb\n~~~\n",                           // in a fence of its own
		"<!-- Example_b -->\n    ```go\nb\n    ```", // indented
	} {
		_, err := blocks(page)
		assert.Error(t, err, page)
	}
}

// block is a piece of code on a page.
type block struct{ language, name, code string }

var named = regexp.MustCompile(`^<!-- (Example_\w+) -->$`)

// blocks returns the code on a page.
func blocks(page string) (all []block, err error) {
	var previous string
	var open *block
	for line := range strings.Lines(page) {
		text := strings.TrimRight(line, "\n")
		fence, isFence := strings.CutPrefix(text, "```")
		switch {
		case open != nil && text == "```":
			all, open = append(all, *open), nil
		case open != nil:
			open.code += line
		case isFence && fence == "python":
			open = &block{language: fence}
		case isFence && fence == "go" && named.MatchString(previous):
			open = &block{language: fence, name: named.FindStringSubmatch(previous)[1]}
		case strings.Contains(text, "```") || strings.Contains(text, "~~~"):
			return nil, fmt.Errorf("%q begins code that is neither Python nor that of an example", text)
		}
		previous = text
	}
	if open != nil {
		return nil, errors.New("the last piece of code does not end")
	}
	return all, nil
}

// examples returns the bodies of this file's examples, by name. Each must say
// what it prints, since it does not run otherwise.
func examples(t *testing.T) map[string]string {
	const file = "frompython_test.go"
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.ParseComments)
	require.NoError(t, err)

	code := map[string]string{}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && strings.HasPrefix(f.Name.Name, "Example") {
			body := source[files.Position(f.Body.Lbrace).Offset+1 : files.Position(f.Body.Rbrace).Offset]
			lines := strings.SplitAfter(strings.TrimPrefix(string(body), "\n"), "\n")
			for i := range lines {
				lines[i] = strings.TrimPrefix(lines[i], "\t")
			}
			code[f.Name.Name] = strings.Join(lines, "")
		}
	}
	for _, e := range doc.Examples(parsed) {
		assert.NotEmpty(t, e.Output, "Example%s has no Output, and so does not run", e.Name)
	}
	return code
}

func keys(m map[string]string) (all []string) {
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
