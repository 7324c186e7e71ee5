package dssprom_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dssprom"
	"github.com/dssauth/dssauth/dsstest"
)

// Credentials, logins and groups that no scrape may show. They have one part in
// common.
const canary = "c4n4ry"

// app is an application, with its DSS and its metrics.
type app struct {
	t    *testing.T
	fake *dsstest.Server
	auth *dssauth.Middleware
	url  string
	ann  *http.Cookie
}

func newApp(t *testing.T) *app {
	a := &app{t: t, fake: dsstest.NewServer(t)}
	a.fake.AddUser(dsstest.User{Login: "ann-" + canary, Groups: []string{"group-" + canary}})
	a.ann = &http.Cookie{Name: "session", Value: "cookie-" + canary}
	a.fake.AddSession(a.ann.Name, a.ann.Value, "ann-"+canary)
	registry := prometheus.NewRegistry()
	var err error
	// No refusal is cached, so that each request asks DSS.
	a.auth, err = dssauth.New(dssauth.Config{Client: a.fake.Client(), Hooks: dssprom.Hooks(registry), RefusalTTL: -1})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, a.auth.Close()) })
	require.NoError(t, registry.Register(dssprom.NewCollector(a.auth)))
	mux := http.NewServeMux()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	mux.Handle("/", a.auth.Handler(hello))
	mux.Handle("/report", a.auth.RequireGroup("analysts")(hello))
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *app) get(path string, headers ...string) (status int, body string) {
	r, err := http.NewRequestWithContext(a.t.Context(), "GET", a.url+path, nil)
	require.NoError(a.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := http.DefaultClient.Do(r)
	require.NoError(a.t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(a.t, err)
	return reply.StatusCode, string(text)
}

// visits makes requests of all kinds.
func (a *app) visits() {
	session := a.ann.Name + "=" + a.ann.Value
	for _, tt := range []struct {
		path   string
		down   bool
		header []string
		status int
	}{
		{path: "/", header: []string{"Cookie", session}, status: 200},
		{path: "/?q=" + canary, header: []string{"Cookie", session}, status: 200}, // a hit
		{path: "/report", header: []string{"Cookie", session}, status: 403},
		{path: "/", status: 401}, // DSS is not asked
		{path: "/", header: []string{"Authorization", "Bearer wrong-" + canary}, status: 401},
		{path: "/", header: []string{"Authorization", "Bearer \xff" + canary}, status: 400},
		{path: "/", header: []string{"Cookie", "c=" + strings.Repeat(canary, 4<<10)}, status: 431},
		{path: "/", header: []string{"Cookie", "other=" + canary}, down: true, status: 503},
	} {
		a.fake.SetDown(tt.down)
		status, _ := a.get(tt.path, tt.header...)
		assert.Equal(a.t, tt.status, status, tt.path)
	}
	a.fake.SetDown(false)
	require.NoError(a.t, a.auth.Close()) // a lookup is counted after its answer is out
}

// values are the samples of a scrape, without the buckets of histograms.
func values(scrape string) (values []string) {
	for line := range strings.Lines(scrape) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum{") {
			values = append(values, line)
		}
	}
	return values
}

func TestEachSeriesIsThereFromTheStart(t *testing.T) {
	a := newApp(t)
	status, scrape := a.get("/metrics")
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, []string{
		`dssauth_dss_down 0`,
		`dssauth_entries 0`,
		`dssauth_evictions_total 0`,
		`dssauth_lookup_duration_seconds_count{outcome="anonymous"} 0`,
		`dssauth_lookup_duration_seconds_count{outcome="identified"} 0`,
		`dssauth_lookup_duration_seconds_count{outcome="stale"} 0`,
		`dssauth_lookup_duration_seconds_count{outcome="unavailable"} 0`,
		`dssauth_lookups_in_flight 0`,
		`dssauth_lookups_queued 0`,
		`dssauth_lookups_total{outcome="anonymous"} 0`,
		`dssauth_lookups_total{outcome="identified"} 0`,
		`dssauth_lookups_total{outcome="stale"} 0`,
		`dssauth_lookups_total{outcome="unavailable"} 0`,
		`dssauth_places 32`,
		`dssauth_refusals_total{status="400"} 0`,
		`dssauth_refusals_total{status="401"} 0`,
		`dssauth_refusals_total{status="403"} 0`,
		`dssauth_refusals_total{status="404"} 0`,
		`dssauth_refusals_total{status="431"} 0`,
		`dssauth_refusals_total{status="500"} 0`,
		`dssauth_refusals_total{status="502"} 0`,
		`dssauth_refusals_total{status="503"} 0`,
		`dssauth_store_failures_total 0`,
		`dssauth_store_hears 0`,
		`dssauth_store_hits_total 0`,
		`dssauth_store_misses_total 0`,
		`dssauth_store_out 0`,
		`dssauth_store_rejected_total 0`,
	}, values(scrape))
}

func TestScrapeShowsEvents(t *testing.T) {
	a := newApp(t)
	_, before := a.get("/metrics")
	a.visits()
	_, scrape := a.get("/metrics")
	assert.Len(t, values(scrape), len(values(before)), "no series is new")
	for _, want := range []string{
		`dssauth_lookups_total{outcome="identified"} 1`,
		`dssauth_lookups_total{outcome="anonymous"} 1`,
		`dssauth_lookups_total{outcome="unavailable"} 1`,
		`dssauth_lookup_duration_seconds_count{outcome="identified"} 1`,
		`dssauth_lookup_duration_seconds_bucket{outcome="unavailable",le="+Inf"} 1`,
		`dssauth_refusals_total{status="400"} 1`,
		`dssauth_refusals_total{status="401"} 2`,
		`dssauth_refusals_total{status="403"} 1`,
		`dssauth_refusals_total{status="431"} 1`,
		`dssauth_refusals_total{status="503"} 1`,
	} {
		assert.Contains(t, scrape, want+"\n")
	}
}

func TestEntriesAndOutagesAreCurrent(t *testing.T) {
	a := newApp(t)
	session := a.ann.Name + "=" + a.ann.Value
	a.get("/", "Cookie", session)
	_, scrape := a.get("/metrics")
	assert.Contains(t, scrape, "dssauth_entries 1\n")
	a.fake.SetDown(true)
	// Then the Middleware asks DSS its own question. This visitor does not wait
	// for it.
	a.get("/", "Cookie", "other=cookie")
	require.Eventually(t, func() bool { return a.auth.Stats().DSSDown }, 30*time.Second, time.Millisecond)
	_, scrape = a.get("/metrics")
	assert.Contains(t, scrape, "dssauth_dss_down 1\n")
}

// store is a dssauth.Store that works until it is broken.
type store struct {
	values sync.Map
	broken atomic.Bool
}

func (s *store) err() error {
	if s.broken.Load() {
		return errors.New("broken")
	}
	return nil
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	value, _ := s.values.Load(key)
	b, _ := value.([]byte)
	return b, s.err()
}

func (s *store) Put(_ context.Context, e dssauth.StoreEntry) (bool, error) {
	if e.IfAbsent {
		_, there := s.values.LoadOrStore(e.Key, bytes.Clone(e.Value))
		return !there, s.err()
	}
	s.values.Store(e.Key, bytes.Clone(e.Value))
	return true, s.err()
}

func (s *store) Delete(_ context.Context, key string) error {
	s.values.Delete(key)
	return s.err()
}

func (s *store) Watch(ctx context.Context, ready func(), _ func([]byte)) error {
	ready()
	<-ctx.Done()
	return ctx.Err()
}

func TestScrapeShowsTheStore(t *testing.T) {
	fake, shared, registry := dsstest.NewServer(t), new(store), prometheus.NewRegistry()
	fake.AddUser(dsstest.User{Login: "ann"})
	m, err := dssauth.New(dssauth.Config{Client: fake.Client(), Store: shared, StoreSecrets: [][]byte{[]byte("32 bytes or more, the same for each replica")}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	require.Eventually(t, func() bool { return m.Stats().Store.Hears }, 30*time.Second, time.Millisecond)
	visit := func() {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(fake.SignIn("ann"))
		m.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	}
	require.NoError(t, registry.Register(dssprom.NewCollector(m)))
	scrape := func() []string {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return values(w.Body.String())
	}
	visit()
	assert.Contains(t, scrape(), "dssauth_store_misses_total 1")
	assert.Contains(t, scrape(), "dssauth_store_hears 1")
	assert.Contains(t, scrape(), "dssauth_store_out 0")
	shared.broken.Store(true)
	require.Eventually(t, func() bool { visit(); return m.Stats().Store.Out }, 30*time.Second, time.Millisecond)
	assert.Contains(t, scrape(), "dssauth_store_out 1")
	assert.NotContains(t, scrape(), "dssauth_store_failures_total 0")
}

func TestNoScrapeShowsAVisitor(t *testing.T) {
	a := newApp(t)
	a.visits()
	_, scrape := a.get("/metrics")
	require.Contains(t, scrape, `dssauth_refusals_total{status="403"} 1`)
	assert.NotContains(t, scrape, canary)
	assert.NotContains(t, scrape, "ann")
	assert.NotContains(t, scrape, a.fake.AdminKey())
}

// promtool returns Prometheus's remarks on metrics: on names, units and help.
func TestPromtoolFindsNoFault(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: apt-get install prometheus")
		}
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	check := func(metrics string) (said string, err error) {
		c := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		c.Stdin = strings.NewReader(metrics)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	a := newApp(t)
	_, atFirst := a.get("/metrics")
	a.visits()
	_, later := a.get("/metrics")
	for _, scrape := range []string{atFirst, later} {
		said, err := check(scrape)
		assert.NoError(t, err)
		assert.Empty(t, said)
	}
	said, err := check(strings.ReplaceAll(later, "dssauth_evictions_total", "dssauth_evictions"))
	assert.Error(t, err, "it finds faults")
	assert.NotEmpty(t, said)
}

func TestDocNamesEachMetric(t *testing.T) {
	_, scrape := newApp(t).get("/metrics")
	source, err := os.ReadFile("dssprom.go")
	require.NoError(t, err)
	doc, _, _ := strings.Cut(string(source), "\npackage dssprom")
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(scrape, -1) {
		assert.Regexp(t, `(?m)^//\t`+m[1]+`\b`, doc)
	}
}

func TestHooksOfOneRegistererShareTheirMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	for _, r := range []prometheus.Registerer{
		registry,
		prometheus.WrapRegistererWithPrefix("app_", registry),
		prometheus.WrapRegistererWithPrefix("dss_", prometheus.WrapRegistererWith(prometheus.Labels{"dss": "production"}, registry)),
		prometheus.WrapRegistererWithPrefix("dss_", prometheus.WrapRegistererWith(prometheus.Labels{"dss": "design"}, registry)),
	} {
		for range 2 {
			dssprom.Hooks(r).Refused(nil, dssauth.ErrForbidden)
		}
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	var counts []float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if c := m.GetCounter().GetValue(); c != 0 {
				counts = append(counts, c)
			}
		}
	}
	assert.Equal(t, []float64{2, 2, 2, 2}, counts)
}

func TestHooksRefusesNamesThatAreTaken(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "dssauth_lookups_total", Help: "another"}))
	assert.Panics(t, func() { dssprom.Hooks(registry) })
	assert.PanicsWithValue(t, "dssprom: Hooks(nil): give a Registerer, such as prometheus.DefaultRegisterer", func() { dssprom.Hooks(nil) })
	assert.PanicsWithValue(t, "dssprom: NewCollector(nil): give what dssauth.New returned", func() { dssprom.NewCollector(nil) })
}

// Prometheus also refuses a metric without a label beside one with a label.
func TestTwoCollectorsNeedLabels(t *testing.T) {
	registry := prometheus.NewRegistry()
	named := func(dss string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"dss": dss}, registry)
	}
	first, second := dssprom.NewCollector(newApp(t).auth), dssprom.NewCollector(newApp(t).auth)
	require.NoError(t, named("production").Register(first))
	_, taken := errors.AsType[prometheus.AlreadyRegisteredError](named("production").Register(second))
	assert.True(t, taken)
	assert.Error(t, registry.Register(second))
	assert.NoError(t, named("design").Register(second))
}
