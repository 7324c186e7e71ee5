// Spa serves a single-page application under any path prefix, as in a Code
// Studio: a board of notes for one group of DSS. Its page gets new notes by
// server-sent events. It shows within about 20 seconds that the visitor is
// signed out, has lost the group, or that DSS is down, and keeps the unsent
// text.
//
// To try it without a DSS, in two terminals:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/spa
//
// Open http://127.0.0.1:8080. Its "Sign in" leads to the fake in another tab.
// Choose Ann there, and come back. The fake's page also changes groups, and
// takes the fake down. With DKU_CODE_STUDIO_BROWSER_PATH_8080=/any/prefix the
// application is at http://127.0.0.1:8080/any/prefix/ too.
package main

import (
	"cmp"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func main() {
	port := flag.Int("port", 8080, "the port to listen on: the one that a Code Studio exposes")
	addr := flag.String("addr", "", "the address to listen on in place of -port, as in 127.0.0.1:8081")
	flag.Parse()
	server, err := newServer(*port)
	if err != nil {
		log.Fatal(err)
	}
	server.Addr = cmp.Or(*addr, server.Addr)
	log.Printf("listening on %s", server.Addr)
	log.Fatal(server.ListenAndServe())
}

// newServer takes its settings from DSS, or from the environment.
func newServer(port int) (*http.Server, error) {
	addr, prefix, err := dss.CodeStudio(port)
	if err != nil {
		return nil, err
	}
	client, err := dss.FromEnv()
	if err != nil {
		return nil, err
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		return nil, err
	}
	signIn := client.URL()
	if os.Getenv("DKU_API_TICKET") != "" {
		signIn = "/" // inside DSS; browsers find it on our own host
	}
	a := &app{
		auth:   auth,
		board:  newBoard(),
		signIn: signIn,
		every:  10 * time.Second,
	}
	return &http.Server{Addr: addr, Handler: under(prefix, a.newRouter()), ReadHeaderTimeout: 10 * time.Second}, nil
}

// under serves h below prefix too: the Code Studio's template decides whether
// the proxy of DSS removes the prefix.
func under(prefix string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	if prefix != "" {
		mux.Handle(prefix+"/", http.StripPrefix(prefix, h))
	}
	return mux
}
