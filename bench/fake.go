package bench

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

const (
	// APIKey is an administrator's key of each [DSS].
	APIKey = "dkuaps-bench"

	sessionCookie = "dss_session_BENCH001"
	lookupPath    = "/auth/info-from-browser-headers"
)

// Session is the credential of a user of a [DSS].
func Session(user int) string { return sessionCookie + "=" + sessionValue(user) }

// sessionValue has 26 characters, like the values of dsstest.
func sessionValue(user int) string {
	random := rand.New(rand.NewPCG(5, uint64(user)))
	return fmt.Sprintf("%013x%013x", random.Uint64()>>12, random.Uint64()>>12)
}

// DSS is a fake DSS on 127.0.0.1 that knows users by their [Session] cookies.
type DSS struct {
	*dsstest.DSS
	URL    string
	Client *dss.Client
	server *http.Server
}

// StartDSS starts a DSS with users 0 to count-1, each in three groups.
func StartDSS(count int) (*DSS, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &DSS{DSS: dsstest.New(), URL: "http://" + listener.Addr().String()}
	d.AddAPIKey(APIKey, "")
	for user := range count {
		d.AddUser(dsstest.User{Login: Login(user), Groups: []string{"readers", "analysts", fmt.Sprintf("team%03d", user%1000)}})
		d.AddSession(sessionCookie, sessionValue(user), Login(user))
	}
	d.Client, err = dss.New(dss.Config{URL: d.URL, APIKey: APIKey})
	if err != nil {
		return nil, err
	}
	d.server = &http.Server{Handler: d.DSS, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = d.server.Serve(listener) }()
	return d, nil
}

// Lookups returns the number of questions to the DSS about browsers.
func (d *DSS) Lookups() int { return d.Calls(lookupPath) }

// Close ends the DSS and its running answers.
func (d *DSS) Close() {
	d.Client.CloseIdleConnections()
	_ = d.server.Close()
}

// WorkAs makes the DSS take some time for each lookup, and work on at most this
// many at once. Others wait, as for a real server's threads.
func (d *DSS) WorkAs(threads int, latency time.Duration) {
	places := make(chan struct{}, threads)
	d.Intercept(lookupPath, -1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		case <-r.Context().Done():
			return
		}
		time.Sleep(latency)
		next.ServeHTTP(w, r)
	})
}

// Hang makes the DSS stop answering lookups.
func (d *DSS) Hang() {
	d.Intercept(lookupPath, -1, nil)
	d.Intercept(lookupPath, -1, dsstest.Hang)
}
