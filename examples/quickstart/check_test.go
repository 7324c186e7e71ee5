package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth"
)

func TestCheckTellsTheStoryAndSucceeds(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := run(t.Context(), []string{"-check"}, &out)
	assert.NoError(t, err)
	assert.NotContains(t, out.String(), "WRONG")
	assert.Contains(t, out.String(), "are right")
}

func TestCheckFailsIfAnApplication(t *testing.T) {
	for name, broken := range map[string]struct {
		config  func(*dssauth.Config)
		wrap    func(http.Handler) http.Handler
		chapter func(*story)
		line    string // that must be WRONG
	}{
		"admits anonymous visitors": {wrap: addMissing("Authorization", "Bearer ann-key"),
			chapter: anonymous, line: "an anonymous visitor opens /me"},
		"takes a reader for an analyst": {wrap: instead("/report", http.StatusOK),
			chapter: wrongGroup, line: "bob, not an analyst, opens /report"},
		"does nothing at a sign-out": {wrap: instead("/sign-out", http.StatusSeeOther),
			chapter: signOut, line: "a visitor with ann's old cookie opens /me"},
		"lets other sites sign visitors out": {wrap: trustOtherSites,
			chapter: otherSites, line: "another site signs ann out"},
		"never asks again": {config: func(c *dssauth.Config) { c.TTL = time.Hour },
			chapter: lostGroup, line: "2s after leaving analysts ann opens /report"},
		"admits API keys": {config: func(c *dssauth.Config) { c.AllowAPIKeys = true },
			chapter: apiKeys, line: "a program with an API key without a user opens /me"},
		"cannot call DSS as the visitor": {config: func(c *dssauth.Config) { c.Impersonation = dssauth.NoImpersonation },
			chapter: asVisitor, line: "ann opens /as-me"},
		"only claims to call DSS": {wrap: claim(`{"calledDSSAs":"ann"}`),
			chapter: asVisitor, line: "DSS acted as"},
		"looks at no cookies": {config: func(c *dssauth.Config) { c.Headers = []string{"Authorization"} },
			chapter: someone, line: "ann opens /me"},
		"looks at one cookie": {wrap: onlyFirstCookie,
			chapter: twoOfASort, line: "ann, first cookie theme=dark, opens /me"},
		"calls an outage a 401": {wrap: answerAs(503, 401),
			chapter: outage, line: "ann opens /me in the outage"},
		"calls a lost key anonymous": {wrap: answerAs(503, 401),
			chapter: ownKeyRevoked, line: "our own API key is revoked, and ann opens /me"},
		"believes a header": {wrap: believeProxyUser,
			chapter: forgery, line: "an anonymous visitor, with headers that claim to be ann, opens /me"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := tell(t.Context(), &out, func(config dssauth.Config, demo *demo) (*app, error) {
				if broken.config != nil {
					broken.config(&config)
				}
				a, err := newApp(config, demo)
				if err == nil && broken.wrap != nil {
					a.handler = broken.wrap(a.handler)
				}
				return a, err
			}, []func(*story){broken.chapter})
			assert.ErrorContains(t, err, "are wrong")
			assert.Contains(t, out.String(), "WRONG  "+broken.line+" ")
		})
	}
}

func TestCheckIsBounded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := tell(ctx, io.Discard, func(config dssauth.Config, demo *demo) (*app, error) {
		a, err := newApp(config, demo)
		if err == nil {
			a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				cancel()
				<-r.Context().Done()
			})
		}
		return a, err
	}, wholeStory)
	assert.ErrorIs(t, err, context.Canceled)
}

func addMissing(name, value string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(name) == "" {
				r.Header.Set(name, value)
			}
			next.ServeHTTP(w, r)
		})
	}
}

func instead(path string, status int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				w.WriteHeader(status)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func claim(answer string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/as-me" {
				io.WriteString(w, answer)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func trustOtherSites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		next.ServeHTTP(w, r)
	})
}

func onlyFirstCookie(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(r.Header.Get("Cookie"), ";")
		r.Header.Set("Cookie", first)
		next.ServeHTTP(w, r)
	})
}

func believeProxyUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if login := r.Header.Get("X-DKU-ProxyUser"); login != "" {
			r.Header.Set("Authorization", "Bearer "+login+"-key")
		}
		next.ServeHTTP(w, r)
	})
}

func answerAs(status, other int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&otherStatus{w, status, other}, r)
		})
	}
}

type otherStatus struct {
	http.ResponseWriter
	status, other int
}

func (w *otherStatus) WriteHeader(status int) {
	if status == w.status {
		status = w.other
	}
	w.ResponseWriter.WriteHeader(status)
}
