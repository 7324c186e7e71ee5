package main

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

type fixture struct {
	fake    *dsstest.Server
	refused atomic.Int64
	conn    *grpc.ClientConn
	ctx     context.Context
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{fake: dsstest.NewServer(t)}
	for _, u := range dsstest.DemoUsers() {
		f.fake.AddUser(u)
	}
	auth, err := dssauth.New(dssauth.Config{
		Client: f.fake.Client(), TTL: 100 * time.Millisecond, RefusalTTL: -1,
		Hooks: dssauth.Hooks{Refused: func(*http.Request, error) { f.refused.Add(1) }},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, auth.Close()) })
	server := newServer(auth)
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "test", Methods: []grpc.MethodDesc{
		method("Broken", func(ctx context.Context) (*wrapperspb.StringValue, error) {
			_, err := dssauth.ClientFromContext(ctx) // without Config.Impersonation
			return nil, err
		}),
		method("Own", func(context.Context) (*wrapperspb.StringValue, error) {
			return nil, status.Error(codes.Aborted, "the handler's own")
		}),
	}}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { assert.NoError(t, server.Serve(listener)) }()
	t.Cleanup(server.Stop)
	f.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.conn.Close()) })
	var cancel context.CancelFunc
	f.ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return f
}

func TestRefusalsHaveTheirOwnCodes(t *testing.T) {
	f := newFixture(t)
	ann, bob := f.fake.SignIn("ann").String(), f.fake.SignIn("bob").String()
	const me, report = "/visitors.v1.Visitors/Me", "/visitors.v1.Visitors/Report"
	for _, tt := range []struct {
		name    string
		method  string
		headers []string
		down    bool
		code    codes.Code
		answer  string
		told    int64
	}{
		{"an anonymous caller", me, nil, false, codes.Unauthenticated, "", 1},
		{"a wrong key", me, []string{"authorization", "Bearer wrong"}, false, codes.Unauthenticated, "", 1},
		{"two kinds of credentials", me, []string{"authorization", "Bearer a", "authorization", "Bearer b"}, false, codes.InvalidArgument, "", 1},
		{"a caller outside the required groups", report, []string{"cookie", bob}, false, codes.PermissionDenied, "", 1},
		{"a mistake of the application", "/test/Broken", []string{"cookie", ann}, false, codes.Internal, "", 1},
		{"a code of the handler's own", "/test/Own", []string{"cookie", ann}, false, codes.Aborted, "", 0},
		{"a known caller", me, []string{"cookie", ann}, false, codes.OK, "ann", 0},
		{"a known caller with cookies in several lines", me, []string{"cookie", "other=1", "cookie", ann}, false, codes.OK, "ann", 0},
		{"a member", report, []string{"cookie", ann}, false, codes.OK, "the report", 0},
		// Last, since the Middleware asks DSS only seldom after an outage.
		{"a caller while DSS is down", me, []string{"cookie", f.fake.SignIn("eve").String()}, true, codes.Unavailable, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.fake.SetDown(tt.down)
			defer f.fake.SetDown(false)
			before := f.refused.Load()
			reply := new(wrapperspb.StringValue)
			err := f.conn.Invoke(metadata.AppendToOutgoingContext(f.ctx, tt.headers...), tt.method, &emptypb.Empty{}, reply)
			assert.Equal(t, tt.code, status.Code(err), err)
			assert.Equal(t, tt.answer, reply.GetValue())
			assert.Equal(t, tt.told, f.refused.Load()-before, "refusals told to the hook")
			if tt.told > 0 {
				assert.NotContains(t, err.Error(), "dss")
			}
		})
	}
}

func TestStreamEndsWithTheSession(t *testing.T) {
	f := newFixture(t)
	session := f.fake.SignIn("ann")
	open := func(headers ...string) grpc.ClientStream {
		ctx := metadata.AppendToOutgoingContext(f.ctx, headers...)
		stream, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/visitors.v1.Visitors/Ticks")
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		return stream
	}
	stream, got := open("cookie", session.String()), new(wrapperspb.StringValue)
	require.NoError(t, stream.RecvMsg(got))
	assert.Equal(t, "tick", got.GetValue())

	f.fake.SignOut(session)
	var err error
	for err == nil {
		err = stream.RecvMsg(got)
	}
	assert.Equal(t, codes.Unauthenticated, status.Code(err), err)
	assert.Equal(t, codes.Unauthenticated, status.Code(open().RecvMsg(got)))
}
