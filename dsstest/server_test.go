package dsstest_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dssauth/dssauth/dsstest"
)

func TestServer(t *testing.T) {
	fake := dsstest.NewServer(t)
	addr, ok := strings.CutPrefix(fake.URL(), "http://127.0.0.1:")
	assert.True(t, ok, fake.URL())
	assert.NotContains(t, addr, "/")
	assert.Same(t, fake.Client(), fake.Client(), "one client, whose connections are reused")

	info, err := fake.Client().AuthInfo(t.Context())
	require.NoError(t, err)
	assert.Empty(t, info.Login(), "its key has no user")
	assert.True(t, lastCall(t, fake).Admin)
}

func TestServerEndsWithItsTest(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var addr string
	t.Run("a test", func(t *testing.T) {
		fake := dsstest.NewServer(t)
		addr = strings.TrimPrefix(fake.URL(), "http://")
		_, err := fake.Client().AuthInfo(t.Context())
		require.NoError(t, err)
		hanging := make(chan struct{})
		fake.Intercept("", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			close(hanging)
			dsstest.Hang(w, r, next)
		})
		go http.Get(fake.URL() + "/dip/publicapi/auth/info")
		<-hanging
	})
	_, err := net.Dial("tcp", addr)
	assert.Error(t, err)
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

func TestServersShareNothing(t *testing.T) {
	one, other := newFake(t), newFake(t)
	cookie := cookieOf(one.SignIn("ann"))
	assert.Equal(t, "ann", whoIs(t, one, cookie))
	assert.Empty(t, whoIs(t, other, cookie))
	status, _ := call(t, other, keyOf(one.AdminKey()), "GET", authInfo, "")
	assert.Equal(t, 401, status)
}

func TestDemoUsers(t *testing.T) {
	fake := dsstest.NewServer(t)
	for _, u := range dsstest.DemoUsers() {
		fake.AddUser(u)
		assert.Equal(t, u.Login, whoIs(t, fake, cookieOf(fake.SignIn(u.Login))))
	}
	fake.AddAPIKey("key", "admin")
	call(t, fake, keyOf("key"), "GET", authInfo, "")
	assert.True(t, lastCall(t, fake).Admin)
	dsstest.DemoUsers()[0].Groups[0] = "changed"
	assert.Equal(t, []string{"analysts", "readers"}, dsstest.DemoUsers()[0].Groups)
}
