package rules

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPathsThatAreNotNormal(t *testing.T) {
	for _, row := range []struct {
		path string
		want error
	}{
		{"", errStart},
		{"admin", errStart},
		{"*", errStart},
		{"http://dss.example/admin", errStart},
		{"%2Fadmin", errStart},
		{"//", errEmpty},
		{"//admin", errEmpty},
		{"/open//admin", errEmpty},
		{"/admin//", errEmpty},
		{"/.", errDots},
		{"/./admin", errDots},
		{"/open/../admin", errDots},
		{"/open/..", errDots},
		{"/open/.../admin", errDots},
		{"/open/..%20/admin", errDots},
		{"/open/%20../admin", errDots},
		{"/open/%20/admin", errDots},
		{"/x%20y/../admin", errDots},
		{"/open/..%E2%80%8D/admin", errDots}, // a zero width joiner
		{"/open/%E2%80%8D", errDots},
		{"/open/%E2%80%A6", errDots}, // …
		{"/open/%C2%A0", errDots},    // a no-break space
		{"/open/..%3Fx", errDots},
		{"/open/%23", errDots},
		{"/open/%2e%2e/admin", errNeedless},
		{"/open/.%2E/admin", errNeedless},
		{"/%61dmin", errNeedless},
		{"/admi%6E", errNeedless},
		{"/%41", errNeedless},
		{"/%5A", errNeedless},
		{"/%7a", errNeedless},
		{"/%30", errNeedless},
		{"/%39", errNeedless},
		{"/%2d", errNeedless},
		{"/%5F", errNeedless},
		{"/%7E", errNeedless},
		{"/open%2Fadmin", errSlash},
		{"/open%2f..%2fadmin", errSlash},
		{"/open%252Fadmin", errDouble},
		{"/open/%252e%252e/admin", errDouble},
		{"/%25", errDouble},
		{`/open\admin`, errBackslash},
		{`/open\..\admin`, errBackslash},
		{"/open%5Cadmin", errBackslash},
		{"/open%5c", errBackslash},
		{"/admin;x", errSemicolon},
		{"/admin;jsessionid=1/x", errSemicolon},
		{"/open/..;/admin", errSemicolon},
		{"/admin%3Bx", errSemicolon},
		{"/admin%3bx", errSemicolon},
		{"/admin\x00", errControl},
		{"/admin%00", errControl},
		{"/admin%0d%0aX: y", errControl},
		{"/a\tb", errControl},
		{"/a%09", errControl},
		{"/a%1F", errControl},
		{"/a\x1f", errControl},
		{"/a\x7f", errControl},
		{"/a%7f", errControl},
		{"/a%C2%80", errControl}, // U+0080
		{"/a%C2%9F", errControl},
		{"/a b", errOutside},
		{"/é", errOutside},
		{"/\x80", errOutside},
		{"/\xff", errOutside},
		{"/／admin", errOutside},
		{"/admin?x", errQuery},
		{"/admin#x", errQuery},
		{"/%", errHex},
		{"/%2", errHex},
		{"/%2g", errHex},
		{"/%g2", errHex},
		{"/%-1", errHex},
		{"/% 20", errHex},
		{"/a%%20", errHex},
		{"/a%u002f", errHex},
		{"/a%20%", errHex},
		{"/%C0%AF", errUTF8},       // / in two bytes
		{"/%E0%80%AF", errUTF8},    // in three
		{"/%F0%80%80%AF", errUTF8}, // in four
		{"/%C0%AE%C0%AE", errUTF8}, // ..
		{"/%C0%80", errUTF8},       // NUL, as Java writes it
		{"/%ED%A0%80", errUTF8},    // half a surrogate pair
		{"/%F4%90%80%80", errUTF8}, // beyond U+10FFFF
		{"/%80", errUTF8},
		{"/%C3", errUTF8},
		{"/%C3/%A9", errUTF8},
		{"/%E9", errUTF8}, // é in Latin-1
		{"/admin:$I30:$INDEX_ALLOCATION/x", errStream},
		{"/admin::$DATA", errStream},
		{"/admin:%24I30", errStream},
		{"/admin%3A$I30", errStream},
		{"/admin%3a%24I30", errStream},
	} {
		decoded, err := normal(row.path)
		assert.Equal(t, row.want, err, row.path)
		assert.Empty(t, decoded, row.path)
	}
}

func TestNormalPathsAreDecoded(t *testing.T) {
	for escaped, want := range map[string]string{
		"/":                                "/",
		"/admin":                           "/admin",
		"/admin/":                          "/admin/",
		"/a/b.c/.d/..e/f../g.":             "/a/b.c/.d/..e/f../g.",
		"/a-b_c~d":                         "/a-b_c~d",
		"/a!b$c&d'e(f)g*h+i,j=k:l@m":       "/a!b$c&d'e(f)g*h+i,j=k:l@m",
		"/_next/[id]|x^y{z}":               "/_next/[id]|x^y{z}",
		"/$value:x":                        "/$value:x",
		"/a%20b":                           "/a b",
		"/a%20/b":                          "/a /b",
		"/%3a%40%2B%2c":                    "/:@+,",
		"/wiki/What%3F":                    "/wiki/What?",
		"/caf%C3%A9/%F0%9F%98%80":          "/café/😀",
		"/Bericht%E2%80%A6.pdf":            "/Bericht….pdf",
		"/%D9%85%DB%8C%E2%80%8C%D8%AE/x":   "/می\u200cخ/x",
		"/%EF%BF%BD":                       "/\uFFFD",
		"/" + strings.Repeat("%C3%A9", 99): "/" + strings.Repeat("é", 99),
	} {
		decoded, err := normal(escaped)
		assert.NoError(t, err, escaped)
		assert.Equal(t, want, decoded)
	}
}

// The list begins with all characters whose NFKC form has one of / \ ; % or has only
// dots. … is left out.
func TestLookalikesAreRefused(t *testing.T) {
	for _, r := range "／＼．；％\u2024\u2025\u037e\u2100\u2101\u2105\u2106\ufe14\ufe19\ufe30\ufe52\ufe54\ufe68\ufe6a" + "\u2044\u2215\u2216\u20e5\u066a¥₩" {
		_, err := normal("/open" + url.PathEscape(string(r)) + "admin")
		assert.Equal(t, errLookalike, err, "%U", r)
	}
	for r := '！'; r <= '～'; r++ { // the fullwidth forms
		_, err := normal("/open" + url.PathEscape(string(r)) + "admin")
		assert.Equal(t, strings.ContainsRune(`/\.;%`, r-0xfee0), err != nil, "%U", r)
	}
}

// All cases of a letter have the same loose form: upstreams fold case with different
// functions.
func TestLooseFormFoldsAllCases(t *testing.T) {
	loose := func(r rune) string {
		b, _ := appendLoose(nil, "x"+string(r)+"x")
		return string(b)
	}
	for r := rune(1); r < 0x20000; r++ { // no letter with case lies beyond
		if !utf8.ValidRune(r) || r == '?' || r == '#' {
			continue
		}
		want := loose(r)
		for _, other := range []rune{unicode.ToUpper(r), unicode.ToLower(r), unicode.ToTitle(r), unicode.ToLower(unicode.ToUpper(r)), unicode.SimpleFold(r)} {
			if loose(other) != want {
				t.Errorf("%U and %U differ", r, other)
			}
		}
	}
	assert.Equal(t, loose('k'), loose('\u212a')) // Kelvin
	assert.Equal(t, loose('s'), loose('ſ'))
	assert.Equal(t, loose('i'), loose('İ'))
	assert.Equal(t, loose('I'), loose('ı'))
	assert.Equal(t, loose('a'), loose('Ａ'))
	assert.NotEqual(t, loose('a'), loose('b'))
	assert.NotEqual(t, loose('é'), loose('è'))
}

// FuzzNormal: a path that is accepted still means the same after it was decoded and
// cleaned several times.
func FuzzNormal(f *testing.F) {
	for _, seed := range []string{"/", "/a/b%20c/", "/a%2Fb", "/..%20/x", "/%C0%AF", "/%EF%BC%8F", "/a;b", `/a\b`, "/%252e", "/a/%E2%80%8D../x", "/%", "/[x]|"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		decoded, err := normal(escaped)
		if err != nil {
			require.Empty(t, decoded)
			require.Less(t, len(err.Error()), 120) // nothing of the path
			return
		}
		once, err := url.PathUnescape(escaped)
		require.NoError(t, err)
		require.Equal(t, once, decoded)
		twice, err := url.PathUnescape(decoded)
		require.NoError(t, err)
		require.Equal(t, decoded, twice)
		if decoded != "/" {
			require.Equal(t, path.Clean(decoded), strings.TrimSuffix(decoded, "/"))
		}
		require.NotContains(t, decoded, `\`)
		require.NotContains(t, decoded, ";")
		require.True(t, utf8.ValidString(decoded))
		for segment := range strings.SplitSeq(strings.Trim(decoded, "/"), "/") {
			require.True(t, decoded == "/" || strings.Trim(segment, " .") != "", "%q", decoded)
		}

		// If net/http encodes the path again, it is still normal, and means the
		// same.
		u := &url.URL{Path: once, RawPath: escaped}
		again, err := normal(u.EscapedPath())
		require.NoError(t, err)
		require.Equal(t, decoded, again)
	})
}
