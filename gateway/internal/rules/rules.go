// Package rules finds the rule of the configuration for a request.
//
// The gateway reads a path once, and passes it on unchanged. The upstream reads it
// again, in its own way. So a path that could mean something else to the upstream is
// refused. [normal] refuses paths for their spelling. [Set.Find] refuses a path that
// falls under another rule if "/Admin" and "/admin" are one path, as for some
// upstreams.
//
// The package does not cover upstreams that ignore more than that: an extension that
// names a format ("/admin.json" is "/admin" in Rails), accents (Windows code pages),
// the difference between composed and decomposed letters (macOS), short names on
// Windows ("/ADMINI~1"), or the method, if a header or a form field names another
// one. These need a rule for each spelling, or the strictest rule for "/".
package rules

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Rule is one rule of the configuration. It has exactly one of Allow, Groups and
// Project.
type Rule struct {
	// Path is a prefix, decoded, of whole segments. It begins and ends with a slash:
	// "/admin/" covers "/admin" too. Paths under /dssauth/ are the gateway's own.
	Path string
	// Methods are the methods that the rule is for, as in "POST"; "GET" covers
	// HEAD. Nil: all methods for which the path has no other rule.
	Methods []string
	Allow   Allow    // zero where Groups or Project is set
	Groups  []string // members of at least one of these are admitted
	Project string   // the key of a DSS project, whose readers are admitted
}

// Allow admits visitors without regard to their groups. The zero value means that it
// is not set.
type Allow int

const (
	Everyone Allow = iota + 1 // anonymous visitors too
	SignedIn                  // every DSS user
	Nobody
)

// Error is a mistake in the configuration.
type Error struct {
	Index   int    // of the rule; -1: the list as a whole
	Field   string // "path", "methods", "allow", "groups" or "project"; empty: the rule or list
	Problem string // what is wrong, and what to write
}

func (e *Error) Error() string {
	where := "rules"
	if e.Index >= 0 {
		where += fmt.Sprintf("[%d]", e.Index)
	}
	if e.Field != "" {
		where += "." + e.Field
	}
	return where + ": " + e.Problem
}

// Set finds the rule for a request. It is safe for concurrent use.
type Set struct{ root node }

// node stands for the loose form of a path.
type node struct {
	below    map[string]*node // by the loose form of the next segment
	path     string           // of the rules here; empty where there are none
	any      int              // the rule without methods; -1: there is none
	byMethod map[string]int
}

// Reserved is the prefix of the gateway's own paths. A rule cannot have such a path,
// and no request under it reaches the upstream.
const Reserved = "/dssauth/"

// New returns the Set of rules. Its error joins an [*Error] for each mistake.
func New(rules []Rule) (*Set, error) {
	s := &Set{}
	s.node(Reserved).path = Reserved
	var errs []error
	for i, r := range rules {
		wrong := func(field, format string, args ...any) {
			errs = append(errs, &Error{i, field, fmt.Sprintf(format, args...)})
		}
		r.checkWho(wrong)
		methods := r.checkMethods(wrong)
		if !checkPath(r.Path, wrong) {
			continue
		}
		if s.longest(r.Path).path == Reserved {
			wrong("path", "%q is the gateway's own, as all under %q is: give another one", r.Path, Reserved)
			continue
		}
		n := s.node(r.Path)
		switch n.path {
		case r.Path:
		case "":
			n.path, n.any, n.byMethod = r.Path, -1, map[string]int{}
		default:
			wrong("path", "%q and %q are one path to some upstreams, which ignore case, and dots and spaces at the end of a segment: keep one of them", r.Path, n.path)
			continue
		}
		n.add(i, r.Methods == nil, methods, wrong)
	}
	for i, r := range rules {
		if n := s.node(r.Path); n.path == r.Path && n.any < 0 && i == n.first() {
			errs = append(errs, &Error{i, "methods", fmt.Sprintf("%q has no rule for other methods: add one without methods, such as one that allows nobody", r.Path)})
		}
	}
	if s.root.path == "" {
		errs = append(errs, &Error{-1, "", `no rule has the path "/": add one, such as {path: /, allow: signed-in}`})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// node returns the node of a rule's path, and makes it if it is missing.
func (s *Set) node(path string) *node {
	n := &s.root
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		loose, _ := appendLoose(nil, segment)
		if len(loose) == 0 {
			continue // the root, or a path that is wrong
		}
		next := n.below[string(loose)]
		if next == nil {
			next = &node{}
			if n.below == nil {
				n.below = map[string]*node{}
			}
			n.below[string(loose)] = next
		}
		n = next
	}
	return n
}

// add puts the rule with index i into n.
func (n *node) add(i int, forAll bool, methods []string, wrong func(field, format string, args ...any)) {
	if forAll && n.any >= 0 {
		wrong("path", "rules[%d] has %q already, without methods as well: join them, or give methods", n.any, n.path)
	} else if forAll {
		n.any = i
	}
	for _, m := range methods {
		if other, ok := n.byMethod[m]; ok {
			wrong("methods", "rules[%d] already has %s for %q: keep it in one of them", other, m, n.path)
			continue
		}
		n.byMethod[m] = i
	}
}

// first returns the first of the rules by method.
func (n *node) first() int {
	first := -1
	for _, i := range n.byMethod {
		if first < 0 || i < first {
			first = i
		}
	}
	return first
}

func (r Rule) checkWho(wrong func(field, format string, args ...any)) {
	given := 0
	if r.Allow != 0 {
		given++
		if r.Allow < 0 || r.Allow > Nobody {
			wrong("allow", "%d is none of everyone, signed-in and nobody", int(r.Allow))
		}
	}
	if r.Groups != nil {
		given++
		if len(r.Groups) == 0 {
			wrong("groups", "the list is empty: name a group, or write allow: nobody")
		}
	}
	if r.Project != "" {
		given++
	}
	if given != 1 {
		wrong("", "%d of allow, groups and project are given: give exactly one", given)
	}
	// The library's RequireGroup and RequireProject panic if a name is not like
	// this.
	for _, g := range r.Groups {
		switch trimmed := strings.TrimSpace(g); {
		case trimmed == "":
			wrong("groups", "%q is blank: write a group's name", g)
		case trimmed != g:
			wrong("groups", "%q has spaces at its ends, and names match exactly: write %q", g, trimmed)
		case strings.ContainsFunc(g, unicode.IsControl):
			wrong("groups", "%q has control characters, which no group's name has: remove them", g)
		}
	}
	if strings.ContainsFunc(r.Project, func(c rune) bool {
		return c != '_' && (c < '0' || '9' < c) && (c < 'A' || 'Z' < c) && (c < 'a' || 'z' < c)
	}) {
		wrong("project", "%q is not a project's key: write it as in CHURN, with letters, digits and underscores only", r.Project)
	}
}

// checkMethods returns the valid methods.
func (r Rule) checkMethods(wrong func(field, format string, args ...any)) (methods []string) {
	if r.Methods != nil && len(r.Methods) == 0 {
		wrong("methods", "the list is empty: name a method, or leave it out for all methods")
	}
	for i, m := range r.Methods {
		switch {
		case m != strings.ToUpper(m):
			wrong("methods", "%q has to be in upper case: write %q", m, strings.ToUpper(m))
		case !isMethod(m):
			wrong("methods", "%q is not a method: write it as in POST", m)
		case !Passes(m):
			wrong("methods", "%s is never passed on: leave it out", m)
		case m == "HEAD":
			wrong("methods", "GET covers HEAD: write GET")
		case slices.Contains(r.Methods[:i], m):
			wrong("methods", "%s is given twice: give it once", m)
		default:
			methods = append(methods, m)
		}
	}
	return methods
}

// isMethod reports whether m is an upper-case token. Case matters in methods, but
// not to every upstream.
func isMethod(m string) bool {
	for _, c := range []byte(m) {
		if (c < 'A' || 'Z' < c) && (c < '0' || '9' < c) && c != '-' && c != '_' {
			return false
		}
	}
	return m != ""
}

// Passes reports whether requests with this method may reach an upstream. The answer
// to a TRACE repeats the request: a browser's script would see headers that only the
// upstream may see. CONNECT makes a tunnel.
func Passes(method string) bool { return method != "TRACE" && method != "CONNECT" }

// checkPath reports whether path is valid.
func checkPath(path string, wrong func(field, format string, args ...any)) bool {
	decoded, bad := url.PathUnescape(path)
	_, notNormal := normal((&url.URL{Path: path}).EscapedPath())
	switch {
	case path == "":
		wrong("path", `it is missing: give a prefix, as in "/admin/"`)
	case path[0] != '/':
		wrong("path", "%q does not begin with a slash: write %q", path, "/"+path)
	case strings.ContainsAny(path, "?#"):
		wrong("path", "%q has a ? or #: a rule is about the path only, without a query", path)
	case strings.Contains(path, "%") && bad == nil && decoded != path:
		wrong("path", "%q is percent-encoded: write %q", path, decoded)
	case strings.Contains(path, "%"):
		wrong("path", "%q has a percent sign, and requests for such a path are refused: write another one", path)
	case notNormal != nil:
		wrong("path", "%q: %v, and such a request is refused: write another one", path, notNormal)
	case path[len(path)-1] != '/':
		wrong("path", `%q does not end with a slash: write %q, which covers %[1]q too`, path, path+"/")
	default:
		return true
	}
	return false
}

var (
	errMethod    = errors.New("the method is not in upper case, or is one that is never passed on")
	errReserved  = errors.New("the path is the gateway's own")
	errAmbiguous = errors.New("the path differs from a rule's path only in details that some upstreams ignore, such as upper case, or a dot or space at a segment's end")
)

// Find returns the index of the rule for a request. It takes the longest path of a
// rule that covers the request's path. Of the rules with this path, it takes the one
// with the request's method, or else the one without methods. For escapedPath see
// [normal]. An error says why the request must be refused with a 400; it repeats
// nothing of the request or the rules.
func (s *Set) Find(method, escapedPath string) (rule int, err error) {
	if !isMethod(method) || !Passes(method) {
		return 0, errMethod
	}
	path, err := normal(escapedPath)
	if err != nil {
		return 0, err
	}
	n := s.longest(path)
	// The longest rule covers the path loosely. If it does not cover it exactly as
	// well, a shorter rule does, and upstreams differ about which of the two applies.
	if !strings.HasPrefix(path, n.path) && path != n.path[:len(n.path)-1] {
		return 0, errAmbiguous
	}
	if n.path == Reserved {
		return 0, errReserved
	}
	if method == "HEAD" {
		method = "GET"
	}
	if i, ok := n.byMethod[method]; ok {
		return i, nil
	}
	return n.any, nil
}

// longest returns the node with rules that covers the loose form of path. If
// several do, it returns the one with the longest loose path.
func (s *Set) longest(path string) *node {
	n, longest := &s.root, &s.root
	var b [128]byte // segments that are longer cost an allocation
	for rest := path[1:]; rest != ""; {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		loose, ends := appendLoose(b[:0], segment)
		if n = n.below[string(loose)]; n == nil {
			break
		}
		if n.path != "" {
			longest = n
		}
		if ends {
			break
		}
	}
	return longest
}
