//go:build unix

// Command replicas measures the savings and costs of a shared store, with a
// real redis-server on loopback. It measures the calls of DSS by several
// replicas, the latency and the work of an answer from the store, an outage of
// the store, a hit with and without a store, and the time until all replicas
// have forgotten an answer. From these costs it computes the costs of a fleet.
//
//	go run ./cmd/replicas
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/rediscache"
)

var (
	windows = flag.Int("windows", 20, "windows in which calls of DSS are counted")
	window  = flag.Duration("window", 2*time.Second, "how long each is")
	rounds  = flag.Int("rounds", 100, "rounds of hits with and without a store")
	each    = flag.Duration("time", 50*time.Millisecond, "how long each of these is measured in a round")
	enforce = flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	serve   = flag.Bool("serve", false, "for the command's own child process")
)

// users of the DSS that is a process of its own. Each is a newcomer once.
const users = 20_000

func main() {
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("replicas: ")
	if *serve {
		if err := bench.ServeDSS(users); err != nil {
			log.Fatal(err)
		}
		return
	}
	met, err := run()
	if err != nil {
		log.Fatal(err)
	}
	if *enforce && !met {
		os.Exit(1)
	}
}

func run() (met bool, err error) {
	started := time.Now()
	server, err := bench.StartRedis("")
	if err != nil {
		return false, err
	}
	defer func() { server.Kill() }() // the one that stands there then
	url, end, err := bench.StartChild()
	if err != nil {
		return false, err
	}
	defer end()

	fmt.Print("# replicas\n\n")
	asked, err := compareCalls(server)
	if err != nil {
		return false, err
	}
	c, err := measureCosts(server, url)
	if err != nil {
		return false, err
	}
	hit, err := compareHits(server, url)
	if err != nil {
		return false, err
	}
	notices, err := measureNotices(server, url)
	if err != nil {
		return false, err
	}
	if err := measureMemory(server, url); err != nil {
		return false, err
	}
	if err := measureOutages(&server, url); err != nil {
		return false, err
	}
	c.memory = hit.with
	printFleet(c)
	fmt.Printf("\n%s · %v · `go run ./cmd/replicas -windows %d -window %v -rounds %d -time %v`\n",
		bench.Machine(), time.Since(started).Round(time.Second), *windows, *window, *rounds, *each)
	return bench.PrintTargets([]bench.Target{
		{Number: "15", What: "calls of DSS by eight replicas with a sound store, times those of one process", Reached: asked, AtMost: true, Bound: 1.2},
		{Number: "16", What: "a hit with a store, times one without", Reached: hit.ratio, AtMost: true, Bound: 1.03},
		{Number: "17", What: "ms until all of eight replicas have dropped an answer, p99", Reached: notices, AtMost: true, Bound: 100},
	}), nil
}

// replica is the part of one process: a Middleware, and its store, if it has
// one.
type replica struct {
	auth  *dssauth.Middleware
	store *counting
	app   http.Handler
}

// counting is a store that counts its calls.
type counting struct {
	*rediscache.Store
	calls atomic.Int64
}

func (s *counting) Get(ctx context.Context, key string) ([]byte, error) {
	s.calls.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *counting) Put(ctx context.Context, e dssauth.StoreEntry) (bool, error) {
	s.calls.Add(1)
	return s.Store.Put(ctx, e)
}

func (s *counting) Delete(ctx context.Context, key string) error {
	s.calls.Add(1)
	return s.Store.Delete(ctx, key)
}

// secret is the same for all replicas.
var secret = []byte("a secret of thirty-two bytes, or more")

// newReplica makes a replica, with a store if there is a server.
func newReplica(server *bench.Redis, client *dss.Client, ttl time.Duration) (*replica, error) {
	r := &replica{}
	// Log lines of an outage would be mixed with its figures.
	config := dssauth.Config{Client: client, TTL: ttl, Logger: slog.New(slog.DiscardHandler)}
	if server != nil {
		store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{server.Address}})
		if err != nil {
			return nil, err
		}
		r.store = &counting{Store: store}
		config.Store, config.StoreSecrets = r.store, [][]byte{secret}
	}
	auth, err := dssauth.New(config)
	if err != nil {
		return nil, err
	}
	r.auth, r.app = auth, auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if server != nil {
		return r, r.until("hears the store", func(s dssauth.Stats) bool { return s.Store.Hears && !s.Store.Out })
	}
	return r, nil
}

// until waits for a condition on the replica's numbers.
func (r *replica) until(what string, is func(dssauth.Stats) bool) error {
	for began := time.Now(); !is(r.auth.Stats()); time.Sleep(100 * time.Microsecond) {
		if time.Since(began) > 20*time.Second {
			return fmt.Errorf("it takes more than 20s until a replica %s", what)
		}
	}
	return nil
}

func (r *replica) close() {
	_ = r.auth.Close()
	if r.store != nil {
		r.store.Close()
	}
}

// status is a response that keeps only its status.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code }

// visit makes one request of a user.
func (r *replica) visit(user int) (took time.Duration, err error) {
	return r.serve(bench.Request(bench.Session, user, 350))
}

// serve returns the time of a request.
func (r *replica) serve(request *http.Request) (time.Duration, error) {
	w := &status{bench.Discard(), http.StatusOK}
	began := time.Now()
	r.app.ServeHTTP(w, request)
	took := time.Since(began)
	if w.code != http.StatusOK {
		return took, fmt.Errorf("a visitor got a %d", w.code)
	}
	return took, nil
}
