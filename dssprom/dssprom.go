// Package dssprom gives Prometheus the metrics of a [dssauth.Middleware]:
//
//	auth, err := dssauth.New(dssauth.Config{Client: client, Hooks: dssprom.Hooks(prometheus.DefaultRegisterer)})
//	prometheus.MustRegister(dssprom.NewCollector(auth))
//
// These are all its metrics. Visitors cannot add values of labels, and no label
// names a visitor. Each series exists from the start, with zero.
//
//	dssauth_lookups_total{outcome}             questions to DSS that ended
//	dssauth_lookup_duration_seconds{outcome}   how long they took, without the wait for a place
//	dssauth_refusals_total{status}             requests refused, by the status of the refusal
//	dssauth_entries                            answers remembered now
//	dssauth_evictions_total                    answers that made room for others before their time
//	dssauth_lookups_in_flight                  lookups that have a place towards DSS now
//	dssauth_lookups_queued                     lookups that wait for a place now, without refreshes
//	dssauth_places                             places that are open now, see dssauth.Config.MaxLookups
//	dssauth_dss_down                           1 while DSS is down, by the application's own last question
//	dssauth_store_hits_total                   lookups that the store answered, so that DSS was not asked
//	dssauth_store_misses_total                 lookups that the store did not answer
//	dssauth_store_rejected_total               values of the store that were rejected
//	dssauth_store_failures_total               calls of the store that failed, or took too long
//	dssauth_store_out                          1 while the store is out and not asked, until a probe succeeds
//	dssauth_store_hears                        1 while notices of other replicas' Forget arrive
//
// The metrics of the store stay 0 if [dssauth.Config] has no Store.
//
// An outcome is one of identified, anonymous, unavailable and stale, see
// [dssauth.Outcome]. A status is one of those of [dssauth.StatusCode]: 400,
// 401, 403, 404, 431, 500, 502 and 503. A redirect to sign in counts as 401.
// Hits are not counted: counting a hit would cost more than the hit.
//
// # Several Middlewares
//
// A program with several Middlewares gives each of them a label by
// [prometheus.WrapRegistererWith], as the example of [Hooks] does. All of them
// need the label.
package dssprom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dssauth/dssauth"
)

var outcomes = []dssauth.Outcome{dssauth.OutcomeIdentified, dssauth.OutcomeAnonymous, dssauth.OutcomeUnavailable, dssauth.OutcomeStale}

// statuses are those of [dssauth.StatusCode] for an error.
var statuses = []int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestHeaderFieldsTooLarge,
	http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
}

// Hooks registers the metrics of lookups and refusals with r, and returns the
// hooks that count them, for [dssauth.Config]. [dssauth.JoinHooks] adds others.
//
// Called again with the same r, it returns hooks that count in the same
// metrics: these are then the sum of several Middlewares. To tell Middlewares
// apart, wrap each one's r with [prometheus.WrapRegistererWith]. Hooks panics
// if r is nil, and if r has another metric with one of these names.
func Hooks(r prometheus.Registerer) dssauth.Hooks {
	if r == nil {
		panic("dssprom: Hooks(nil): give a Registerer, such as prometheus.DefaultRegisterer")
	}
	lookups := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dssauth_lookups_total", Help: "Ended questions to DSS, by outcome.",
	}, []string{"outcome"}))
	durations := register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "dssauth_lookup_duration_seconds", Help: "Time of questions to DSS, without the wait for a place, by outcome.",
		Buckets: prometheus.DefBuckets,
	}, []string{"outcome"}))
	refusals := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dssauth_refusals_total", Help: "Requests refused, by the status of the refusal.",
	}, []string{"status"}))
	for _, o := range outcomes {
		lookups.WithLabelValues(string(o))
		durations.WithLabelValues(string(o))
	}
	for _, s := range statuses {
		refusals.WithLabelValues(strconv.Itoa(s))
	}
	return dssauth.Hooks{
		LookupEnd: func(_ context.Context, l dssauth.Lookup) {
			lookups.WithLabelValues(string(l.Outcome)).Inc()
			durations.WithLabelValues(string(l.Outcome)).Observe(l.Duration.Seconds())
		},
		Refused: func(_ *http.Request, err error) {
			refusals.WithLabelValues(strconv.Itoa(dssauth.StatusCode(err))).Inc()
		},
	}
}

// register registers c, or returns the collector that was registered before.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	err := r.Register(c)
	if taken, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := taken.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		panic(fmt.Sprintf("dssprom: Hooks: %v", err))
	}
	return c
}

// collector asks a Middleware at each scrape.
type collector struct{ stats func() dssauth.Stats }

// fromStats are the metrics from [dssauth.Stats].
var fromStats = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(dssauth.Stats) float64
}{
	{desc("dssauth_entries", "Answers remembered now."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return float64(s.Entries) }},
	{desc("dssauth_evictions_total", "Answers that made room for others before their time."), prometheus.CounterValue,
		func(s dssauth.Stats) float64 { return float64(s.Evictions) }},
	{desc("dssauth_lookups_in_flight", "Lookups that have a place towards DSS now."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return float64(s.InFlight) }},
	{desc("dssauth_lookups_queued", "Lookups that wait for a place towards DSS now, early refreshes not counted."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return float64(s.Queued) }},
	{desc("dssauth_places", "Lookups that may be under way towards DSS now."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return float64(s.Places) }},
	{desc("dssauth_dss_down", "1 while DSS is down, by the application's own last question, and else 0."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return oneIf(s.DSSDown) }},
	{desc("dssauth_store_hits_total", "Lookups that the store answered, so that DSS was not asked."), prometheus.CounterValue,
		func(s dssauth.Stats) float64 { return float64(s.Store.Hits) }},
	{desc("dssauth_store_misses_total", "Lookups that the store did not answer."), prometheus.CounterValue,
		func(s dssauth.Stats) float64 { return float64(s.Store.Misses) }},
	{desc("dssauth_store_rejected_total", "Values of the store that were rejected."), prometheus.CounterValue,
		func(s dssauth.Stats) float64 { return float64(s.Store.Rejected) }},
	{desc("dssauth_store_failures_total", "Calls of the store that failed, or took too long."), prometheus.CounterValue,
		func(s dssauth.Stats) float64 { return float64(s.Store.Failures) }},
	{desc("dssauth_store_out", "1 while the store is out and not asked, until a probe succeeds, and else 0."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return oneIf(s.Store.Out) }},
	{desc("dssauth_store_hears", "1 while notices of other replicas' Forget arrive, and else 0."), prometheus.GaugeValue,
		func(s dssauth.Stats) float64 { return oneIf(s.Store.Hears) }},
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// NewCollector returns the metrics of m that are not counted by Hooks. Register
// it once. The collectors of several Middlewares need labels, by
// [prometheus.WrapRegistererWith]. Otherwise the second registration fails with
// a [prometheus.AlreadyRegisteredError]. NewCollector panics if m is nil.
//
// dssauth_dss_down stays 0 with a [dssauth.Config] that has a Resolver.
func NewCollector(m *dssauth.Middleware) prometheus.Collector {
	if m == nil {
		panic("dssprom: NewCollector(nil): give what dssauth.New returned")
	}
	return collector{m.Stats}
}

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range fromStats {
		to <- f.desc
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	for _, f := range fromStats {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(s))
	}
}
