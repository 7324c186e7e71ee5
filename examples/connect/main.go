// Connect gives the handlers of connect-go, which also speak gRPC, the caller's
// identity.
//
// Without a DSS, start both of these, sign in at http://127.0.0.1:11200, and
// with its cookie call http://127.0.0.1:8080:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/connect
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// The procedures. Code generated from a .proto file takes the same options.
const (
	me     = "/visitors.v1.Visitors/Me"
	report = "/visitors.v1.Visitors/Report"
	ticks  = "/visitors.v1.Visitors/Ticks"
)

func newMux(auth *dssauth.Middleware) http.Handler {
	signedIn := connect.WithInterceptors(interceptor{auth})
	mux := http.NewServeMux()
	mux.Handle(me, connect.NewUnaryHandlerSimple(me, whoAmI, signedIn))
	mux.Handle(report, connect.NewUnaryHandlerSimple(report, readReport, signedIn))
	mux.Handle(ticks, connect.NewServerStreamHandler(ticks, tick, signedIn))
	// Browsers also send cookies with requests of other sites.
	return http.NewCrossOriginProtection().Handler(mux)
}

func whoAmI(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error) {
	id, ok := dssauth.FromContext(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeInternal, errors.New("no visitor")) // only where the interceptor did not run
	}
	return wrapperspb.String(id.Login), nil
}

func readReport(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error) {
	if id, ok := dssauth.FromContext(ctx); !ok || !id.InGroup("analysts") {
		return nil, dssauth.ErrForbidden // the interceptor gives it a code
	}
	return wrapperspb.String("the report"), nil
}

func tick(ctx context.Context, _ *connect.Request[emptypb.Empty], to *connect.ServerStream[wrapperspb.StringValue]) error {
	for {
		if err := to.Send(wrapperspb.String("tick")); err != nil {
			return err
		}
		select {
		case <-ctx.Done(): // the visitor has left, or signed out
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: newMux(auth), ReadHeaderTimeout: 10 * time.Second}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // as gRPC without TLS does
	log.Fatal(server.ListenAndServe())
}
