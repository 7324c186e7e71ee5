// Grpc gives the handlers of grpc-go the caller's identity.
//
// Without a DSS, start both of these, sign in at http://127.0.0.1:11200, and
// with its cookie as metadata call 127.0.0.1:8080:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/grpc
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newServer(auth *dssauth.Middleware) *grpc.Server {
	signedIn := interceptor{auth}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(signedIn.unary), grpc.ChainStreamInterceptor(signedIn.stream))
	server.RegisterService(&visitors, nil)
	return server
}

// visitors is in place of the code that protoc generates from a .proto file.
var visitors = grpc.ServiceDesc{
	ServiceName: "visitors.v1.Visitors",
	Methods:     []grpc.MethodDesc{method("Me", whoAmI), method("Report", readReport)},
	Streams:     []grpc.StreamDesc{{StreamName: "Ticks", ServerStreams: true, Handler: tick}},
}

func method(name string, answer func(context.Context) (*wrapperspb.StringValue, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, read func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		req := new(emptypb.Empty)
		if err := read(req); err != nil {
			return nil, err
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/visitors.v1.Visitors/" + name}
		return intercept(ctx, req, info, func(ctx context.Context, _ any) (any, error) { return answer(ctx) })
	}}
}

func whoAmI(ctx context.Context) (*wrapperspb.StringValue, error) {
	id, ok := dssauth.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Internal, "no visitor") // only where the interceptor did not run
	}
	return wrapperspb.String(id.Login), nil
}

func readReport(ctx context.Context) (*wrapperspb.StringValue, error) {
	if id, ok := dssauth.FromContext(ctx); !ok || !id.InGroup("analysts") {
		return nil, dssauth.ErrForbidden // the interceptor gives it a code
	}
	return wrapperspb.String("the report"), nil
}

func tick(_ any, to grpc.ServerStream) error {
	for {
		if err := to.SendMsg(wrapperspb.String("tick")); err != nil {
			return err
		}
		select {
		case <-to.Context().Done(): // the visitor has left, or signed out
			return to.Context().Err()
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
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newServer(auth).Serve(listener))
}
