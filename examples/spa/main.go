// Spa serves a single-page application under any path prefix, as in a Code
// Studio: a board of notes for one group of DSS. Its page learns of new notes by
// server-sent events. It says so when the visitor is signed out, loses the group
// or DSS is down, within about 20 seconds, and keeps the text that was not sent.
//
// To try it without a DSS, in two terminals:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/spa
//
// Open http://127.0.0.1:8080, whose "Sign in" leads to the fake in another
// tab. Choose Ann there, and come back. The fake's page also changes groups, and
// takes the fake down. With
// DKU_CODE_STUDIO_BROWSER_PATH_8080=/any/prefix the application is at
// http://127.0.0.1:8080/any/prefix/ too.
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
	port := flag.Int("port", 8080, "where to listen: the port that a Code Studio exposes")
	addr := flag.String("addr", "", "where to listen in place of -port, as in 127.0.0.1:8081")
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
		signIn = "/" // inside DSS, which browsers find on our own host
	}
	a := &app{
		auth:   auth,
		board:  newBoard(),
		signIn: signIn,
		every:  10 * time.Second,
	}
	return &http.Server{Addr: addr, Handler: under(prefix, a.newRouter()), ReadHeaderTimeout: 10 * time.Second}, nil
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
