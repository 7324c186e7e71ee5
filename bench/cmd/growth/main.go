// Command growth measures how the cost of a hit grows with the number of
// remembered users, and with the size of the cookies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; each measures every point")
	each := flag.Duration("time", 20*time.Millisecond, "time of FLOOR in one measurement")
	most := flag.Int("users", 1_000_000, "the most users")
	out := flag.String("out", "out", "folder for growth.svg and growth.png")
	flag.Parse()
	log.SetFlags(0)

	// The cost of garbage collection depends on everything else in a process, and
	// hides the bends in the cost of a hit. So it is left out.
	debug.SetGCPercent(-1)
	started := time.Now()
	users, err := measureUsers(*most, *rounds, *each)
	if err != nil {
		log.Fatal("growth: ", err)
	}
	sizes, err := measureSizes(*rounds, *each)
	if err != nil {
		log.Fatal("growth: ", err)
	}
	print("remembered users, drawn evenly, cookies of 350 bytes", users)
	print("bytes of cookies, one user", sizes)
	fmt.Printf("\n%s · %s · `go run ./cmd/growth -rounds %d -time %s -users %d`\n",
		bench.Machine(), time.Since(started).Round(time.Second), *rounds, *each, *most)
	if err := drawPlots(*out, users, sizes); err != nil {
		log.Fatal("growth: ", err)
	}
	fmt.Println("drawn:", filepath.Join(*out, "growth.svg"), filepath.Join(*out, "growth.png"))
}

// point is the cost of one request at one place of an axis, in nanoseconds.
type point struct {
	at    int
	ours  bench.Sample
	floor bench.Sample
}

func print(axis string, points []point) {
	fmt.Printf("\n| %s | dssauth, CPU ns | FLOOR, CPU ns | times FLOOR |\n| --- | --- | --- | --- |\n", axis)
	for _, p := range points {
		fmt.Printf("| %d | %.0f | %.0f | %s |\n", p.at, p.ours.Median(), p.floor.Median(), p.ours.Ratio(p.floor).Spread())
	}
}

// measureUsers fills one Middleware after the other with 1 to most users.
func measureUsers(most, rounds int, each time.Duration) ([]point, error) {
	var points []point
	for count := 1; count <= most; count *= 10 {
		m, err := filled(count, 350)
		if err != nil {
			return nil, err
		}
		p, draw := point{at: count}, sampler(count, 350)
		for range rounds {
			if err := p.measure(m, draw, each); err != nil {
				return nil, err
			}
		}
		points = append(points, p)
		if err := m.Close(); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%d users\n", count)
	}
	return points, nil
}

// measureSizes measures one user with ever more cookies, up to the default of
// Config.MaxHeaderBytes.
func measureSizes(rounds int, each time.Duration) ([]point, error) {
	var points []point
	for _, size := range []int{100, 200, 350, 700, 1536, 3 << 10, 6 << 10, 12 << 10, 16 << 10} {
		m, err := filled(1, size)
		if err != nil {
			return nil, err
		}
		p, copies := point{at: size}, repeated(bench.NewTraffic(bench.Session, bench.Hot, size))
		for range rounds {
			if err := p.measure(m, func() *bench.Traffic { return copies }, each); err != nil {
				return nil, err
			}
		}
		points = append(points, p)
		if err := m.Close(); err != nil {
			return nil, err
		}
	}
	return points, nil
}

// repeated sends traffic often enough to measure its time.
func repeated(t *bench.Traffic) *bench.Traffic {
	return &bench.Traffic{Requests: t.Requests, Order: slices.Repeat(t.Order, sampleSize/len(t.Order))}
}

// filled returns a Middleware that remembers count users. A Resolver replaces
// DSS, since a million calls would take minutes. For hits this makes no
// difference.
func filled(count, size int) (*dssauth.Middleware, error) {
	m, err := dssauth.New(dssauth.Config{Resolver: everybody{}, TTL: time.Hour, MaxEntries: count})
	if err != nil {
		return nil, err
	}
	for range 2 {
		if err := bench.VisitAll(m.Handler, bench.Session, count, size, func(int, *http.Request) {}); err != nil {
			return nil, err
		}
	}
	runtime.GC()
	if n := m.Stats().Entries; n != count {
		return nil, fmt.Errorf("%d entries instead of %d", n, count)
	}
	return m, nil
}

// everybody is a Resolver that knows each visitor by the session cookie's
// value.
type everybody struct{}

func (everybody) Resolve(_ context.Context, h http.Header) (dssauth.Identity, error) {
	r := http.Request{Header: h}
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, "dss_session_") {
			return dssauth.NewIdentity("user-"+strings.Clone(c.Value), "analysts", "readers"), nil
		}
	}
	return dssauth.Identity{}, dssauth.ErrUnauthenticated
}

// sampleSize is the number of requests that are made before they are measured.
// They fit into the processor's cache, so that only the cost of finding their
// users grows.
const sampleSize = 2048

// sampler returns a function that makes requests of users drawn at random, in
// place of its last ones.
func sampler(count, size int) func() *bench.Traffic {
	t := &bench.Traffic{}
	for i := range sampleSize {
		t.Requests = append(t.Requests, bench.Request(bench.Session, 0, size))
		t.Order = append(t.Order, int32(i))
	}
	return func() *bench.Traffic {
		for _, r := range t.Requests {
			r.Header["Cookie"] = []string{bench.CookieHeader(bench.Session, rand.IntN(count), size)}
		}
		return t
	}
}

// measure adds a round: the same requests to ours and to FLOOR, in turn.
func (p *point) measure(m *dssauth.Middleware, traffic func() *bench.Traffic, each time.Duration) error {
	// Collects the garbage of earlier rounds: during a round the collector is off.
	runtime.GC()
	reached, requests := 0, 0
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })
	ours, floor := m.Handler(next), bench.FloorHandler(next)
	var oursTook, floorTook time.Duration
	for floorTook < each {
		t := traffic()
		floorTook += pass(floor, t)
		oursTook += pass(ours, t)
		requests += len(t.Order)
	}
	if reached != 2*requests {
		return errors.New("a request was refused")
	}
	p.ours = append(p.ours, float64(oursTook)/float64(requests))
	p.floor = append(p.floor, float64(floorTook)/float64(requests))
	return nil
}

func pass(h http.Handler, t *bench.Traffic) time.Duration {
	w := bench.Discard()
	began := bench.CPUTime()
	for _, i := range t.Order {
		h.ServeHTTP(w, t.Requests[i])
	}
	return bench.CPUTime() - began
}
