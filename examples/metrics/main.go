// Metrics serves a Middleware's metrics to Prometheus, at an address of its
// own: visitors do not reach /metrics.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/metrics
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dssprom"
)

// newServers returns the server for visitors, and the server for Prometheus.
func newServers(client *dss.Client) (app, metrics http.Handler, err error) {
	registry := prometheus.NewRegistry()
	auth, err := dssauth.New(dssauth.Config{Client: client, Hooks: dssprom.Hooks(registry)})
	if err != nil {
		return nil, nil, err
	}
	registry.MustRegister(dssprom.NewCollector(auth))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	scraped := http.NewServeMux()
	scraped.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return auth.Handler(mux), scraped, nil
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	scraped := flag.String("scraped", "127.0.0.1:9464", "where Prometheus scrapes")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	app, metrics, err := newServers(client)
	if err != nil {
		log.Fatal(err)
	}
	serve := func(address string, h http.Handler) {
		server := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
		log.Fatal(server.ListenAndServe())
	}
	go serve(*scraped, metrics)
	serve(*addr, app)
}
