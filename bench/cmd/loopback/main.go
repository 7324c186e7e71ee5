// Command loopback compares whole servers, over 127.0.0.1. The library: an empty
// handler alone, behind dssauth, behind dssauth that asks DSS each time, and behind
// nginx's auth_request with its cache. The gateway: an application behind
// httputil.ReverseProxy alone, behind the gateway, and behind Caddy, whose
// forward_auth asks the gateway.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"time"

	"github.com/dssauth/dssauth/bench"
)

func main() {
	rounds := flag.Int("rounds", 12, "rounds; each loads every server")
	each := flag.Duration("time", time.Second, "time of one measurement")
	connections := flag.Int("connections", 64, "connections at once: of a visitor each for the library, of one for the gateway")
	many := flag.Bool("many", false, "for the gateway, too, a visitor for each connection")
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	part := flag.String("part", "all", "what to compare: library, gateway or all")
	role := flag.String("role", "", "for the command's own child processes")
	hot := flag.Bool("hot", false, "likewise")
	address := flag.String("address", "", "likewise")
	flag.Parse()
	log.SetFlags(0)

	var err error
	switch *role {
	case "dss":
		err = serveDSS(*connections)
	case "app":
		err = serveApps(*address)
	case "upstream":
		err = serveUpstream()
	case "reverseproxy":
		err = serveReverseProxy(*address)
	case "load":
		err = load(*address, *connections, *hot, *each)
	default:
		var met bool
		started := time.Now()
		met, err = compare(*part, *rounds, *each, *connections, *many)
		if err == nil {
			fmt.Printf("\n%s · %d rounds of %s in %s · `go run ./cmd/loopback -part %s -rounds %d -time %s -connections %d%s`\n",
				bench.Machine(), *rounds, *each, time.Since(started).Round(time.Second), *part, *rounds, *each, *connections, map[bool]string{true: " -many"}[*many])
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
type server struct {
	name, address string
	processes     []*exec.Cmd // their CPU time counts
	hot           bool        // one visitor has all connections
}

const (
	empty      = "empty handler"
	ours       = "dssauth"
	uncached   = "dssauth that asks DSS each time (TTL: -1)"
	nginxApp   = "nginx auth_request with proxy_cache, before the empty handler"
	nginxAlone = "nginx auth_request with proxy_cache, before a file of its own"
)

const (
	proxyAlone   = "httputil.ReverseProxy alone"
	proxyGateway = "gateway"
	proxyCaddy   = "Caddy, whose forward_auth asks the gateway"
)

func compare(part string, rounds int, each time.Duration, connections int, many bool) (met bool, err error) {
	l, err := startLibrary(connections)
	if err != nil {
		return false, err
	}
	defer l.stop()
	var servers []server
	switch part {
	case "all", "library":
		servers = []server{{empty, l.app.Empty, nil, false}, {ours, l.app.Ours, nil, false}, {uncached, l.app.Uncached, nil, false}}
		n, err := startNginx(l.app.Uncached, l.app.Empty)
		switch {
		case errors.Is(err, errNoNginx):
			fmt.Print("nginx is not installed (apt-get install nginx), and left out.\n\n")
		case err != nil:
			return false, err
		default:
			defer n.stop()
			servers = append(servers, server{nginxApp, n.app, nil, false}, server{nginxAlone, n.alone, nil, false})
		}
	case "gateway":
	default:
		return false, fmt.Errorf("-part %q: it must be library, gateway or all", part)
	}
	library := len(servers)
	if part != "library" {
		g, err := startGateway(l.dss)
		if g == nil {
			return false, err
		}
		defer g.stop()
		if err != nil {
			fmt.Print("Caddy is not installed (apt-get install caddy), and left out.\n\n")
		}
		servers = append(servers, g.servers(many)...)
	}

	results := map[string]*results{}
	for round := range rounds {
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			before, _ := cpuTime(s.processes)
			l, err := runLoad(s, connections, each)
			if err != nil {
				return false, fmt.Errorf("%s: %w", s.name, err)
			}
			if results[s.name] == nil {
				results[s.name] = newResults()
			}
			results[s.name].add(l)
			if after, err := cpuTime(s.processes); err == nil {
				results[s.name].cpu = append(results[s.name].cpu, (after-before).Seconds()*1e6/float64(l.Requests))
			}
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, rounds)
	}
	fmt.Fprint(os.Stderr, "\r                    \r")
	var targets []bench.Target
	if library > 0 {
		targets = reportLibrary(servers[:library], results)
	}
	if library < len(servers) {
		targets = append(targets, reportGateway(servers[library:], results)...)
	}
	return bench.PrintTargets(targets), nil
}

type results struct{ perSecond, p50, p99, cpu bench.Sample }

func newResults() *results { return &results{} }

func (r *results) add(l loadResult) {
	r.perSecond = append(r.perSecond, l.PerSecond)
	r.p50 = append(r.p50, l.P50.Seconds()*1e6)
	r.p99 = append(r.p99, l.P99.Seconds()*1e6)
}

func reportLibrary(servers []server, results map[string]*results) []bench.Target {
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
	return targets
}

func reportGateway(servers []server, results map[string]*results) []bench.Target {
	alone := results[proxyAlone].perSecond
	fmt.Print("\n| before one upstream | requests/s | times ReverseProxy alone | 95% interval of that | p50, µs | p99, µs | CPU µs a request, without load and upstream |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range servers {
		r := results[s.name]
		ratio := r.perSecond.Ratio(alone)
		low, high := ratio.Interval(0.95)
		fmt.Printf("| %s | %.0f | %s | %.3f–%.3f | %.0f | %.0f | %s |\n", s.name, r.perSecond.Median(), ratio.Spread(), low, high, r.p50.Median(), r.p99.Median(), r.cpu.Whole())
	}
	gateway := results[proxyGateway].perSecond
	targets := []bench.Target{{
		Number: "18", What: "requests/s of the gateway, times those of ReverseProxy alone", Reached: gateway.Ratio(alone).Median(), Bound: 0.9,
	}}
	if r := results[proxyCaddy]; r != nil {
		targets = append(targets, bench.Target{
			Number: "18", What: "requests/s of the gateway, times those of Caddy with forward_auth", Reached: gateway.Ratio(r.perSecond).Median(), Bound: 1,
		})
	}
	return targets
}
