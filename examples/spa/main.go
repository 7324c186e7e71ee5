// Spa serves a single-page application under any path prefix, as in a Code
// Studio: a board of notes for one group of DSS. Its page learns of new notes by
// server-sent events. It says so when the visitor is signed out, loses the group
// or DSS is down, and loses no text that was not sent.
//
// To try it without a DSS, in two terminals:
//
//	go run ./dsstest/cmd/fakedss -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/spa
//
// Open http://127.0.0.1:8080, whose "Sign in" leads to the fake. Sign in as ann.
package main

import (
	"cmp"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func main() {
	prefix := flag.String("prefix", "", "the path under which browsers see the application, as in /code-studios/CHURN/a1b2c3/8080")
	port := flag.String("port", "8080", "where to listen")
	flag.Parse()

	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	a := &app{
		auth:   auth,
		board:  newBoard(),
		signIn: cmp.Or(os.Getenv("DKU_DSS_URL"), "/"), // inside DSS it is on our own host
		every:  10 * time.Second,
	}
	server := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", *port),
		Handler:           under(*prefix, a.newRouter()),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

// under serves h below prefix too: the proxy of DSS takes the prefix off or
// leaves it on, as the Code Studio's template says.
func under(prefix string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	if prefix != "" {
		mux.Handle(prefix+"/", http.StripPrefix(prefix, h))
	}
	return mux
}
