package main

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// demo is a fake DSS, with forms for actions that a real DSS has pages for:
// signing in and out, and groups. Any visitor may do anything here.
type demo struct {
	fake  *dsstest.DSS
	url   string
	key   string // our own
	close func() error
}

func startDemo() (*demo, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &demo{fake: dsstest.New(), url: "http://" + listener.Addr().String(), key: rand.Text()}
	d.fake.AddAPIKey(d.key, "")
	for _, u := range dsstest.DemoUsers() {
		d.fake.AddUser(u)
		d.fake.AddAPIKey(u.Login+"-key", u.Login)
	}

	server := &http.Server{Handler: d.fake, ReadHeaderTimeout: 5 * time.Second}
	d.close = server.Close
	go func() { _ = server.Serve(listener) }()
	return d, nil
}

func (d *demo) client() (*dss.Client, error) {
	return dss.New(dss.Config{URL: d.url, APIKey: d.key})
}

func (d *demo) addRoutes(mux *http.ServeMux, auth *dssauth.Middleware) {
	page := d.fake.SignInPage()
	// The Middleware forgets the visitor at once, and not within the TTL.
	noticed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page.ServeHTTP(w, r)
		auth.Forget(r) // before the answer leaves: it is short
	})
	mux.Handle("GET /sign-in", page)
	mux.Handle("POST /sign-in", noticed)
	mux.Handle("POST /sign-out", noticed)
	mux.Handle("POST /outage", noticed)
	mux.Handle("POST /groups", page) // not noticed, to show the TTL
}

func (d *demo) signInURL(_ *http.Request, back string) string {
	return "/sign-in?redirect=" + url.QueryEscape(back)
}
