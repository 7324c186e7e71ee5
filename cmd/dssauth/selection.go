package main

import (
	"context"
	"net/http"
	"slices"

	"github.com/dssauth/dssauth"
)

// picks are values of Config.Headers and Config.Cookies. Nil is a default.
type picks struct{ headers, cookies []string }

// selected returns the headers that an application with these settings sends to DSS
// about a request. It lets a Middleware identify the request, and reads its question.
func selected(ctx context.Context, of request, with picks, maxBytes int) (request, error) {
	asked := make(chan http.Header, 1)
	auth, err := dssauth.New(dssauth.Config{
		Headers: with.headers, Cookies: with.cookies, MaxHeaderBytes: maxBytes, TTL: -1, RefusalTTL: -1, MaxEntries: 1,
		Resolver: resolver(func(identifying http.Header) { asked <- identifying.Clone() }),
	})
	if err != nil {
		return request{}, err
	}
	defer auth.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return request{}, err
	}
	r.Header = of.headers()
	_, err = auth.Authenticate(r)
	switch dssauth.StatusCode(err) {
	case http.StatusOK:
		header := <-asked
		cookie := header.Get("Cookie")
		header.Del("Cookie")
		return newRequest(header, cookie), nil
	case http.StatusUnauthorized: // none is left
		return newRequest(http.Header{}, ""), nil
	}
	return request{}, err
}

type resolver func(identifying http.Header)

func (f resolver) Resolve(_ context.Context, identifying http.Header) (dssauth.Identity, error) {
	f(identifying)
	return dssauth.NewIdentity("visitor"), nil
}

// differing returns the names of the cookies that are not the same in a and b.
func differing(a, b cookies) []string {
	names := slices.Concat(a.names(), without(b.names(), a.names()))
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.Equal(a.named(name), b.named(name))
	})
}

func without(names, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(drop, name) })
}
