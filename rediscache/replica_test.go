//go:build unix

package rediscache_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
	"github.com/dssauth/dssauth/rediscache"
)

// replicaEnv is a variable. It makes the test's own program run as a replica,
// in a process of its own.
const replicaEnv = "REDISCACHE_TEST_REPLICA"

func TestMain(m *testing.M) {
	if text, isReplica := os.LookupEnv(replicaEnv); isReplica {
		if err := serveReplica(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// setup is the settings of a replica.
type setup struct {
	DSS, Key     string
	Redis        string // its address; "" means without a store
	Secret       []byte
	TTL, Timeout time.Duration
	MaxEntries   int
	Details      bool
}

func setupOf(fake *dsstest.Server, redis string) setup {
	return setup{DSS: fake.URL(), Key: fake.AdminKey(), Redis: redis, Secret: []byte("the secret that all of these replicas share"), TTL: time.Minute}
}

// replica is an application.
type replica struct {
	client *dss.Client
	auth   *dssauth.Middleware
	store  *counted
}

// counted counts the calls of a store, and has the time of its last notice.
type counted struct {
	dssauth.Store
	calls atomic.Int64 // without probes
	heard atomic.Int64 // the wall clock's time of the last notice
}

func (c *counted) Get(ctx context.Context, key string) ([]byte, error) {
	if key != "probe" {
		c.calls.Add(1)
	}
	return c.Store.Get(ctx, key)
}

func (c *counted) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	c.calls.Add(1)
	return c.Store.Put(ctx, e)
}

func (c *counted) Delete(ctx context.Context, key string) error {
	c.calls.Add(1)
	return c.Store.Delete(ctx, key)
}

func (c *counted) Watch(ctx context.Context, ready func(), heard func([]byte)) error {
	return c.Store.Watch(ctx, ready, func(value []byte) {
		heard(value)
		c.heard.Store(time.Now().UnixNano())
	})
}

// newReplica returns a replica. wrap may change its store.
func newReplica(s setup, wrap func(dssauth.Store) dssauth.Store) (*replica, func(), error) {
	client, err := dss.New(dss.Config{URL: s.DSS, APIKey: s.Key})
	if err != nil {
		return nil, nil, err
	}
	r := &replica{client: client, store: &counted{}}
	c := dssauth.Config{
		Client: client, TTL: s.TTL, Timeout: s.Timeout, MaxEntries: s.MaxEntries, RefusalTTL: s.TTL / 3,
		UserDetails: s.Details, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if wrap != nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	closeStore := func() {}
	if s.Redis != "" {
		store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{s.Redis}})
		if err != nil {
			return nil, nil, err
		}
		closeStore = store.Close
		if r.store.Store = store; wrap != nil {
			r.store.Store = wrap(store)
		}
		c.Store, c.StoreSecrets = r.store, [][]byte{s.Secret}
	}
	if r.auth, err = dssauth.New(c); err != nil {
		closeStore()
		return nil, nil, err
	}
	return r, func() {
		_ = r.auth.Close()
		closeStore()
		client.CloseIdleConnections()
	}, nil
}

// seen is a handler's view of its visitor.
type seen struct {
	Login, Email string
	Groups       []string
}

// state is a replica's report about itself.
type state struct {
	Stats        dssauth.Stats
	Calls, Heard int64
}

func (r *replica) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /who", r.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		id, _ := dssauth.FromContext(req.Context())
		_ = json.NewEncoder(w).Encode(seen{id.Login, id.Email, id.Groups()})
	})))
	mux.HandleFunc("GET /forget", func(_ http.ResponseWriter, req *http.Request) { r.auth.Forget(req) })
	mux.HandleFunc("GET /forget-user", func(_ http.ResponseWriter, req *http.Request) { r.auth.ForgetUser(req.FormValue("login")) })
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(state{r.auth.Stats(), r.store.calls.Load(), r.store.heard.Load()})
	})
	return mux
}

// serveReplica runs a replica until its standard input ends.
func serveReplica(text string) error {
	var s setup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	r, end, err := newReplica(s, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: r.handler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := server.Shutdown(context.Background()); err != nil {
		return err
	}
	<-served
	end()
	return goleak.Find()
}

// process is a replica in a process of its own. A test that needs many runs
// them in its own process.
type process struct {
	ask   func(*http.Request) (*http.Response, error)
	kill  func()
	close func() // and fails the test if goroutines are left
	log   *bytes.Buffer
}

var transport = &http.Transport{MaxIdleConnsPerHost: 100}

// startReplica starts a replica as a process. It ends with the test.
func startReplica(t *testing.T, s setup) *process {
	t.Helper()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaEnv+"="+string(text))
	p := &process{log: new(bytes.Buffer)}
	cmd.Stderr = p.log
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := false
	p.kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(p.kill)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		require.NoError(t, err, p.log)
	}
	address = strings.TrimSpace(address)
	p.ask = func(r *http.Request) (*http.Response, error) {
		r.URL.Host = address
		return transport.RoundTrip(r)
	}
	p.close = func() {
		ended = true
		transport.CloseIdleConnections()
		_ = in.Close()
		assert.NoError(t, cmd.Wait(), "%s", p.log)
	}
	return p
}

// startInside starts a replica in this process.
func startInside(t *testing.T, s setup, wrap func(dssauth.Store) dssauth.Store) *process {
	t.Helper()
	if wrap == nil {
		wrap = func(s dssauth.Store) dssauth.Store { return s }
	}
	r, end, err := newReplica(s, wrap)
	require.NoError(t, err)
	t.Cleanup(end)
	return inProcess(r)
}

func inProcess(r *replica) *process {
	h := r.handler()
	return &process{ask: func(req *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Result(), nil
	}}
}

// startReplicas starts this many replicas, and waits until they hear each
// other.
func startReplicas(t *testing.T, n int, start func() *process) []*process {
	t.Helper()
	all := make([]*process, n)
	for i := range all {
		all[i] = start()
	}
	for _, p := range all {
		healthy(t, p)
	}
	return all
}

// get asks for path, with cookie if it is not "".
func (p *process) get(path, cookie string) (status int, body []byte, err error) {
	r, err := http.NewRequest(http.MethodGet, "http://replica"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	answer, err := p.ask(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// who returns the user that a replica sees.
func (p *process) who(t *testing.T, cookie string) (s seen) {
	t.Helper()
	status, body, err := p.get("/who", cookie)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "%s", body)
	require.NoError(t, json.Unmarshal(body, &s))
	return s
}

func (p *process) must(t *testing.T, path, cookie string) []byte {
	t.Helper()
	status, body, err := p.get(path, cookie)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "%s", body)
	return body
}

func (p *process) state(t *testing.T) (s state) {
	t.Helper()
	require.NoError(t, json.Unmarshal(p.must(t, "/state", ""), &s))
	return s
}
