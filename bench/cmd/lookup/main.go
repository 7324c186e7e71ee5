// Command lookup compares a lookup by dss.Client with the same POST by plain
// net/http, in interleaved turns of one process; the DSS is another one.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/dss"
)

func main() {
	turns := flag.Int("turns", 200, "turns of each contender")
	lookups := flag.Int("lookups", 50, "lookups in a turn")
	cores := flag.Int("cores", 1, "cores that the process uses")
	profile := flag.String("memprofile", "", "write a profile of all allocations of dss.Client to this file")
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	serve := flag.Bool("serve", false, "for the command's own child process")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("lookup: ")
	if *serve {
		if err := bench.ServeDSS(1); err != nil {
			log.Fatal(err)
		}
		return
	}

	runtime.GOMAXPROCS(*cores)
	if *profile != "" {
		runtime.MemProfileRate = 1
	}
	started := time.Now()
	url, end, err := bench.StartChild()
	if err != nil {
		log.Fatal(err)
	}
	defer end()
	c, err := newContenders(url)
	if err != nil {
		log.Fatal(err)
	}
	if *profile != "" {
		if err := writeProfile(*profile, c[client], *turns**lookups); err != nil {
			log.Fatal(err)
		}
	}
	results, err := compare(c, *turns, *lookups)
	if err != nil {
		log.Fatal(err)
	}
	met := print(c, results)
	fmt.Printf("\n%s · %d turns of %d lookups in %s · `go run ./cmd/lookup -cores %d`\n",
		bench.Machine(), *turns, *lookups, time.Since(started).Round(time.Second), *cores)
	if *enforce && !met {
		end()
		os.Exit(1)
	}
}

// contender asks DSS for the user.
type contender struct {
	name string
	ask  func() error
}

var login = bench.Login(0)

// The places of the contenders.
const (
	post = iota
	plain
	client
	count
)

// newContenders returns the same POST three times. The first has an encoded
// body and ignores the reply. The second reads and writes JSON by
// encoding/json, as is usual without this library. The third is ours.
func newContenders(url string) (c [count]contender, err error) {
	headers := http.Header{"Cookie": {bench.CookieHeader(bench.Session, 0, 350)}}
	body, err := json.Marshal(map[string]string{"Cookie": headers.Get("Cookie")})
	if err != nil {
		return c, err
	}
	ours, err := dss.New(dss.Config{URL: url, APIKey: bench.APIKey})
	if err != nil {
		return c, err
	}
	theirs := &http.Client{Transport: &http.Transport{}}
	within := func(ask func(context.Context) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return ask(ctx)
		}
	}
	send := func(ctx context.Context, body []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/dip/publicapi/auth/info-from-browser-headers?withSecrets=False", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth(bench.APIKey, "")
		reply, err := theirs.Do(req)
		if err != nil {
			return nil, err
		}
		defer reply.Body.Close()
		if reply.StatusCode != http.StatusOK {
			return nil, errors.New(reply.Status)
		}
		return io.ReadAll(reply.Body)
	}
	check := func(got string) error {
		if got != login {
			return fmt.Errorf("%q instead of %q", got, login)
		}
		return nil
	}
	c[post] = contender{"net/http alone", within(func(ctx context.Context) error {
		_, err := send(ctx, body)
		return err
	})}
	c[plain] = contender{"net/http and encoding/json", within(func(ctx context.Context) error {
		body, err := json.Marshal(map[string]string{"Cookie": headers.Get("Cookie")})
		if err != nil {
			return err
		}
		reply, err := send(ctx, body)
		if err != nil {
			return err
		}
		var info struct {
			AuthSource, AuthIdentifier, UserProfile, AssociatedDSSUser, UserForImpersonation string
			Via, Groups                                                                      []string
		}
		if err := json.Unmarshal(reply, &info); err != nil {
			return err
		}
		return check(info.AssociatedDSSUser)
	})}
	c[client] = contender{"dss.Client", within(func(ctx context.Context) error {
		info, err := ours.AuthInfoFromBrowserHeaders(ctx, headers)
		if err != nil {
			return err
		}
		return check(info.Login())
	})}
	return c, nil
}

// result is the cost of a turn.
type result struct {
	cpu    time.Duration
	allocs uint64
	bytes  uint64
}

func compare(c [count]contender, turns, lookups int) (results [count][]result, err error) {
	for turn := range turns + 1 {
		for i := range c {
			at := (turn + i) % count
			r, err := measure(c[at], lookups)
			if err != nil {
				return results, fmt.Errorf("%s: %w", c[at].name, err)
			}
			if turn > 0 { // the first one makes connections
				results[at] = append(results[at], r)
			}
		}
	}
	return results, nil
}

func measure(c contender, lookups int) (r result, err error) {
	runtime.GC() // so that no collection is in a turn
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := bench.CPUTime()
	for range lookups {
		if err := c.ask(); err != nil {
			return r, err
		}
	}
	cpu = bench.CPUTime() - cpu
	runtime.ReadMemStats(&after)
	return result{cpu / time.Duration(lookups), (after.Mallocs - before.Mallocs) / uint64(lookups), (after.TotalAlloc - before.TotalAlloc) / uint64(lookups)}, nil
}

func print(c [count]contender, results [count][]result) (met bool) {
	sample := func(at int, of func(result) float64) (s bench.Sample) {
		for _, r := range results[at] {
			s = append(s, of(r))
		}
		return s
	}
	cpu := func(r result) float64 { return float64(r.cpu) / 1000 }
	allocs := func(r result) float64 { return float64(r.allocs) }
	bytes := func(r result) float64 { return float64(r.bytes) }
	fmt.Print("| one lookup | CPU time, µs | times net/http and encoding/json, median [its 95% interval] | allocations | bytes |\n| --- | --- | --- | --- | --- |\n")
	var ratio bench.Sample
	for at := range c {
		ratio = sample(at, cpu).Ratio(sample(plain, cpu)) // the last one is ours
		low, high := ratio.Interval(0.95)
		fmt.Printf("| %s | %.1f | %.3f [%.3f–%.3f] | %.0f | %.0f |\n", c[at].name, sample(at, cpu).Median(), ratio.Median(), low, high,
			sample(at, allocs).Median(), sample(at, bytes).Median())
	}
	return bench.PrintTargets([]bench.Target{
		{Number: "11", What: "CPU time of a lookup, times that of net/http and encoding/json", Reached: ratio.Median(), AtMost: true, Bound: 1.2},
		{Number: "11", What: "allocations of a lookup", Reached: math.Round(sample(client, allocs).Median()), AtMost: true, Bound: 140},
	})
}

func writeProfile(file string, c contender, lookups int) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	for range lookups {
		if err := c.ask(); err != nil {
			return err
		}
	}
	return pprof.Lookup("allocs").WriteTo(out, 0)
}
