package dssauth

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// selecting is a selector for these headers and cookies.
func selecting(t testing.TB, headers, cookies []string) selector {
	t.Helper()
	s, err := newSelector(headers, cookies, 16<<10)
	require.NoError(t, err)
	return s
}

func TestKeysOfDifferentCredentialsDiffer(t *testing.T) {
	headers := []string{"Cookie", "Authorization", "X-One", "X-Two"}
	tests := []struct {
		name string
		a, b http.Header
	}{
		{"one byte of a cookie's value differs", http.Header{"Cookie": {"session=abcdefgh"}}, http.Header{"Cookie": {"session=abcdefgi"}}},
		{"one bit of the first byte differs", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"c=1"}}},
		{"a cookie's name is in another case", http.Header{"Cookie": {"session=a"}}, http.Header{"Cookie": {"Session=a"}}},
		{"a cookie's value is in another case", http.Header{"Cookie": {"session=a"}}, http.Header{"Cookie": {"session=A"}}},
		{"a byte moved from the name to the value", http.Header{"Cookie": {"ab=c"}}, http.Header{"Cookie": {"a=bc"}}},
		{"two cookies changed places", http.Header{"Cookie": {"a=1; b=2"}}, http.Header{"Cookie": {"b=2; a=1"}}},
		{"a cookie came twice", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"a=1; a=1"}}},
		{"a second cookie was added", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"a=1; b=2"}}},
		{"only the second cookie differs", http.Header{"Cookie": {"a=1; b=2"}}, http.Header{"Cookie": {"a=1; b=3"}}},
		{"only the last of many bytes differs", http.Header{"Cookie": {strings.Repeat("a", 16000) + "b"}}, http.Header{"Cookie": {strings.Repeat("a", 16000) + "c"}}},
		{"one is the other's beginning", http.Header{"Authorization": {"Bearer abc"}}, http.Header{"Authorization": {"Bearer abcd"}}},
		{"one ends in a space", http.Header{"Authorization": {"Bearer abc"}}, http.Header{"Authorization": {"Bearer abc "}}},
		{"the API key differs beside the same cookie", http.Header{"Cookie": {"a=1"}, "Authorization": {"Bearer a"}}, http.Header{"Cookie": {"a=1"}, "Authorization": {"Bearer b"}}},
		{"bytes moved from one header to the next", http.Header{"X-One": {"ab"}, "X-Two": {"c"}}, http.Header{"X-One": {"a"}, "X-Two": {"bc"}}},
		{"all bytes moved to the next header", http.Header{"X-One": {"a"}}, http.Header{"X-Two": {"a"}}},
		{"two headers changed their values", http.Header{"X-One": {"a"}, "X-Two": {"b"}}, http.Header{"X-One": {"b"}, "X-Two": {"a"}}},
		{"a header is absent, not empty", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"a=1"}, "X-One": {""}}},
		{"another header is empty", http.Header{"Cookie": {"a=1"}, "X-One": {""}}, http.Header{"Cookie": {"a=1"}, "X-Two": {""}}},
	}
	s := selecting(t, headers, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rawA, err := s.raw(tt.a)
			require.NoError(t, err)
			rawB, err := s.raw(tt.b)
			require.NoError(t, err)
			assert.NotEqual(t, rawA, rawB, "raw keys")

			_, keyA, err := s.picked(tt.a)
			require.NoError(t, err)
			_, keyB, err := s.picked(tt.b)
			require.NoError(t, err)
			assert.NotEqual(t, keyA, keyB, "keys of the headers for DSS")
		})
	}
}

// The raw key covers bytes that were not checked yet: there may be any bytes.
func TestRawKeysOfDifferentBytesDiffer(t *testing.T) {
	s := selecting(t, nil, nil)
	seen := map[key]string{}
	for _, values := range [][]string{
		{"a"}, {"a", ""}, {"", "a"}, {"a", "a"}, {"aa"}, {"a\x00"}, {"a\x00\x00"}, {"\x00a"}, {"\x01a"}, {"a\x01"},
		{"a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}, {"a\xff"}, {"a,a"}, {"a; a"}, {"a;a"}, {" a"}, {"a "}, {"A"},
	} {
		for _, name := range []string{"Cookie", "Authorization"} {
			k, err := s.raw(http.Header{name: values})
			require.NoError(t, err)
			said := fmt.Sprintf("%s: %q", name, values)
			assert.Empty(t, seen[k], said)
			seen[k] = said
		}
	}
}

func TestKeysOfTheSameCredentialsAreEqual(t *testing.T) {
	tests := []struct {
		name string
		a, b http.Header
	}{
		{"a header is neither sent nor keyed", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"a=1"}, "User-Agent": {"x"}, "X-Forwarded-For": {"::1"}}},
		{"X-DKU headers are neither sent nor keyed", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"a=1"}, "X-Dku-Proxyuser": {"admin"}, "X_dku_apiticket": {"t"}}},
		{"a stray cookie is neither sent nor keyed", http.Header{"Cookie": {"a=1"}}, http.Header{"Cookie": {"_ga=GA1.2; a=1; AWSALB=xyz"}}},
		{"cookies come in several headers", http.Header{"Cookie": {"a=1; b=2"}}, http.Header{"Cookie": {"a=1", "b=2"}}},
		{"cookies come without the space", http.Header{"Cookie": {"a=1; b=2"}}, http.Header{"Cookie": {"a=1;b=2"}}},
	}
	s := selecting(t, nil, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, keyA, err := s.picked(tt.a)
			require.NoError(t, err)
			_, keyB, err := s.picked(tt.b)
			require.NoError(t, err)
			assert.Equal(t, keyA, keyB)
		})
	}
}

func TestTwoMiddlewaresKeyDifferently(t *testing.T) {
	h := http.Header{"Cookie": {"session=a"}}
	one, two := selecting(t, nil, nil), selecting(t, nil, nil)
	k, err := one.raw(h)
	require.NoError(t, err)
	other, err := two.raw(h)
	require.NoError(t, err)
	assert.NotEqual(t, k, other, "the key's secret is shared")
}

func TestHeadersPicked(t *testing.T) {
	tests := []struct {
		name     string
		raw      http.Header
		cookies  []string
		want     http.Header
		sentinel error
	}{
		{name: "two Authorization headers are malformed", raw: http.Header{"Authorization": {"Bearer a", "Bearer b"}}, sentinel: ErrMalformed},
		{name: "three Authorization headers, two of them alike, are malformed", raw: http.Header{"Authorization": {"Bearer a", "Bearer a", "Bearer b"}}, sentinel: ErrMalformed},
		{name: "two Authorization headers in another case are malformed", raw: http.Header{"Authorization": {"Bearer a", "bearer a"}}, sentinel: ErrMalformed},
		{name: "two Authorization headers beside a good cookie are malformed", raw: http.Header{"Cookie": {"a=1"}, "Authorization": {"Bearer a", ""}}, sentinel: ErrMalformed},
		{name: "an Authorization header with a line end is malformed", raw: http.Header{"Authorization": {"Bearer a\r\nX-DKU-ProxyUser: admin"}}, sentinel: ErrMalformed},
		{name: "an Authorization header with a NUL is malformed", raw: http.Header{"Authorization": {"Bearer a\x00"}}, sentinel: ErrMalformed},
		{name: "an Authorization header with a tab is malformed", raw: http.Header{"Authorization": {"Bearer\ta"}}, sentinel: ErrMalformed},
		{name: "an Authorization header with DEL is malformed", raw: http.Header{"Authorization": {"Bearer a\x7f"}}, sentinel: ErrMalformed},
		{name: "an Authorization header in Latin-1 is malformed", raw: http.Header{"Authorization": {"Bearer \xe9"}}, sentinel: ErrMalformed},
		{name: "an Authorization header with half a surrogate pair is malformed", raw: http.Header{"Authorization": {"Bearer \xed\xa0\x80"}}, sentinel: ErrMalformed},
		{name: "the same Authorization header twice is one", raw: http.Header{"Authorization": {"Bearer a", "Bearer a"}}, want: http.Header{"Authorization": {"Bearer a"}}},
		{name: "no header at all is anonymous", raw: http.Header{}, sentinel: ErrUnauthenticated},
		{name: "empty headers are anonymous", raw: http.Header{"Cookie": {""}, "Authorization": {""}}, sentinel: ErrUnauthenticated},
		{name: "separators without cookies are anonymous", raw: http.Header{"Cookie": {"; ;\t;"}}, sentinel: ErrUnauthenticated},
		{name: "stray cookies only are anonymous", raw: http.Header{"Cookie": {"_ga=1; _gid=2"}}, sentinel: ErrUnauthenticated},
		{name: "the redirect's marker only is anonymous", raw: http.Header{"Cookie": {"dssauth_redirected=1"}}, sentinel: ErrUnauthenticated},
		{name: "unreadable cookies only are anonymous", raw: http.Header{"Cookie": {"a=\xff; b=\x01"}}, sentinel: ErrUnauthenticated},
		{name: "none of the named cookies is anonymous", raw: http.Header{"Cookie": {"other=1; nameless"}}, cookies: []string{"session"}, sentinel: ErrUnauthenticated},

		{name: "a cookie with a control byte is dropped", raw: http.Header{"Cookie": {"a=1; b=\x01; c=3"}}, want: http.Header{"Cookie": {"a=1; c=3"}}},
		{name: "a cookie with a line end is dropped", raw: http.Header{"Cookie": {"a=1; b=2\r\nX-DKU-ProxyUser: admin; c=3"}}, want: http.Header{"Cookie": {"a=1; c=3"}}},
		{name: "a cookie with a tab inside is dropped", raw: http.Header{"Cookie": {"a=1; b=2\t2"}}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "a cookie with invalid UTF-8 is dropped", raw: http.Header{"Cookie": {"a=1; b=\xff; c=3"}}, want: http.Header{"Cookie": {"a=1; c=3"}}},
		{name: "a cookie whose name JSON cannot carry is dropped", raw: http.Header{"Cookie": {"a=1; \xff=2"}}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "an unreadable stray cookie hurts nobody", raw: http.Header{"Cookie": {"_ga=\xff; a=1"}}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "the redirect's marker is dropped", raw: http.Header{"Cookie": {"a=1; dssauth_redirected=1"}}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "the redirect's marker is dropped although it is named", raw: http.Header{"Cookie": {"a=1; dssauth_redirected=1"}}, cookies: []string{"a", "dssauth*"}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "X-DKU headers are dropped however they are written", raw: http.Header{
			"Cookie": {"a=1"}, "X-Dku-Proxyuser": {"admin"}, "X-DKU-ProxyUser": {"admin"}, "X-DKU-APITicket": {"t"}, "x-dku-proxyuser": {"admin"},
			"X_DKU_ProxyUser": {"admin"}, "X_dku_proxyuser": {"admin"}, "X-Dku_Proxyuser": {"admin"}, "X-Dku-Callorigin": {"x"},
		}, want: http.Header{"Cookie": {"a=1"}}},
		{name: "headers that nobody named are dropped", raw: http.Header{"Cookie": {"a=1"}, "User-Agent": {"x"}, "X-Forwarded-For": {"::1"}, "Proxy-Authorization": {"Basic x"}}, want: http.Header{"Cookie": {"a=1"}}},

		{name: "cookies are kept as they are, in their order", raw: http.Header{"Cookie": {`z="1 , 2"; a=%3D==; é=ü; a=2; =3; nameless; $Version=1`}}, want: http.Header{"Cookie": {`z="1 , 2"; a=%3D==; é=ü; a=2; =3; nameless; $Version=1`}}},
		{name: "several Cookie headers are joined as HTTP/2 joins them", raw: http.Header{"Cookie": {"a=1; b=2", "c=3", "", "d=4"}}, want: http.Header{"Cookie": {"a=1; b=2; c=3; d=4"}}},
		{name: "spaces around cookies do not count", raw: http.Header{"Cookie": {" a=1 ;b=2;\tc=3 ; "}}, want: http.Header{"Cookie": {"a=1; b=2; c=3"}}},
		{name: "an empty cookie beside an API key is not sent", raw: http.Header{"Cookie": {""}, "Authorization": {"Bearer a"}}, want: http.Header{"Authorization": {"Bearer a"}}},
		{name: "an API key is kept as it is", raw: http.Header{"Authorization": {"Basic a2V5Og==  "}}, want: http.Header{"Authorization": {"Basic a2V5Og==  "}}},
		{name: "only the named cookies are kept", raw: http.Header{"Cookie": {"a=1; session=2; ab=3; Session=4; _ga=5; nameless"}}, cookies: []string{"session", "_ga"}, want: http.Header{"Cookie": {"session=2; _ga=5"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := selecting(t, nil, tt.cookies)
			got, k, err := s.picked(tt.raw)
			if tt.sentinel != nil {
				require.ErrorIs(t, err, tt.sentinel)
				assert.Nil(t, got)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
			sent, err := s.raw(got)
			require.NoError(t, err)
			assert.Equal(t, sent, k, "the key does not cover exactly the sent headers")
		})
	}
}

// Headers other than Cookie and Authorization reach DSS in the form in which
// servers for Python would pass them on.
func TestOtherHeadersPicked(t *testing.T) {
	s := selecting(t, []string{"Cookie", "X-Name"}, nil)
	for _, row := range []struct {
		values   []string
		want     string
		sentinel error
	}{
		{values: []string{"one", "two"}, want: "one, two"},
		{values: []string{"one", "one"}, want: "one"},
		{values: []string{"one", "two", "one"}, want: "one, two, one"},
		{values: []string{"", "one", ""}, want: ", one, "},
		{values: []string{"André"}, want: "André"},
		{values: []string{"Andr\xe9"}, want: "André"},
		{values: []string{"Andr\xe9", "Andr\xc3\xa9"}, want: "André, André"},
		{values: []string{"one", "two\n"}, sentinel: ErrMalformed},
		{values: []string{"Andr\xe9\x00"}, sentinel: ErrMalformed},
		{values: append(make([]string, 20000), "one"), sentinel: ErrTooLarge},
		{values: []string{strings.Repeat("\xe9", 12<<10)}, sentinel: ErrTooLarge}, // twice as long in UTF-8
	} {
		got, k, err := s.picked(http.Header{"Cookie": {"a=1"}, "X-Name": row.values})
		if row.sentinel != nil {
			require.ErrorIs(t, err, row.sentinel)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, http.Header{"Cookie": {"a=1"}, "X-Name": {row.want}}, got)
		sent, err := s.raw(got)
		require.NoError(t, err)
		assert.Equal(t, sent, k, "the key does not cover exactly the sent headers")
	}
}

func TestPickedHeadersAreACopy(t *testing.T) {
	s := selecting(t, nil, nil)
	h := http.Header{"Authorization": {"Bearer a"}}
	picked, _, err := s.picked(h)
	require.NoError(t, err)
	h["Authorization"][0] = "Bearer b"
	assert.Equal(t, "Bearer a", picked.Get("Authorization"))
}

func TestStrayCookiesAreDropped(t *testing.T) {
	stray := []string{
		"_ga", "_ga_R2D2C3PO", "_gid", "_gat", "_gat_gtag_UA_1", "_gcl_au", "_gcl_aw", "__utma", "__utmz", "_hjSession_1", "_hjid", "_pk_id.1.1fff",
		"_pk_ses.1.1fff", "mp_0a1b_mixpanel", "ajs_anonymous_id", "ajs_user_id", "amp_6e403e", "amplitude_id_1", "intercom-session-x", "intercom-id-x",
		"_fbp", "_clck", "_clsk", "optimizelyEndUserId", "optimizely_domain", "AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS", "AWSELB", "AWSELBCORS",
		"__cf_bm", "__cflb", "_cfuvid", "ARRAffinity", "ARRAffinitySameSite", "BIGipServerpool_dss",
	}
	for _, pattern := range strayCookies {
		assert.True(t, slices.ContainsFunc(stray, func(name string) bool { return newPattern(pattern).matches(name) }), "no cookie here is dropped for %q", pattern)
	}
	s := selecting(t, nil, nil)
	for _, name := range stray {
		picked, _, err := s.picked(http.Header{"Cookie": {"session=a; " + name + "=b"}})
		require.NoError(t, err)
		assert.Equal(t, "session=a", picked.Get("Cookie"), name)
	}
}

func TestCookiesLikeStrayOnesAreKept(t *testing.T) {
	s := selecting(t, nil, nil)
	for _, name := range []string{
		"AWSELBAuthSessionCookie", "AWSELBAuthSessionCookie-0", "AWSALBX", "_gax", "_gidx", "_GA", "ga", "x_ga", "_fbpx", "__cf_bmx", "_cfuvid2",
		"dss_access_token", "JSESSIONID", "arraffinity", "bigipserver", "_pk", "mp", "intercom", "_oauth2_proxy", "__Host-session",
	} {
		kept := name + "=b"
		picked, _, err := s.picked(http.Header{"Cookie": {kept}})
		if assert.NoError(t, err, name) {
			assert.Equal(t, kept, picked.Get("Cookie"))
		}
	}
}

func TestCookiesNamedByGlobs(t *testing.T) {
	tests := []struct {
		glob     string
		yes, noo []string
	}{
		{"session", []string{"session"}, []string{"Session", "session2", "asession", ""}},
		{"dss_*", []string{"dss_", "dss_access", "dss_*"}, []string{"dss", "DSS_access", "xdss_"}},
		{"*_token", []string{"_token", "dss_token"}, []string{"dss_token2", "dss_Token"}},
		{"a*z", []string{"az", "abcz"}, []string{"abc", "z"}},
		{"*", []string{"a", "_ga", "AWSALB"}, []string{""}},
		{"d?s", []string{"dss", "d_s"}, []string{"ds", "d__s"}},
		{"[ab]c", []string{"ac", "bc"}, []string{"cc", "[ab]c"}},
		{`\*`, []string{"*"}, []string{"a"}},
	}
	for _, tt := range tests {
		rule, err := newCookieRule([]string{tt.glob})
		require.NoError(t, err)
		for _, name := range tt.yes {
			assert.True(t, rule.keeps(name), "%q should keep %q", tt.glob, name)
		}
		for _, name := range tt.noo {
			assert.False(t, rule.keeps(name), "%q should not keep %q", tt.glob, name)
		}
	}
}

func TestHeadersAsLargeAsAllowed(t *testing.T) {
	s, err := newSelector(nil, nil, 300)
	require.NoError(t, err)
	a, b, stray := strings.Repeat("a", 300), strings.Repeat("b", 98), "_ga="+strings.Repeat("stray", 300)
	for name, row := range map[string]struct {
		h         http.Header
		raw, pick bool // whether it is taken
	}{
		"a byte less":                       {http.Header{"Cookie": {a[:299]}}, true, true},
		"all":                               {http.Header{"Cookie": {a}}, true, true},
		"all in two headers":                {http.Header{"Cookie": {a[:100], b}, "Authorization": {a[:100]}}, true, true},
		"more in what is not named":         {http.Header{"Cookie": {a}, "User-Agent": {stray}}, true, true},
		"all, beside cookies dropped":       {http.Header{"Cookie": {a, stray[:900]}}, true, true},
		"all, behind cookies dropped":       {http.Header{"Cookie": {stray[:900], a}}, true, true},
		"a byte more":                       {http.Header{"Cookie": {a + "a"}}, true, false},
		"a byte more by being joined":       {http.Header{"Cookie": {a[:100], b + "b"}, "Authorization": {a[:100]}}, true, false},
		"a byte more of an API key":         {http.Header{"Authorization": {a + "a"}}, true, false},
		"a byte more, beside an API key":    {http.Header{"Cookie": {a}, "Authorization": {"b"}}, true, false},
		"four times as much":                {http.Header{"Cookie": {a, a, a, a}}, true, false},
		"four times as much, and a byte":    {http.Header{"Cookie": {a, a, a, a, "a"}}, false, false},
		"cookies dropped, and a byte":       {http.Header{"Cookie": {a, stray[:901]}}, false, true},
		"much more of an API key":           {http.Header{"Authorization": {strings.Repeat("a", 1<<20)}}, false, false},
		"much more behind many empty lines": {http.Header{"Cookie": append(make([]string, 5000), strings.Repeat("a", 1201))}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.raw(row.h)
			checkSize(t, row.raw, err, "more than 4 times Config.MaxHeaderBytes (300) bytes")
			_, _, err = s.picked(row.h)
			checkSize(t, row.pick, err, "more than Config.MaxHeaderBytes (300) bytes")
			_, err = s.pickKey(row.h)
			checkSize(t, row.pick, err, "more than Config.MaxHeaderBytes (300) bytes")
		})
	}
}

func checkSize(t *testing.T, taken bool, err error, says string) {
	t.Helper()
	if taken {
		assert.NoError(t, err)
		return
	}
	assert.ErrorIs(t, err, ErrTooLarge)
	assert.ErrorContains(t, err, says)
}

// The key of pickKey, the key of pick and the raw key of pick's headers are
// equal, for sizes around the buffer's, around the words and turns of the hash,
// and up to the allowed one.
func TestKeyOfPickEqualsKeyOfItsHeaders(t *testing.T) {
	s := selecting(t, []string{"Cookie", "Authorization", "X-One"}, nil)
	sizes := []int{1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 350, 1536, 16<<10 - 30}
	for size := pickRoom - 60; size < pickRoom+40; size++ {
		sizes = append(sizes, size)
	}
	seen := map[key]int{}
	for _, size := range sizes {
		for i, h := range []http.Header{
			{"Cookie": {strings.Repeat("c", size)}},
			{"Authorization": {strings.Repeat("c", size)}},
			{"X-One": {strings.Repeat("c", size)}},
			{"Cookie": {"_ga=1; c; " + strings.Repeat("c", size)}, "Authorization": {"c"}, "X-One": {""}},
			{"Cookie": {"c"}, "Authorization": {""}, "X-One": {strings.Repeat("c", size)}},
		} {
			c, err := s.pick(h)
			require.NoError(t, err)
			k, err := s.pickKey(h)
			require.NoError(t, err)
			require.Equal(t, c.key, k, "%d bytes", size)
			raw, err := s.raw(c.header)
			require.NoError(t, err)
			require.Equal(t, raw, k, "%d bytes", size)
			require.NotContains(t, seen, k, "%d bytes, header %d", size, i)
			seen[k] = size
		}
	}
}

func TestPickKeyAllocatesNothing(t *testing.T) {
	s := selecting(t, nil, nil)
	h := http.Header{"Cookie": {"_ga=1; " + strings.Repeat("c", 1000), "d=" + strings.Repeat("d", 980)}, "Authorization": {"Bearer token"}}
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = s.pickKey(h) }))
}

// Each byte at each place of a word.
func TestPrintable(t *testing.T) {
	for _, around := range []string{"", "a", "abcdefg", "abcdefgh", "é", "abcdefghijklmnopé"} {
		for c := range 256 {
			for at := range 17 {
				text := around + strings.Repeat("~", at) + string([]byte{byte(c)}) + strings.Repeat(" ", 16-at)
				assert.Equal(t, c >= ' ' && c < 0x7f, printable(text), "%q", text)
			}
		}
	}
	assert.True(t, printable(""))
	assert.True(t, printable("abcdefg\u00e9\U0001f600"))
	assert.False(t, printable("abcdefg\xed\xa0\x80"))
}

func TestKeysAreDistinctAndSpread(t *testing.T) {
	s := selecting(t, nil, nil)
	const n = 100_000
	seen := make(map[key]bool, n)
	var ones [128]int
	base := []byte("session=0123456789abcdef0123456789abcdef; other=0123456789")
	variants := map[string]bool{}
	for len(variants) < n {
		// They are close to each other: a few bytes differ, or the length.
		v := bytes.Clone(base[:len(base)-rand.IntN(8)])
		for range 3 {
			v[8+rand.IntN(32)] = "0123456789abcdef"[rand.IntN(16)]
		}
		if variants[string(v)] {
			continue
		}
		variants[string(v)] = true
		_, k, err := s.picked(http.Header{"Cookie": {string(v)}})
		require.NoError(t, err)
		require.False(t, seen[k], "two credentials, one key")
		seen[k] = true
		for bit := range ones {
			ones[bit] += int(k[bit/64] >> (bit % 64) & 1)
		}
	}
	for bit, count := range ones {
		// Ten standard deviations.
		assert.InDelta(t, n/2, count, 1600, "bit %d of the key is not random", bit)
	}
}

// All of this holds also in a process that may use approved cryptography only:
// the tests run once more in such a process.
func TestApprovedCryptographyIsEnough(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.run", "^(TestKey|TestRawKeys|TestHeadersPicked|TestHeadersAsLarge|FuzzSelect)")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestKeysAreDistinctAndSpread")
}

// FuzzSelect takes two requests, each with two Cookie headers, an
// Authorization header and an X-DKU one.
func FuzzSelect(f *testing.F) {
	f.Add("a=1; b=2", "c=3", "Bearer x", "a=1; b=2; c=3", "", "Bearer x")
	f.Add("session=a; _ga=1", "", "", "session=a; _ga=2", "", "")
	f.Add("ab", "c", "", "a", "bc", "")
	f.Add("a=\xff; b=\x00", "dssauth_redirected=1", "", "b", "", "\x7f")
	f.Add("", "", "", ";;; ;", "\t=\t;=;==", " ")
	f.Add(strings.Repeat("a", 300), "", "", "a=1", strings.Repeat("; b=2", 60), "")
	s := selecting(f, nil, nil)
	s.maxBytes = 256
	f.Fuzz(func(t *testing.T, cookieA, moreA, authA, cookieB, moreB, authB string) {
		a := fuzzedHeader(cookieA, moreA, authA)
		b := fuzzedHeader(cookieB, moreB, authB)
		pickA, keyA, errA := s.picked(a)
		pickB, keyB, errB := s.picked(b)
		checkPick(t, &s, a, pickA, keyA, errA)
		checkPick(t, &s, b, pickB, keyB, errB)
		if errA == nil && errB == nil {
			same := fmt.Sprintf("%q", pickA) == fmt.Sprintf("%q", pickB)
			assert.Equal(t, same, keyA == keyB, "%q and %q", pickA, pickB)
		}
		rawA, rawErrA := s.raw(a)
		rawB, rawErrB := s.raw(b)
		if rawErrA == nil && rawErrB == nil && rawA == rawB {
			assert.Equal(t, pickA, pickB, "one raw key, two picks")
			assert.Equal(t, errA == nil, errB == nil)
		}
		// One request may arrive with exactly the headers that were picked of
		// the other.
		if rawErrA == nil && errB == nil && rawA == keyB {
			require.NoError(t, errA)
			assert.Equal(t, pickB, pickA, "found under another's key")
		}
	})
}

// fuzzedHeader returns a header as net/http would make it, without empty
// cookies.
func fuzzedHeader(cookie, more, authorization string) http.Header {
	h := http.Header{"X-Dku-Proxyuser": {"admin"}, "X_dku_apiticket": {"ticket"}}
	for _, c := range []string{cookie, more} {
		if c != "" {
			h["Cookie"] = append(h["Cookie"], c)
		}
	}
	if authorization != "" {
		h["Authorization"] = []string{authorization}
	}
	return h
}

func checkPick(t *testing.T, s *selector, h, picked http.Header, k key, err error) {
	again, sameKey, sameErr := s.picked(h)
	assert.Equal(t, picked, again, "not the same twice")
	assert.Equal(t, k, sameKey, "not the same key twice")
	assert.Equal(t, err == nil, sameErr == nil)
	if err != nil {
		_, quick := s.pickKey(h)
		assert.Equal(t, err, quick)
		assert.Nil(t, picked)
		assert.Contains(t, []int{400, 401, 431}, StatusCode(err))
		return
	}
	for name, values := range picked {
		assert.Contains(t, []string{"Cookie", "Authorization"}, name)
		require.Len(t, values, 1)
		assert.True(t, printable(values[0]), "%q", values[0])
		assert.True(t, strings.Contains(strings.Join(h[name], ";"), strings.Split(values[0], "; ")[0]), "%q is not in %q", values[0], h[name])
	}
	quick, err := s.pickKey(h)
	require.NoError(t, err)
	assert.Equal(t, k, quick, "another key where no headers are made")
	repicked, rekey, err := s.picked(picked)
	require.NoError(t, err, "%q", picked)
	assert.Equal(t, picked, repicked, "a second pick changed the headers")
	assert.Equal(t, k, rekey)
	raw, err := s.raw(picked)
	require.NoError(t, err)
	assert.Equal(t, k, raw, "picked headers that arrive unchanged have another key")
}

// picked is pick, with the headers and the key as separate results.
func (s *selector) picked(h http.Header) (http.Header, key, error) {
	c, err := s.pick(h)
	return c.header, c.key, err
}
