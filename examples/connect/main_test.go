package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dsstest"
)

type fixture struct {
	fake    *dsstest.Server
	auth    *dssauth.Middleware
	refused atomic.Int64
	app     *httptest.Server
}

// newFixture serves a Middleware's handlers over TLS and HTTP/2.
func newFixture(t *testing.T, handlers func(*dssauth.Middleware) http.Handler) *fixture {
	f := &fixture{fake: dsstest.NewServer(t)}
	for _, u := range dsstest.DemoUsers() {
		f.fake.AddUser(u)
	}
	var err error
	f.auth, err = dssauth.New(dssauth.Config{
		Client: f.fake.Client(), TTL: 100 * time.Millisecond, RefusalTTL: -1,
		Hooks: dssauth.Hooks{Refused: func(*http.Request, error) { f.refused.Add(1) }},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.auth.Close()) })
	f.app = httptest.NewUnstartedServer(handlers(f.auth))
	f.app.EnableHTTP2 = true
	f.app.StartTLS()
	t.Cleanup(f.app.Close)
	return f
}

func call(t *testing.T, f *fixture, procedure string, headers []string, protocol ...connect.ClientOption) (string, error) {
	client := connect.NewClient[emptypb.Empty, wrapperspb.StringValue](f.app.Client(), f.app.URL+procedure, protocol...)
	req := connect.NewRequest(&emptypb.Empty{})
	for i := 0; i < len(headers); i += 2 {
		req.Header().Add(headers[i], headers[i+1])
	}
	reply, err := client.CallUnary(t.Context(), req)
	if err != nil {
		return "", err
	}
	return reply.Msg.GetValue(), nil
}

const ok = connect.Code(0)

var protocols = map[string]connect.ClientOption{"connect": connect.WithProtoJSON(), "gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb()}

func TestRefusalsHaveTheirOwnCodes(t *testing.T) {
	for protocol, option := range protocols {
		t.Run(protocol, func(t *testing.T) {
			f := newFixture(t, func(auth *dssauth.Middleware) http.Handler {
				broken := connect.NewUnaryHandlerSimple("/broken", func(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error) {
					_, err := dssauth.ClientFromContext(ctx) // without Config.Impersonation
					return nil, err
				}, connect.WithInterceptors(interceptor{auth}))
				own := connect.NewUnaryHandlerSimple("/own", func(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error) {
					return nil, connect.NewError(connect.CodeAborted, dssauth.ErrForbidden)
				}, connect.WithInterceptors(interceptor{auth}))
				mux := http.NewServeMux()
				mux.Handle("/broken", broken)
				mux.Handle("/own", own)
				mux.Handle("/", newMux(auth))
				return mux
			})
			ann, bob := f.fake.SignIn("ann").String(), f.fake.SignIn("bob").String()
			for _, tt := range []struct {
				name      string
				procedure string
				headers   []string
				down      bool
				code      connect.Code
				answer    string
				told      int64
			}{
				{"an anonymous caller", me, nil, false, connect.CodeUnauthenticated, "", 1},
				{"a browser on a page of another kind", me, []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate"}, false, connect.CodeUnauthenticated, "", 1},
				{"a wrong key", me, []string{"Authorization", "Bearer wrong"}, false, connect.CodeUnauthenticated, "", 1},
				{"two kinds of credentials", me, []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, false, connect.CodeInvalidArgument, "", 1},
				{"a caller outside the required groups", report, []string{"Cookie", bob}, false, connect.CodePermissionDenied, "", 1},
				{"a mistake of the application", "/broken", []string{"Cookie", ann}, false, connect.CodeInternal, "", 1},
				{"a code of the handler's own", "/own", []string{"Cookie", ann}, false, connect.CodeAborted, "", 0},
				{"a known caller", me, []string{"Cookie", ann}, false, ok, "ann", 0},
				{"a member", report, []string{"Cookie", ann}, false, ok, "the report", 0},
				// Last, since the Middleware asks DSS only seldom after an outage.
				{"a caller while DSS is down", me, []string{"Cookie", f.fake.SignIn("eve").String()}, true, connect.CodeUnavailable, "", 1},
			} {
				t.Run(tt.name, func(t *testing.T) {
					f.fake.SetDown(tt.down)
					defer f.fake.SetDown(false)
					before := f.refused.Load()
					got, err := call(t, f, tt.procedure, tt.headers, option)
					assert.Equal(t, tt.answer, got)
					assert.Equal(t, tt.told, f.refused.Load()-before, "refusals told to the hook")
					if tt.code == ok {
						assert.NoError(t, err)
						return
					}
					assert.Equal(t, tt.code, connect.CodeOf(err), err)
					if tt.told > 0 {
						assert.NotContains(t, err.Error(), "dss")
					}
				})
			}
		})
	}
}

// Handlers of connect-go are handlers of net/http: its clients understand the
// answers of Handler and gates.
func TestHandlerInFrontOfConnect(t *testing.T) {
	for protocol, option := range protocols {
		t.Run(protocol, func(t *testing.T) {
			f := newFixture(t, func(auth *dssauth.Middleware) http.Handler {
				mux := http.NewServeMux()
				mux.Handle(me, auth.Handler(connect.NewUnaryHandlerSimple(me, whoAmI)))
				mux.Handle(report, auth.RequireGroup("analysts")(connect.NewUnaryHandlerSimple(report, readReport)))
				return mux
			})
			bob := f.fake.SignIn("bob").String()
			got, err := call(t, f, me, []string{"Cookie", bob}, option)
			require.NoError(t, err)
			assert.Equal(t, "bob", got)
			_, err = call(t, f, me, nil, option)
			assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err))
			_, err = call(t, f, report, []string{"Cookie", bob}, option)
			assert.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
			f.fake.SetDown(true)
			_, err = call(t, f, me, []string{"Cookie", f.fake.SignIn("eve").String()}, option)
			assert.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
		})
	}
}

func TestStreamEndsWithTheSession(t *testing.T) {
	f := newFixture(t, newMux)
	session := f.fake.SignIn("ann")
	client := connect.NewClient[emptypb.Empty, wrapperspb.StringValue](f.app.Client(), f.app.URL+ticks)
	req := connect.NewRequest(&emptypb.Empty{})
	req.Header().Set("Cookie", session.String())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := client.CallServerStream(ctx, req)
	require.NoError(t, err)
	require.True(t, stream.Receive(), stream.Err())
	assert.Equal(t, "tick", stream.Msg().GetValue())

	f.fake.SignOut(session)
	for stream.Receive() {
	}
	assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(stream.Err()))
	require.NoError(t, stream.Close())

	anonymous, err := client.CallServerStream(ctx, connect.NewRequest(&emptypb.Empty{}))
	require.NoError(t, err)
	assert.False(t, anonymous.Receive())
	assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(anonymous.Err()))
}
