package dsstest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dssauth/dssauth/dsstest"
)

// The fake answers any browser's headers that a client sends. It accepts only
// an object of strings, and reads it as another JSON parser does.
func FuzzBrowserHeaders(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"Cookie": "a=1; sid=live; b=2"}`, `{"cookie":"sid=live","Cookie":"x"}`, `{"Cookie":["sid=live"]}`,
		`{"Authorization": "Basic a2V5Og=="}`, `{"Authorization": "Bearer key"}`, `{"X-DKU-ProxyUser": "ann"}`, `{"X_DKU_APITicket": "t"}`,
		`{"Cookie": "sid=live"} `, `{"Cookie": "sid=live"}x`, "{\"Cookie\": \"\xff\"}", `{"\u0043ookie": "sid=\u006cive"}`, `{"Cookie": "\ud800"}`, `{"":""}`,
	} {
		f.Add(seed)
	}
	fake := dsstest.New()
	fake.AddUser(dsstest.User{Login: "ann"})
	fake.AddSession("sid", "live", "ann")
	fake.AddAPIKey("key", "")
	fake.AddTicket("t", "ann")
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/dip/publicapi/auth/info-from-browser-headers", strings.NewReader(body))
		r.SetBasicAuth("key", "")
		w := httptest.NewRecorder()
		fake.ServeHTTP(w, r)

		var headers map[string]string
		err := json.Unmarshal([]byte(body), &headers)
		switch w.Code {
		case http.StatusBadRequest:
			return
		case http.StatusOK, http.StatusUnauthorized:
			if err != nil || headers == nil || !utf8.ValidString(body) {
				t.Fatalf("%q was taken for an object of strings", body)
			}
		default:
			t.Fatalf("status %d for %q", w.Code, body)
		}
		if got := fake.LastBrowserHeaders(); len(got) != len(headers) {
			t.Fatalf("%q was read as %q", body, got)
		}
		if w.Code == http.StatusOK && !identifies(headers) {
			t.Fatalf("%q is %s", body, w.Body)
		}
	})
}

// identifies reports whether headers could identify a user at all.
func identifies(headers map[string]string) bool {
	for name, value := range headers {
		switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
		case "cookie", "authorization", "x-dku-apiticket", "x-dku-proxyuser":
			if value != "" {
				return true
			}
		}
	}
	return false
}
