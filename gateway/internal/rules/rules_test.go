package rules

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// example has a rule of each kind.
var example = []Rule{
	0: {Path: "/", Allow: SignedIn},
	1: {Path: "/open/", Allow: Everyone},
	2: {Path: "/admin/", Groups: []string{"administrators"}},
	3: {Path: "/admin/", Methods: []string{"GET", "OPTIONS"}, Allow: SignedIn},
	4: {Path: "/admin/secrets/", Allow: Nobody},
	5: {Path: "/churn/", Project: "CHURN"},
	6: {Path: "/admin/secrets/public/", Methods: []string{"GET"}, Allow: Everyone},
	7: {Path: "/admin/secrets/public/", Methods: []string{"POST", "PUT"}, Project: "CHURN_2"},
	8: {Path: "/admin/secrets/public/", Allow: Nobody},
	9: {Path: "/Zoë/a b/kiosk/", Allow: Nobody},
}

func TestFind(t *testing.T) {
	s := newSet(t, example)
	for _, row := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/", 0},
		{"POST", "/x", 0},
		{"POST", "/admin", 2},
		{"POST", "/admin/", 2},
		{"POST", "/admin/x", 2},
		{"POST", "/administrator", 0},
		{"POST", "/admin-x/", 0},
		{"POST", "/admi", 0},
		{"POST", "/x/admin/", 0},
		{"POST", "/admin/x/secrets/", 2},
		{"GET", "/admin/x", 3},
		{"HEAD", "/admin/x", 3},
		{"OPTIONS", "/admin", 3},
		{"PATCH", "/admin", 2},
		{"X-OWN_2", "/admin", 2},
		{"GET", "/admin/secrets", 4}, // the path is longer than that of a rule with this method
		{"GET", "/admin/secrets/x/y/", 4},
		{"GET", "/admin/secrets/public", 6},
		{"HEAD", "/admin/secrets/public/x", 6},
		{"POST", "/admin/secrets/public/x", 7},
		{"PUT", "/admin/secrets/public/x", 7},
		{"DELETE", "/admin/secrets/public/x", 8},
		{"GET", "/churn", 5},
		{"GET", "/Zo%C3%AB/a%20b/kiosk/x", 9},
		{"GET", "/Zo%C3%AB/a%20b/", 0},
		{"GET", "/%40churn", 0},
		{"GET", "/OTHER/Admin", 0}, // upper case where no rule is
		{"GET", "/open/Admin/", 1},
		{"GET", "/wiki/What%3F/x", 0},
		{"GET", "/admin.json", 0},
	} {
		rule, err := s.Find(row.method, row.path)
		assert.NoError(t, err, row.path)
		assert.Equal(t, row.want, rule, "%s %s", row.method, row.path)
	}
}

func TestRequestsWithoutARuleAreRefused(t *testing.T) {
	s := newSet(t, example)
	for _, row := range []struct {
		method, path string
		want         error
	}{
		{"GET", "/Admin", errAmbiguous},
		{"GET", "/ADMIN/x", errAmbiguous},
		{"GET", "/admin/Secrets/x", errAmbiguous},
		{"GET", "/Admin/secrets/x", errAmbiguous},
		{"GET", "/OPEN", errAmbiguous},
		{"GET", "/admin./x", errAmbiguous},
		{"GET", "/admin.", errAmbiguous},
		{"GET", "/admin...", errAmbiguous},
		{"GET", "/admin%20", errAmbiguous},
		{"GET", "/admin%20/x", errAmbiguous},
		{"GET", "/%20admin/x", errAmbiguous},
		{"GET", "/admin.%20.%20/x", errAmbiguous},
		{"GET", "/admin%C2%A0/x", errAmbiguous},       // a no-break space
		{"GET", "/ad%C2%ADmin/x", errAmbiguous},       // a soft hyphen
		{"GET", "/admin%E2%80%8D", errAmbiguous},      // a zero width joiner
		{"GET", "/admin%E2%80%A6", errAmbiguous},      // …
		{"GET", "/%EF%BD%81dmin", errAmbiguous},       // fullwidth a
		{"GET", "/adm%C4%B1n", errAmbiguous},          // dotless i
		{"GET", "/adm%C4%B0n", errAmbiguous},          // I with a dot
		{"GET", "/admin/%C5%BFecrets", errAmbiguous},  // ſ
		{"GET", "/admin/secret%C5%BF/", errAmbiguous}, // ſ
		{"GET", "/Zo%C3%AB/a%20b/%E2%84%AAiosk", errAmbiguous},
		{"GET", "/ZO%C3%8B/a%20b/kiosk", errAmbiguous},
		{"GET", "/admin%3Fx", errAmbiguous},
		{"GET", "/admin%23x/y", errAmbiguous},
		{"GET", "/admin%EF%BC%9Fx", errAmbiguous}, // fullwidth ?
		{"GET", "/dssauth", errReserved},
		{"GET", "/dssauth/", errReserved},
		{"GET", "/dssauth/check/x", errReserved},
		{"GET", "/DSSauth/check", errAmbiguous},
		{"GET", "/dssauth./check", errAmbiguous},
		{"GET", "/admin//x", errEmpty},
		{"GET", "/open/%2e%2e/admin", errNeedless},
		{"get", "/", errMethod},
		{"Get", "/admin", errMethod},
		{"GEt", "/admin", errMethod},
		{"", "/admin", errMethod},
		{"GET ", "/admin", errMethod},
		{"GÉT", "/admin", errMethod},
		{"TRACE", "/open/", errMethod},
		{"CONNECT", "/open/", errMethod},
	} {
		_, err := s.Find(row.method, row.path)
		assert.Equal(t, row.want, err, "%s %s", row.method, row.path)
	}
}

// Without a rule that says so, /A and /a are just paths.
func TestPathsWithoutTheirOwnRuleMayHaveAnyCase(t *testing.T) {
	s := newSet(t, []Rule{{Path: "/A/x/", Allow: Everyone}, {Path: "/", Allow: Nobody}})
	for path, want := range map[string]int{"/A/x": 0, "/a": 1, "/A": 1, "/a/y": 1} {
		rule, err := s.Find("GET", path)
		assert.NoError(t, err, path)
		assert.Equal(t, want, rule, path)
	}
	_, err := s.Find("GET", "/a/x")
	assert.Equal(t, errAmbiguous, err)
}

func TestWrongRules(t *testing.T) {
	root := Rule{Path: "/", Allow: SignedIn}
	for _, row := range []struct {
		rules []Rule
		want  []string
	}{
		{nil, []string{`rules: no rule has the path "/": add one, such as {path: /, allow: signed-in}`}},
		{[]Rule{{Path: "/x/", Allow: Nobody}}, []string{`rules: no rule has the path "/"`}},
		{[]Rule{{Path: "/", Methods: []string{"GET"}, Allow: SignedIn}}, []string{`rules[0].methods: "/" has no rule for other methods: add one without methods`}},
		{[]Rule{root, {Path: "/x/", Methods: []string{"GET"}, Allow: Nobody}, {Path: "/x/", Methods: []string{"PUT"}, Allow: Nobody}},
			[]string{`rules[1].methods: "/x/" has no rule for other methods`}},

		{[]Rule{root, {Path: "", Allow: Nobody}}, []string{`rules[1].path: it is missing: give a prefix, as in "/admin/"`}},
		{[]Rule{root, {Path: "x/", Allow: Nobody}}, []string{`rules[1].path: "x/" does not begin with a slash: write "/x/"`}},
		{[]Rule{root, {Path: "/x", Allow: Nobody}}, []string{`rules[1].path: "/x" does not end with a slash: write "/x/", which covers "/x" too`}},
		{[]Rule{root, {Path: "/a%20b/", Allow: Nobody}}, []string{`rules[1].path: "/a%20b/" is percent-encoded: write "/a b/"`}},
		{[]Rule{root, {Path: "/50%/", Allow: Nobody}}, []string{`rules[1].path: "/50%/" has a percent sign`}},
		{[]Rule{root, {Path: "/x/?y/", Allow: Nobody}}, []string{`rules[1].path: "/x/?y/" has a ? or #`}},
		{[]Rule{root, {Path: "/x#/", Allow: Nobody}}, []string{`rules[1].path: "/x#/" has a ? or #`}},
		{[]Rule{root, {Path: "/x//y/", Allow: Nobody}}, []string{`rules[1].path: "/x//y/": the path has an empty segment (//), and such a request is refused`}},
		{[]Rule{root, {Path: "/../", Allow: Nobody}}, []string{"only dots"}},
		{[]Rule{root, {Path: "/ /", Allow: Nobody}}, []string{"only dots"}},
		{[]Rule{root, {Path: `/a\b/`, Allow: Nobody}}, []string{"backslash"}},
		{[]Rule{root, {Path: "/a;b/", Allow: Nobody}}, []string{"semicolon"}},
		{[]Rule{root, {Path: "/a\nb/", Allow: Nobody}}, []string{"control character"}},
		{[]Rule{root, {Path: "/a\xff/", Allow: Nobody}}, []string{"not UTF-8"}},
		{[]Rule{root, {Path: "/a／b/", Allow: Nobody}}, []string{"takes for one of"}},
		{[]Rule{root, {Path: "/dssauth/", Allow: Nobody}}, []string{`rules[1].path: "/dssauth/" is the gateway's own`}},
		{[]Rule{root, {Path: "/dssauth/x/", Allow: Nobody}}, []string{`rules[1].path: "/dssauth/x/" is the gateway's own`}},
		{[]Rule{root, {Path: "/DSSAuth./", Allow: Nobody}}, []string{`rules[1].path: "/DSSAuth./" is the gateway's own`}},
		{[]Rule{root, root}, []string{`rules[1].path: rules[0] has "/" already`}},
		{[]Rule{root, {Path: "/x/", Allow: Nobody}, {Path: "/X/", Allow: Nobody}}, []string{`rules[2].path: "/X/" and "/x/" are one path to some upstreams`}},
		{[]Rule{root, {Path: "/x/", Allow: Nobody}, {Path: "/x. /", Allow: Nobody}}, []string{`rules[2].path: "/x. /" and "/x/" are one path`}},
		{[]Rule{root, {Path: "/k/", Allow: Nobody}, {Path: "/\u212a/", Allow: Nobody}}, []string{"are one path"}},

		{[]Rule{root, {Path: "/", Methods: []string{}, Allow: Nobody}}, []string{"rules[1].methods: the list is empty: name a method"}},
		{[]Rule{root, {Path: "/", Methods: []string{"get"}, Allow: Nobody}}, []string{`rules[1].methods: "get" has to be in upper case: write "GET"`}},
		{[]Rule{root, {Path: "/", Methods: []string{"GET,POST"}, Allow: Nobody}}, []string{`rules[1].methods: "GET,POST" is not a method`}},
		{[]Rule{root, {Path: "/", Methods: []string{""}, Allow: Nobody}}, []string{`rules[1].methods: "" is not a method`}},
		{[]Rule{root, {Path: "/", Methods: []string{"TRACE", "CONNECT"}, Allow: Nobody}}, []string{"rules[1].methods: TRACE is never passed on", "rules[1].methods: CONNECT is never"}},
		{[]Rule{root, {Path: "/", Methods: []string{"HEAD"}, Allow: Nobody}}, []string{"rules[1].methods: GET covers HEAD: write GET"}},
		{[]Rule{root, {Path: "/", Methods: []string{"PUT", "PUT"}, Allow: Nobody}}, []string{"rules[1].methods: PUT is given twice"}},
		{[]Rule{root, {Path: "/", Methods: []string{"PUT"}, Allow: Nobody}, {Path: "/", Methods: []string{"GET", "PUT"}, Allow: Nobody}},
			[]string{`rules[2].methods: rules[1] already has PUT for "/"`}},

		{[]Rule{{Path: "/"}}, []string{"rules[0]: 0 of allow, groups and project are given: give exactly one"}},
		{[]Rule{{Path: "/", Allow: SignedIn, Groups: []string{"a"}, Project: "P"}}, []string{"rules[0]: 3 of allow"}},
		{[]Rule{{Path: "/", Allow: SignedIn, Groups: []string{}}}, []string{"rules[0].groups: the list is empty", "rules[0]: 2 of allow"}},
		{[]Rule{{Path: "/", Allow: Nobody + 1}}, []string{"rules[0].allow: 4 is none of"}},
		{[]Rule{{Path: "/", Allow: -1}}, []string{"rules[0].allow: -1 is none of"}},
		{[]Rule{{Path: "/", Groups: []string{}}}, []string{"rules[0].groups: the list is empty"}},
		{[]Rule{{Path: "/", Groups: []string{"a", " "}}}, []string{`rules[0].groups: " " is blank`}},
		{[]Rule{{Path: "/", Groups: []string{" a"}}}, []string{`rules[0].groups: " a" has spaces at its ends, and names match exactly: write "a"`}},
		{[]Rule{{Path: "/", Groups: []string{"a\x00b"}}}, []string{`rules[0].groups: "a\x00b" has control characters`}},
		{[]Rule{{Path: "/", Project: "CHURN/x"}}, []string{`rules[0].project: "CHURN/x" is not a project's key`}},

		{[]Rule{{Path: "x"}, {Path: "/y/", Methods: []string{"get"}, Project: "-"}},
			[]string{"rules[0]: 0 of", "rules[0].path: ", "rules[1].project: ", "rules[1].methods: ", `rules: no rule has the path "/"`}},
	} {
		s, err := New(row.rules)
		require.Error(t, err, "%+v", row.rules)
		assert.Nil(t, s)
		joined, ok := err.(interface{ Unwrap() []error })
		require.True(t, ok)
		require.Len(t, joined.Unwrap(), len(row.want), err.Error())
		for i, e := range joined.Unwrap() {
			assert.ErrorContains(t, e, row.want[i])
			_, ok := errors.AsType[*Error](e)
			assert.True(t, ok)
		}
	}
}

// A visitor's path is looked at on every request.
func TestFindAllocatesNothing(t *testing.T) {
	s := newSet(t, example)
	for _, path := range []string{"/", "/admin/secrets/public/x.html", "/Admin", "/a//b", "/" + strings.Repeat("static/", 99)} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { s.Find("GET", path) }), path)
	}
}

// covers is what Find is judged by: the same rule in other words, and slowly.
func covers(rule, path string) bool {
	parts, of := strings.Split(strings.Trim(path, "/"), "/"), strings.Split(strings.Trim(rule, "/"), "/")
	if rule == "/" {
		return true
	}
	for i, segment := range of {
		if i >= len(parts) || !strings.EqualFold(strings.TrimRight(parts[i], ". "), strings.TrimRight(segment, ". ")) {
			return false
		}
	}
	return true
}

// FuzzFind: no spelling of a path under a rule falls under a rule with a shorter path.
func FuzzFind(f *testing.F) {
	f.Add("GET", "/admin/secrets", "/x", uint64(0))
	f.Add("POST", "/admin/secrets", "", uint64(1<<3|1<<10))
	f.Add("HEAD", "/Admin./secrets%20/public", "/x", uint64(0))
	f.Add("GET", "/admin", "/secrets/../x", uint64(2))
	f.Add("GET", "/Zo%C3%AB/a%20b/kiosk", "%3F", uint64(1<<40))
	f.Add("GET", "/admin/%C5%BFecrets", "/", uint64(0))
	f.Add("get", "/", "", uint64(0))
	s, err := New(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path, more string, flip uint64) {
		// Any path, and then one that is known to lie under a rule.
		for _, escaped := range []string{path + more, otherCase("/admin/secrets/public", flip) + more} {
			rule, err := s.Find(method, escaped)
			if err != nil {
				continue
			}
			decoded, err := normal(escaped)
			require.NoError(t, err)
			found := example[rule].Path
			require.True(t, strings.HasPrefix(decoded+"/", found), "%q is not under %q", decoded, found)
			for _, r := range example {
				require.False(t, len(r.Path) > len(found) && covers(r.Path, decoded), "%q is under %q, and not only %q", decoded, r.Path, found)
			}
			require.False(t, covers(Reserved, decoded))
			require.Equal(t, strings.ToUpper(method), method)
		}
	})
}

// otherCase writes the letters of s whose bits are set in upper case, and ſ for s at
// every second one of these.
func otherCase(s string, flip uint64) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case flip>>(i%64)&1 == 0:
			b.WriteRune(c)
		case c == 's' && flip>>63 == 1:
			b.WriteString(url.PathEscape("ſ"))
		default:
			b.WriteString(strings.ToUpper(string(c)))
		}
	}
	return b.String()
}

func newSet(t *testing.T, rules []Rule) *Set {
	t.Helper()
	s, err := New(rules)
	require.NoError(t, err)
	return s
}

// The number of rules costs nothing.
func BenchmarkFind(b *testing.B) {
	for _, count := range []int{5, 5000} {
		rules := []Rule{{Path: "/", Allow: SignedIn}, {Path: "/api/v1/", Allow: SignedIn}}
		for i := range count {
			rules = append(rules, Rule{Path: fmt.Sprintf("/api/v1/part%d/", i), Groups: []string{"a"}})
		}
		s, err := New(rules)
		if err != nil {
			b.Fatal(err)
		}
		for name, path := range map[string]string{"plain": "/api/v1/part3/items/42/details.html", "percent": "/api/v1/part3/items/a%20b%C3%A9/details.html"} {
			b.Run(fmt.Sprintf("%s/%d", name, count), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if rule, err := s.Find("GET", path); rule != 5 || err != nil {
						b.Fatal(rule, err)
					}
				}
			})
		}
	}
}

func TestKeysOfProjects(t *testing.T) {
	for c := range 256 {
		key := "A" + string(rune(c))
		_, err := New([]Rule{{Path: "/", Project: key}})
		assert.Equal(t, regexp.MustCompile(`^\w+$`).MatchString(key), err == nil, "%q", key)
	}
}
