// Command loopback compares whole servers, over 127.0.0.1: an empty handler
// alone, behind dssauth, behind dssauth that asks DSS each time, and behind
// nginx's auth_request with its cache.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 12, "rounds; each loads every server")
	each := flag.Duration("time", time.Second, "time of one measurement")
	connections := flag.Int("connections", 64, "connections at once, each of another visitor")
	enforce := flag.Bool("enforce", false, "exit with status 1 where a target is missed")
	role := flag.String("role", "", "for the command's own child processes")
	address := flag.String("address", "", "likewise")
	flag.Parse()
	log.SetFlags(0)

	var err error
	switch *role {
	case "dss":
		err = serveDSS(*connections)
	case "app":
		err = serveApps(*address)
	case "load":
		err = load(*address, *connections, *each)
	default:
		var met bool
		started := time.Now()
		met, err = compare(*rounds, *each, *connections)
		if err == nil {
			fmt.Printf("\n%s · %d rounds of %s in %s · `go run ./cmd/loopback -rounds %d -time %s -connections %d`\n",
				bench.Machine(), *rounds, *each, time.Since(started).Round(time.Second), *rounds, *each, *connections)
		}
		if err == nil && *enforce && !met {
			os.Exit(1)
		}
	}
	if err != nil {
		log.Fatal("loopback: ", err)
	}
}

// server is a server under load.
type server struct{ name, address string }

const (
	empty      = "empty handler"
	ours       = "dssauth"
	uncached   = "dssauth that asks DSS each time (TTL: -1)"
	nginxApp   = "nginx auth_request with proxy_cache, before the empty handler"
	nginxAlone = "nginx auth_request with proxy_cache, before a file of its own"
)

func compare(rounds int, each time.Duration, connections int) (met bool, err error) {
	c, err := startChildren(connections)
	if err != nil {
		return false, err
	}
	defer c.stop()
	servers := []server{{empty, c.app.Empty}, {ours, c.app.Ours}, {uncached, c.app.Uncached}}
	n, err := startNginx(c.app.Uncached, c.app.Empty)
	switch {
	case errors.Is(err, errNoNginx):
		fmt.Print("nginx is not installed (apt-get install nginx), and left out.\n\n")
	case err != nil:
		return false, err
	default:
		defer n.stop()
		servers = append(servers, server{nginxApp, n.app}, server{nginxAlone, n.alone})
	}

	results := map[string]*results{}
	for round := range rounds {
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			l, err := runLoad(s.address, connections, each)
			if err != nil {
				return false, fmt.Errorf("%s: %w", s.name, err)
			}
			if results[s.name] == nil {
				results[s.name] = newResults()
			}
			results[s.name].add(l)
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, rounds)
	}
	fmt.Fprint(os.Stderr, "\r                    \r")
	return report(servers, results), nil
}

type results struct{ perSecond, p50, p99 bench.Sample }

func newResults() *results { return &results{} }

func (r *results) add(l loadResult) {
	r.perSecond = append(r.perSecond, l.PerSecond)
	r.p50 = append(r.p50, l.P50.Seconds()*1e6)
	r.p99 = append(r.p99, l.P99.Seconds()*1e6)
}

func report(servers []server, results map[string]*results) (met bool) {
	fmt.Print("| | requests/s | times the empty handler | p50, µs | p99, µs |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range servers {
		r := results[s.name]
		fmt.Printf("| %s | %.0f | %s | %.0f | %.0f |\n", s.name, r.perSecond.Median(),
			r.perSecond.Ratio(results[empty].perSecond).Spread(), r.p50.Median(), r.p99.Median())
	}
	targets := []bench.Target{{
		Number: "6", What: "requests/s, times the empty handler's",
		Reached: results[ours].perSecond.Ratio(results[empty].perSecond).Median(), Bound: 0.95,
	}}
	for _, name := range []string{nginxApp, nginxAlone} {
		if r := results[name]; r != nil {
			targets = append(targets, bench.Target{
				Number: "6", What: "requests/s, times those of " + name,
				Reached: results[ours].perSecond.Ratio(r.perSecond).Median(), Bound: 2, Stretch: name == nginxAlone,
			})
		}
	}
	return bench.PrintTargets(targets)
}
