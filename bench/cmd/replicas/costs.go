//go:build unix

package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/dss"
)

// costs are those of one request.
type costs struct {
	memory             time.Duration // CPU time of a hit
	shared, asked, own work          // an answer from the store, a lookup with one, and a lookup without
	redis              time.Duration // CPU time of redis-server for one call
}

type work struct {
	cpu        time.Duration // of the application
	calls      float64       // of the store
	p50, p99   time.Duration
	latencies  bench.Histogram
	storeCalls int64
}

// each of the measured visitors comes once to each replica.
const newcomers = 2000

// long is a TTL that does not end during a measurement.
const long = 10 * time.Minute

func newClient(url string) (*dss.Client, error) {
	return dss.New(dss.Config{URL: url, APIKey: bench.APIKey})
}

// measureCosts measures newcomers: one replica asks DSS about them, another one
// gets them from the store, and then from memory.
func measureCosts(server *bench.Redis, url string) (c costs, err error) {
	client, err := newClient(url)
	if err != nil {
		return c, err
	}
	defer client.CloseIdleConnections()
	replicas := make([]*replica, 3)
	for i, s := range []*bench.Redis{server, server, nil} {
		if replicas[i], err = newReplica(s, client, long); err != nil {
			return c, err
		}
		defer replicas[i].close()
	}
	first, second, alone := replicas[0], replicas[1], replicas[2]
	var fromMemory work
	redisBefore, callsBefore := redisTime(server), first.store.calls.Load()+second.store.calls.Load()
	// In turns, so that a slow moment affects all of them.
	const turn = 50
	for start := 0; start < newcomers; start += turn {
		for _, step := range []struct {
			to *work
			r  *replica
		}{{&c.own, alone}, {&c.asked, first}, {&c.shared, second}, {&fromMemory, second}} {
			if err := step.to.measure(step.r, start, turn); err != nil {
				return c, err
			}
		}
	}
	redisCalls := first.store.calls.Load() + second.store.calls.Load() - callsBefore
	c.redis = (redisTime(server) - redisBefore) / time.Duration(redisCalls)

	fmt.Printf("\n## An answer from the store\n\nOne request at a time, which costs more work than many at once do. DSS is a process of its own that answers at once: a real one adds its time to each lookup. The store answered %d of %d lookups.\n\n", second.auth.Stats().Store.Hits, newcomers)
	fmt.Print("| a request of a visitor | p50 | p99 | CPU time of the application | calls of the store |\n| --- | --- | --- | --- | --- |\n")
	for _, row := range []struct {
		name string
		of   *work
	}{
		{"known to this replica", &fromMemory}, {"known to another one: from the store", &c.shared},
		{"new, with a store: DSS is asked", &c.asked}, {"new, without a store: DSS is asked", &c.own},
	} {
		w := row.of
		w.p50, w.p99 = w.latencies.Quantile(0.5), w.latencies.Quantile(0.99)
		w.cpu /= newcomers
		w.calls = float64(w.storeCalls) / newcomers
		fmt.Printf("| %s | %s | %s | %s | %.1f |\n", row.name, micro(w.p50), micro(w.p99), micro(w.cpu), w.calls)
	}
	fmt.Printf("\nAn answer from the store takes %s more than one from memory, and %s than a lookup of a DSS that answers at once. redis-server uses %s of CPU time for a call.\n",
		micro(c.shared.p50-fromMemory.p50), signed(c.shared.p50-c.own.p50), micro(c.redis))
	return c, nil
}

func (w *work) measure(r *replica, first, n int) error {
	before := int64(0)
	if r.store != nil {
		before = r.store.calls.Load()
	}
	var requests []*http.Request
	for user := first; user < first+n; user++ {
		requests = append(requests, bench.Request(bench.Session, user, 350))
	}
	cpu := bench.CPUTime()
	for _, request := range requests {
		took, err := r.serve(request)
		if err != nil {
			return err
		}
		w.latencies.Add(took)
	}
	// The work after a lookup counts as well.
	if err := r.until("has no lookup under way", func(s dssauth.Stats) bool { return s.InFlight == 0 }); err != nil {
		return err
	}
	w.cpu += bench.CPUTime() - cpu
	if r.store != nil {
		w.storeCalls += r.store.calls.Load() - before
	}
	return nil
}

func micro(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d)/1000) }

func signed(d time.Duration) string {
	if d < 0 {
		return micro(-d) + " less"
	}
	return micro(d) + " more"
}

// redisTime is the CPU time of a redis-server.
func redisTime(server *bench.Redis) time.Duration {
	seconds := info(server, "cpu", "used_cpu_user") + info(server, "cpu", "used_cpu_sys")
	return time.Duration(seconds * float64(time.Second))
}

// info is a number from a redis-server's INFO, or NaN.
func info(server *bench.Redis, section, name string) float64 {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Address}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		return math.NaN()
	}
	defer client.Close()
	text, err := client.Do(context.Background(), client.B().Info().Section(section).Build()).ToString()
	if err != nil {
		return math.NaN()
	}
	_, rest, _ := strings.Cut(text, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\r")
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return math.NaN()
	}
	return number
}

// measureMemory compares replicas that remember as many visitors, with and without
// a store.
func measureMemory(server *bench.Redis, url string) error {
	client, err := newClient(url)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	const count, first = 3000, users / 2
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // memory that the first one's finalizers released
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	visit := func(r *replica) error {
		for user := first; user < first+count; user++ {
			if _, err := r.visit(user); err != nil {
				return err
			}
		}
		return nil
	}
	// Names of groups are in memory only once: otherwise the first replica would
	// pay for all.
	warm, err := newReplica(server, client, long)
	if err != nil {
		return err
	}
	defer warm.close()
	redis := info(server, "memory", "used_memory")
	if err := visit(warm); err != nil {
		return err
	}
	redis = (info(server, "memory", "used_memory") - redis) / count
	var grown [2]float64
	for i, s := range []*bench.Redis{nil, server} {
		r, err := newReplica(s, client, long)
		if err != nil {
			return err
		}
		defer r.close()
		before := heap()
		if err := visit(r); err != nil {
			return err
		}
		grown[i] = float64(heap()-before) / count
	}
	fmt.Printf("\n## Memory\n\nOf a remembered visitor with three groups: %.0f bytes of the replica without a store, %.0f with one, and %.0f in Redis.\n", grown[0], grown[1], redis)
	return nil
}

// hits are CPU times of a hit.
type hits struct {
	with  time.Duration
	ratio float64
}

// compareHits measures in turns, with new replicas for each round.
func compareHits(server *bench.Redis, url string) (h hits, err error) {
	client, err := newClient(url)
	if err != nil {
		return h, err
	}
	defer client.CloseIdleConnections()
	heap := make([]byte, 64<<20) // the size of an application's heap
	traffic := bench.NewTraffic(bench.Session, bench.Hot, 350)
	var times [2]bench.Sample // without, with
	for round := range *rounds {
		for turn := range 2 {
			i := (turn + round) % 2
			var s *bench.Redis
			if i == 1 {
				s = server
			}
			r, err := newReplica(s, client, 0)
			if err != nil {
				return h, err
			}
			wrap := func(next http.Handler) http.Handler { return r.auth.Handler(next) }
			bench.Measure(wrap, traffic, 1, *each/10)
			result := bench.Measure(wrap, traffic, 1, *each)
			r.close()
			if result.Lost > 0 {
				return h, fmt.Errorf("%d hits were refused", result.Lost)
			}
			times[i] = append(times[i], result.Each(float64(result.CPU)))
		}
	}
	heap[0] = 1
	ratio := times[1].Ratio(times[0])
	low, high := ratio.Interval(0.95)
	h = hits{time.Duration(times[1].Median()), ratio.Median()}
	fmt.Printf("\n## A hit with and without a store\n\nIn %d rounds, each with replicas of its own, in turns: %.0f ns of CPU time without, %.0f ns with a store, which is %.3f times as much [95 %%: %.3f–%.3f].\n",
		*rounds, times[0].Median(), times[1].Median(), h.ratio, low, high)
	return h, nil
}

// measureNotices returns the milliseconds until all of eight replicas have
// dropped an answer, p99.
func measureNotices(server *bench.Redis, url string) (float64, error) {
	client, err := newClient(url)
	if err != nil {
		return 0, err
	}
	defer client.CloseIdleConnections()
	var all []*replica
	for range 8 {
		r, err := newReplica(server, client, long)
		if err != nil {
			return 0, err
		}
		defer r.close()
		all = append(all, r)
	}
	var took bench.Histogram
	const times = 300
	for user := newcomers; user < newcomers+times; user++ {
		for _, r := range all {
			if _, err := r.visit(user); err != nil {
				return 0, err
			}
		}
		began := time.Now()
		all[user%len(all)].auth.ForgetUser(bench.Login(user))
		for _, r := range all {
			if err := r.until("has forgotten", func(s dssauth.Stats) bool { return s.Entries == 0 }); err != nil {
				return 0, err
			}
		}
		took.Add(time.Since(began))
	}
	p99 := took.Quantile(0.99)
	fmt.Printf("\n## Forgetting\n\nFrom the call of ForgetUser until all of 8 replicas have dropped the answer, %d times: p50 %s, p99 %s.\n", times, micro(took.Quantile(0.5)), micro(p99))
	return float64(p99) / float64(time.Millisecond), nil
}

// measureOutages kills and stops the server while newcomers come one by one.
func measureOutages(server **bench.Redis, url string) error {
	client, err := newClient(url)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	r, err := newReplica(*server, client, long)
	if err != nil {
		return err
	}
	defer r.close()
	alone, err := newReplica(nil, client, long)
	if err != nil {
		return err
	}
	defer alone.close()
	address := (*server).Address
	fmt.Print("\n## An outage of the store\n\nNewcomers come one by one. They wait for the store only until its outage is known.\n\n")
	fmt.Print("| the server is | requests until that is known | the longest of them | all of them together | afterwards, p50, p99 | without a store, p50, p99 | back in use after |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	user := newcomers + 1000
	for _, way := range []struct {
		name       string
		harm, heal func() error
	}{
		{"stopped", func() error { return (*server).Process.Signal(syscall.SIGSTOP) }, func() error { return (*server).Process.Signal(syscall.SIGCONT) }},
		{"killed", func() error { (*server).Kill(); return nil }, func() (err error) { *server, err = bench.StartRedis(address); return err }},
	} {
		var until, longest, together, back bench.Sample
		var after, without bench.Histogram
		for range 5 {
			if err := way.harm(); err != nil {
				return err
			}
			n, most, sum := 0, time.Duration(0), time.Duration(0)
			for ; !r.auth.Stats().Store.Out && n < 100; n, user = n+1, user+1 {
				took, err := r.visit(user)
				if err != nil {
					return err
				}
				most, sum = max(most, took), sum+took
			}
			until, longest, together = append(until, float64(n)), append(longest, ms(most)), append(together, ms(sum))
			for range 200 {
				for to, other := range map[*bench.Histogram]*replica{&after: r, &without: alone} {
					took, err := other.visit(user)
					if err != nil {
						return err
					}
					to.Add(took)
				}
				user++
			}
			began := time.Now()
			if err := way.heal(); err != nil {
				return err
			}
			if err := r.until("uses the store again", func(s dssauth.Stats) bool { return s.Store.Hears && !s.Store.Out }); err != nil {
				return err
			}
			back = append(back, time.Since(began).Seconds())
		}
		fmt.Printf("| %s | %.0f | %.1f ms | %.1f ms | %s, %s | %s, %s | %.1f s |\n", way.name, until.Median(), longest.Quantile(1), together.Quantile(1),
			micro(after.Quantile(0.5)), micro(after.Quantile(0.99)), micro(without.Quantile(0.5)), micro(without.Quantile(0.99)), back.Quantile(1))
	}
	fmt.Print("\nOf five outages each: the median of the requests, the longest of the times.\n")
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
