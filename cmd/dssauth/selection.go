package main

import (
	"context"
	"net/http"
	"slices"

	"github.com/dssauth/dssauth"
)

// selected returns the cookies that an application sends to DSS by default. It
// has a Middleware identify a request that has them, and looks at what it asks.
func selected(ctx context.Context, c cookies) (cookies, error) {
	asked := make(chan string, 1)
	auth, err := dssauth.New(dssauth.Config{Resolver: resolver(func(identifying http.Header) {
		asked <- identifying.Get("Cookie")
	})})
	if err != nil {
		return cookies{}, err
	}
	defer auth.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return cookies{}, err
	}
	r.Header.Set("Cookie", c.header())
	_, err = auth.Authenticate(r)
	switch dssauth.StatusCode(err) {
	case http.StatusOK:
		header := <-asked
		return cookies{header: func() string { return header }}, nil
	case http.StatusUnauthorized: // none is left
		return cookies{header: func() string { return "" }}, nil
	}
	return cookies{}, err
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
