package dsstest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestDown(t *testing.T) {
	fake := newFake(t)
	fake.SetDown(true)
	status, reply := call(t, fake, keyOf("ann-key"), "GET", authInfo, "")
	assert.Equal(t, 503, status)
	assert.Contains(t, reply, "<html>")
	fake.SetDown(false)
	assert.Equal(t, "ann", whoAmI(t, fake, keyOf("ann-key")))
}

func TestIntercept(t *testing.T) {
	fake := newFake(t)
	statuses := func(path string, n int) (got []int) {
		for range n {
			status, _ := call(t, fake, keyOf("ann-key"), "GET", path, "")
			got = append(got, status)
		}
		return got
	}
	fake.Intercept(authInfo, 2, dsstest.Respond(500, ""))
	fake.Intercept(authInfo, 1, dsstest.Respond(502, ""))
	assert.Equal(t, []int{200}, statuses("/users/ann", 1), "another endpoint")
	assert.Equal(t, []int{500, 500, 502, 200}, statuses(authInfo, 4), "one after the other, each for its number of calls")

	fake.Intercept("", -1, dsstest.Respond(504, ""))
	fake.Intercept(authInfo, -1, dsstest.Respond(505, ""))
	assert.Equal(t, []int{504, 504, 504}, statuses("/users/ann", 3), "until further notice")
	fake.Intercept("/users/ann", 1, nil)
	assert.Equal(t, []int{504}, statuses("/users/ann", 1), "nil ends the interceptions of that path only")
	fake.Intercept(authInfo, 1, nil)
	assert.Equal(t, []int{504}, statuses(authInfo, 1))
	fake.Intercept("", 1, nil)
	assert.Equal(t, []int{200}, statuses("/users/ann", 1), "nil for all paths ends all")
}

func TestInterceptAround(t *testing.T) {
	fake := newFake(t)
	fake.Intercept(authInfo, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Set("Authorization", "Bearer root-key")
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		io.WriteString(w, strings.ReplaceAll(rec.Body.String(), "root", "somebody"))
	})
	status, reply := call(t, fake, keyOf("ann-key"), "GET", authInfo, "")
	assert.Equal(t, 200, status)
	assert.Contains(t, reply, `"authIdentifier":"somebody"`)
	assert.Equal(t, "root", fake.LastCaller(), "the user that DSS acted as")
}

func TestRespond(t *testing.T) {
	fake := newFake(t)
	for name, tc := range map[string]struct {
		with        dsstest.Interceptor
		status      int
		contentType string
	}{
		"a page":                {dsstest.Respond(200, "<html>sign in</html>"), 200, "text/html"},
		"nothing":               {dsstest.Respond(503, ""), 503, "text/html"},
		"an object":             {dsstest.Respond(401, "{}"), 401, "application/json"},
		"a list":                {dsstest.Respond(200, "[]"), 200, "application/json"},
		"the test's own answer": {dsstest.Respond(429, "{}", "content-type", "text/x", "Retry-After", "3"), 429, "text/x"},
	} {
		t.Run(name, func(t *testing.T) {
			fake.Intercept("", 1, tc.with)
			resp, err := http.Get(fake.URL() + "/dip/publicapi/auth/info")
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, tc.status, resp.StatusCode)
			assert.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), tc.contentType), resp.Header)
			if tc.status == 429 {
				assert.Equal(t, "3", resp.Header.Get("Retry-After"))
			}
		})
	}
	odd := []string{"Retry-After"}
	assert.Panics(t, func() { dsstest.Respond(429, "", odd...) })
}

// post sends a request that net/http does not send again by itself.
func post(ctx context.Context, fake *dsstest.Server) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", fake.URL()+"/dip/publicapi"+browserInfo, strings.NewReader(`{"Authorization": "Bearer ann-key"}`))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(fake.AdminKey(), "")
	return http.DefaultClient.Do(req)
}

func TestReset(t *testing.T) {
	fake := newFake(t)
	fake.Intercept("", 1, dsstest.Reset)
	_, err := post(t.Context(), fake)
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Zero(t, lastCall(t, fake).Status)
	resp, err := post(t.Context(), fake)
	require.NoError(t, err, "the next call works")
	resp.Body.Close()
}

func TestCutShort(t *testing.T) {
	fake := newFake(t)
	fake.Intercept("", 1, dsstest.CutShort)
	resp, err := post(t.Context(), fake)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.Equal(t, 200, resp.StatusCode)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.True(t, strings.HasPrefix(string(body), `{"authSource":`), "%s", body)
	assert.False(t, strings.HasSuffix(string(body), "}"), "%s", body)
}

func TestEndless(t *testing.T) {
	fake := newFake(t)
	fake.Intercept("", 1, dsstest.Endless)
	resp, err := post(t.Context(), fake)
	require.NoError(t, err)
	n, err := io.CopyN(io.Discard, resp.Body, 64<<20)
	resp.Body.Close()
	assert.NoError(t, err)
	assert.EqualValues(t, 64<<20, n)
}

func TestHangLastsUntilTheClientGoes(t *testing.T) {
	fake := newFake(t)
	ended := make(chan any, 1)
	ctx, cancel := context.WithCancel(t.Context())
	fake.Intercept("", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		defer func() { ended <- recover() }()
		cancel()
		dsstest.Hang(w, r, next)
	})
	_, err := post(ctx, fake)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, http.ErrAbortHandler, <-ended)
}

func TestHangLastsUntilTheServerEnds(t *testing.T) {
	fake := newFake(t)
	fake.Intercept("", 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		go fake.Close()
		dsstest.Hang(w, r, next)
	})
	_, err := post(t.Context(), fake)
	assert.Error(t, err)
}

// serve answers one call without a socket, for tests about time.
func serve(ctx context.Context, fake *dsstest.DSS) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, "GET", "/dip/publicapi/auth/info", nil)
	r.SetBasicAuth("key", "")
	w := httptest.NewRecorder()
	fake.ServeHTTP(w, r)
	return w
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := dsstest.New()
		fake.AddAPIKey("key", "")
		fake.SetLatency(3 * time.Second)
		start := time.Now()
		assert.Equal(t, 200, serve(t.Context(), fake).Code)
		assert.Equal(t, 3*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() { serve(ctx, fake) })
		assert.Equal(t, time.Second, time.Since(start), "the delay ends with its client")

		fake.SetLatency(0)
		start = time.Now()
		assert.Equal(t, 200, serve(t.Context(), fake).Code)
		assert.Zero(t, time.Since(start))
	})
}

func TestTooLongBodyIsRefused(t *testing.T) {
	fake := newFake(t)
	status, reply := call(t, fake, keyOf("ann-key"), "PUT", "/current-user", strings.Repeat(" ", 32<<20+1))
	assert.Equal(t, 400, status)
	assertError(t, "IllegalArgumentException", reply)
}
