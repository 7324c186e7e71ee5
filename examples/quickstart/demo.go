package main

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// demo is a fake DSS, with what a real one has pages of its own for: signing
// in and out, and groups. Anybody may do anything here.
type demo struct {
	fake   *dsstest.DSS
	url    string
	key    string // our own
	cookie string // the session cookie's name
	close  func() error

	mu    sync.Mutex
	users []dsstest.User
	down  bool
}

func startDemo() (*demo, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &demo{fake: dsstest.New(), url: "http://" + listener.Addr().String(), key: rand.Text(), users: dsstest.DemoUsers()}
	d.fake.AddAPIKey(d.key, "")
	for _, u := range d.users {
		d.fake.AddUser(u)
		d.fake.AddAPIKey(u.Login+"-key", u.Login)
	}
	probe := d.fake.SignIn(d.users[0].Login)
	d.fake.SignOut(probe)
	d.cookie = probe.Name

	server := &http.Server{Handler: d.fake, ReadHeaderTimeout: 5 * time.Second}
	d.close = server.Close
	go func() { _ = server.Serve(listener) }()
	return d, nil
}

func (d *demo) client() (*dss.Client, error) {
	return dss.New(dss.Config{URL: d.url, APIKey: d.key})
}

func (d *demo) addRoutes(mux *http.ServeMux, auth *dssauth.Middleware) {
	mux.HandleFunc("GET /sign-in", d.showSignIn)
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) {
		login := r.PostFormValue("login")
		if !slices.Contains(d.logins(), login) {
			http.Error(w, "no such user", http.StatusBadRequest)
			return
		}
		d.endSession(r, auth)
		http.SetCookie(w, d.fake.SignIn(login))
		http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /sign-out", func(w http.ResponseWriter, r *http.Request) {
		d.endSession(r, auth)
		http.SetCookie(w, &http.Cookie{Name: d.cookie, Path: "/", MaxAge: -1})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /groups", func(w http.ResponseWriter, r *http.Request) {
		d.setAnalyst(r.PostFormValue("login"), r.PostFormValue("analyst") == "true")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /outage", func(w http.ResponseWriter, r *http.Request) {
		d.setDown(r.PostFormValue("down") == "true")
		auth.Forget(r) // to show at once what others see within the TTL
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}

// endSession signs r's browser out, and makes the Middleware notice now.
func (d *demo) endSession(r *http.Request, auth *dssauth.Middleware) {
	if session, err := r.Cookie(d.cookie); err == nil {
		d.fake.SignOut(session)
	}
	auth.Forget(r)
}

func (d *demo) signInURL(_ *http.Request, back string) string {
	return "/sign-in?back=" + url.QueryEscape(back)
}

// localPath returns back if it is a page of this application: it came with a
// link that anybody may have made.
func localPath(back string) string {
	u, err := url.Parse(back)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.Contains(back, `\`) {
		return "/"
	}
	return back
}

func (d *demo) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
	d.fake.SetDown(down)
}

func (d *demo) isDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.down
}

// setAnalyst puts a user into the group analysts, or takes the user out.
func (d *demo) setAnalyst(login string, analyst bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, u := range d.users {
		if u.Login != login || slices.Contains(u.Groups, "analysts") == analyst {
			continue
		}
		groups := slices.DeleteFunc(slices.Clone(u.Groups), func(g string) bool { return g == "analysts" })
		if analyst {
			groups = append([]string{"analysts"}, groups...)
		}
		d.users[i].Groups = groups
		d.fake.AddUser(d.users[i])
	}
}

func (d *demo) currentUsers() []dsstest.User {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.users)
}

func (d *demo) logins() []string {
	var logins []string
	for _, u := range d.currentUsers() {
		logins = append(logins, u.Login)
	}
	return logins
}

func (d *demo) showSignIn(w http.ResponseWriter, r *http.Request) {
	writePage(w, http.StatusOK, "sign-in", map[string]any{
		"Users": d.currentUsers(), "Down": d.isDown(), "Current": "", "Back": localPath(r.FormValue("back")),
	})
}
