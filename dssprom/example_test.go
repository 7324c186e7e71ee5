package dssprom_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dssprom"
	"github.com/dssauth/dssauth/dsstest"
)

// Two instances of DSS in one program, told apart by a label.
func ExampleHooks() {
	registry := prometheus.NewRegistry()
	newAuth := func(name string, client *dss.Client) *dssauth.Middleware {
		labelled := prometheus.WrapRegistererWith(prometheus.Labels{"dss": name}, registry)
		auth, err := dssauth.New(dssauth.Config{Client: client, Hooks: dssprom.Hooks(labelled)})
		if err != nil {
			log.Fatal(err)
		}
		labelled.MustRegister(dssprom.NewCollector(auth))
		return auth
	}
	production, stopProduction := fakeDSS()
	defer stopProduction()
	design, stopDesign := fakeDSS()
	defer stopDesign()

	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/sales/", newAuth("production", production).Handler(http.NotFoundHandler()))
	mux.Handle("/drafts/", newAuth("design", design).Handler(http.NotFoundHandler()))

	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/sales/", nil)) // without a session
	for _, line := range scrape(mux) {
		if strings.Contains(line, `status="401"`) || strings.Contains(line, "_places") {
			fmt.Println(line)
		}
	}
	// Output:
	// dssauth_places{dss="design"} 32
	// dssauth_places{dss="production"} 32
	// dssauth_refusals_total{dss="design",status="401"} 0
	// dssauth_refusals_total{dss="production",status="401"} 1
}

func ExampleNewCollector() {
	client, stop := fakeDSS()
	defer stop()
	auth, err := dssauth.New(dssauth.Config{Client: client, MaxLookups: 4})
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(dssprom.NewCollector(auth))

	for _, line := range scrape(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})) {
		fmt.Println(line)
	}
	// Output:
	// dssauth_dss_down 0
	// dssauth_entries 0
	// dssauth_evictions_total 0
	// dssauth_lookups_in_flight 0
	// dssauth_lookups_queued 0
	// dssauth_places 4
	// dssauth_store_failures_total 0
	// dssauth_store_hears 0
	// dssauth_store_hits_total 0
	// dssauth_store_misses_total 0
	// dssauth_store_out 0
	// dssauth_store_rejected_total 0
}

// fakeDSS starts a DSS for an example. Tests have dsstest.NewServer.
func fakeDSS() (client *dss.Client, stop func()) {
	fake := dsstest.New()
	fake.AddAPIKey("application-key", "")
	server := httptest.NewServer(fake)
	client, err := dss.New(dss.Config{URL: server.URL, APIKey: "application-key"})
	if err != nil {
		log.Fatal(err)
	}
	return client, server.Close
}

// scrape returns the samples that Prometheus would read.
func scrape(metrics http.Handler) (lines []string) {
	w := httptest.NewRecorder()
	metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for s := bufio.NewScanner(w.Body); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "#") {
			lines = append(lines, s.Text())
		}
	}
	return lines
}
