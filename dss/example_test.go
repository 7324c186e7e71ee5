package dss_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// exampleDSS is a fake DSS with alice, an analyst, and her browser.
func exampleDSS() (client *dss.Client, browser http.Header, end func()) {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "alice", DisplayName: "Alice", Email: "alice@example.com", Groups: []string{"analysts"}, Profile: "DESIGNER"})
	fake.AddAPIKey("dkuaps-example", "")
	server := httptest.NewServer(fake)
	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "dkuaps-example"})
	if err != nil {
		panic(err)
	}
	browser = http.Header{"Cookie": {fake.SignIn("alice").String()}}
	return client, browser, func() {
		client.CloseIdleConnections()
		server.Close()
	}
}

func ExampleNew() {
	client, err := dss.New(dss.Config{URL: "https://dss.example", APIKey: "dkuaps-example"})
	fmt.Println(client, err)

	_, err = dss.New(dss.Config{URL: "dss.example", APIKey: "dkuaps-example"})
	fmt.Println(err)
	// Output:
	// dss.Client(https://dss.example, API key, from Config) <nil>
	// dss: Config.URL "dss.example": scheme is required, as in https://dss.example
}

func ExampleFromEnv() {
	os.Setenv("DKU_DSS_URL", "https://dss.example")
	os.Setenv("DKU_API_KEY", "dkuaps-example")
	defer os.Unsetenv("DKU_DSS_URL")
	defer os.Unsetenv("DKU_API_KEY")

	client, err := dss.FromEnv()
	if errors.Is(err, dss.ErrNotConfigured) {
		fmt.Println("no DSS is named anywhere")
	}
	fmt.Println(client, err)
	// Output: dss.Client(https://dss.example, API key, from DKU_DSS_URL) <nil>
}

func ExampleClient_AuthInfoFromBrowserHeaders() {
	client, browser, end := exampleDSS()
	defer end()

	who, err := client.AuthInfoFromBrowserHeaders(context.Background(), browser)
	fmt.Println(who.Login(), who.Groups, who.UserProfile, err)
	// Output: alice [analysts] DESIGNER <nil>
}

func ExampleClient_AuthInfo() {
	client, _, end := exampleDSS()
	defer end()

	who, err := client.AuthInfo(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	if who.Login() == "" {
		fmt.Println("an API key without a user")
	}
	// Output: an API key without a user
}

func ExampleWithSecrets() {
	client, browser, end := exampleDSS()
	defer end()
	ctx := context.Background()
	asVisitor := client.WithTicketSource(func(ctx context.Context) (string, error) {
		return client.TicketFromBrowserHeaders(ctx, browser)
	})
	if err := asVisitor.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.AddSecret("database", "s3cret")
		return nil
	}); err != nil {
		fmt.Println(err)
	}

	who, err := client.AuthInfoFromBrowserHeaders(ctx, browser, dss.WithSecrets())
	for _, secret := range who.Secrets {
		fmt.Println(secret, len(secret.Value()), err)
	}
	// Output: secret "database" [redacted] 6 <nil>
}

// A webapp acts as its visitor with a ticket. The ticket is fetched at the
// first call, and again when DSS rejects it.
func ExampleClient_WithTicketSource() {
	client, browser, end := exampleDSS()
	defer end()

	asVisitor := client.WithTicketSource(func(ctx context.Context) (string, error) {
		return client.TicketFromBrowserHeaders(ctx, browser)
	})
	who, err := asVisitor.AuthInfo(context.Background())
	fmt.Println(who.Login(), err)
	// Output: alice <nil>
}

func ExampleClient_WithTicket() {
	client, browser, end := exampleDSS()
	defer end()
	ctx := context.Background()

	ticket, err := client.TicketFromBrowserHeaders(ctx, browser)
	if err != nil {
		fmt.Println(err)
		return
	}
	asVisitor, err := client.WithTicket(ticket)
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := asVisitor.AuthInfo(ctx)
	fmt.Println(who.Login(), err)
	// Output: alice <nil>
}

func ExampleClient_As() {
	client, _, end := exampleDSS()
	defer end()

	asAlice, err := client.As("alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := asAlice.AuthInfo(context.Background())
	fmt.Println(who.Login(), err)

	_, err = asAlice.As("bob")
	fmt.Println(err)
	// Output:
	// alice <nil>
	// dss: As: this client acts as a user already; use the one it was made from
}

// Unlike As, AsVerified sends no call before DSS itself has named alice.
func ExampleClient_AsVerified() {
	client, _, end := exampleDSS()
	defer end()

	asAlice, err := client.AsVerified("alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := asAlice.AuthInfo(context.Background())
	fmt.Println(who.Login(), err)
	// Output: alice <nil>
}

// Two handlers act as the same visitor, each with the headers of its own request,
// and share one ticket.
func ExampleClient_WithTickets() {
	client, browser, end := exampleDSS()
	defer end()

	var tickets dss.Tickets
	for range 2 {
		asVisitor := client.WithTickets(&tickets, func(ctx context.Context) (string, error) {
			fmt.Println("fetches a ticket")
			return client.TicketFromBrowserHeaders(ctx, browser)
		})
		who, err := asVisitor.AuthInfo(context.Background())
		fmt.Println(who.Login(), err)
	}
	// Output:
	// fetches a ticket
	// alice <nil>
	// alice <nil>
}

// A mounted secret is read again when DSS rejects the key. FromEnv does this with
// DKU_API_KEY_FILE.
func ExampleConfig_keySource() {
	client, err := dss.New(dss.Config{
		URL: "https://dss.example",
		APIKeySource: func(context.Context) (string, error) {
			key, err := os.ReadFile("testdata/no-such-key")
			return strings.TrimSpace(string(key)), err
		},
	})
	fmt.Println(client != nil, errors.Is(err, fs.ErrNotExist))
	// Output: false true
}

func ExampleClient_User() {
	client, _, end := exampleDSS()
	defer end()

	alice, err := client.User(context.Background(), "alice")
	fmt.Println(alice.DisplayName, alice.Email, err)
	// Output: Alice alice@example.com <nil>
}

func ExampleClient_UpdateOwnSettings() {
	client, _, end := exampleDSS()
	defer end()
	ctx := context.Background()
	asAlice, err := client.As("alice")
	if err != nil {
		fmt.Println(err)
		return
	}

	err = asAlice.UpdateOwnSettings(ctx, func(s *dss.Settings) error {
		s.SetProperty("theme", "dark")
		s.AddSecret("database", "s3cret")
		s.SetBasicConnectionCredential("postgres", "alice", "s3cret")
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	settings, err := asAlice.OwnSettings(ctx)
	fmt.Println(settings.Properties()["theme"], settings, err)
	// Output: dark dss.Settings[redacted] <nil>
}

func ExampleClient_Do() {
	client, _, end := exampleDSS()
	defer end()
	ctx := context.Background()

	var user struct{ DisplayName string }
	err := client.Do(ctx, "GET", "/users/alice", nil, &user) // JSON
	fmt.Println(user.DisplayName, err)

	var text strings.Builder
	err = client.Do(ctx, "GET", "/users/alice", nil, &text) // as it comes
	fmt.Println(strings.Contains(text.String(), `"alice"`), err)

	err = client.Do(ctx, "GET", "/../admin", nil, nil)
	fmt.Println(err)
	// Output:
	// Alice <nil>
	// true <nil>
	// dss: GET /../admin: its path is refused: dot segments are not allowed
}

// Transport lets any HTTP library call DSS, here a reverse proxy. The proxy's
// caller claims to be another user, but DSS sees alice.
func ExampleClient_Transport() {
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "alice"})
	fake.AddAPIKey("dkuaps-example", "")
	server := httptest.NewServer(fake)
	defer server.Close()
	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "dkuaps-example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	asAlice, err := client.As("alice")
	if err != nil {
		fmt.Println(err)
		return
	}

	target, _ := url.Parse(server.URL)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: asAlice.Transport(),
	}
	request := httptest.NewRequest("GET", "/dip/publicapi/auth/info", nil)
	request.Header.Set("X-DKU-ProxyUser", "admin")
	proxy.ServeHTTP(httptest.NewRecorder(), request)
	fmt.Println(fake.LastCaller())
	// Output: alice
}

// The log has a line for each request that is made as a user. Credentials are
// in the headers, and the query may hold anything, so the line has neither.
func ExampleClient_WrapTransport() {
	client, _, end := exampleDSS()
	defer end()
	asAlice, err := client.As("alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	logged := asAlice.WrapTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			reply, err := next.RoundTrip(r)
			if err == nil {
				fmt.Println("alice:", r.Method, r.URL.Path, reply.StatusCode)
			}
			return reply, err
		})
	})
	_ = logged.Do(context.Background(), "GET", "/projects/?tags=x", nil, nil)
	_ = logged.Do(context.Background(), "GET", "/projects/NONE", nil, nil)
	// Output:
	// alice: GET /dip/publicapi/projects/ 200
	// alice: GET /dip/publicapi/projects/NONE 403
}

// roundTripper makes a transport from a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func ExampleError() {
	client, _, end := exampleDSS()
	defer end()

	_, err := client.User(context.Background(), "nobody")
	var e *dss.Error
	if errors.As(err, &e) && e.StatusCode == http.StatusNotFound {
		fmt.Println(e.Type)
	}
	// Output: com.dataiku.dip.server.controllers.NotFoundException
}

func ExampleCurrentProject() {
	os.Setenv("DKU_CURRENT_PROJECT_KEY", "CHURN") // as DSS does
	defer os.Unsetenv("DKU_CURRENT_PROJECT_KEY")
	fmt.Println(dss.CurrentProject())
	// Output: CHURN
}

// One mux serves the application with and without the prefix: a setting of the
// Code Studio's template decides whether the proxy of DSS removes it.
func ExampleCodeStudio() {
	os.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", "/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/8080") // as DSS does
	os.Setenv("K8S_POD_NAME", "app-7d4b")
	defer os.Unsetenv("DKU_CODE_STUDIO_BROWSER_PATH_8080")
	defer os.Unsetenv("K8S_POD_NAME")

	addr, prefix, err := dss.CodeStudio(8080)
	if err != nil {
		log.Fatal(err)
	}
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "serves", r.URL.Path) })
	mux := http.NewServeMux()
	mux.Handle("/", app)
	if prefix != "" {
		mux.Handle(prefix+"/", http.StripPrefix(prefix, app))
	}
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	fmt.Println(server.Addr)
	for _, path := range []string{"/report", prefix + "/report"} {
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// 127.0.0.1:8080
	// serves /report
	// serves /report
}
