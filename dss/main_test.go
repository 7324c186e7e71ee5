package dss_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth/dss"
)

// helper is the name of a variable. It makes the test binary run as one of the
// tests' helper processes.
const helper = "DSS_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helper) != "" {
		callAsHelper()
		return
	}
	for _, name := range []string{
		"DKU_API_TICKET", "DKU_BACKEND_PROTOCOL", "DKU_BACKEND_HOST", "DKU_BACKEND_PORT", "DKU_SERVER_CERT",
		"DKU_DSS_URL", "DKU_API_KEY", "DKU_API_KEY_FILE", "DKU_NO_CHECK_CERTIFICATE", "DKU_DEFAULT_INSTANCE", "DKU_CALL_ORIGIN",
	} {
		os.Unsetenv(name)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// recorder is a DSS with a handler of the test's. It keeps the requests.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []request
}

// request is a request as it reached DSS.
type request struct {
	Method, Target, Host string
	Header               http.Header
	Body                 string
}

// newRecorder starts a recorder. The handler may read the body again.
func newRecorder(t testing.TB, answer http.HandlerFunc) *recorder {
	r := &recorder{}
	r.Server = httptest.NewServer(r.recording(answer))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) recording(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.seen = append(r.seen, request{req.Method, req.RequestURI, req.Host, req.Header.Clone(), string(body)})
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
		answer(w, req)
	}
}

func (r *recorder) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.seen...)
}

func (r *recorder) last(t testing.TB) request {
	seen := r.requests()
	require.NotEmpty(t, seen, "requests that reached DSS")
	return seen[len(seen)-1]
}

// client calls the recorder with an API key.
func (r *recorder) client(t testing.TB) *dss.Client { return newClient(t, r.URL) }

const testKey = "dkuaps-key-of-the-tests"

func newClient(t testing.TB, url string) *dss.Client {
	c, err := dss.New(dss.Config{URL: url, APIKey: testKey})
	require.NoError(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// replying answers every request in the same way.
func replying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// rejection is DSS's reply about a key, a ticket or a browser that it does not
// know.
const rejection = `{"errorType": "com.dataiku.dip.exceptions.NotAuthenticatedException", "message": "Unknown API Key"}`

const aliceInfo = `{"authSource": "USER_FROM_UI", "via": [], "authIdentifier": "alice", "groups": ["readers"],
	"userProfile": "DESIGNER", "associatedDSSUser": "alice", "userForImpersonation": "alice"}`
