package config

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/dssauth/dssauth/internal/shown"
)

// Larger input is reported as a mistake. It must not keep the program busy.
const (
	maxSize     = 1 << 20 // of a file, a variable and a flag
	maxText     = 4 << 10
	maxElements = 10_000
	maxMistakes = 100
)

// reader collects what the sources give, and all mistakes in it.
type reader struct {
	found    map[string]entry // by the setting's name
	unread   bool             // a file is named, and could not be read
	mistakes []error
}

func (r *reader) has(name string) bool {
	_, ok := r.found[name]
	return ok
}

// entry is a setting, or a part of one, as one source gives it.
type entry struct {
	*reader
	origin string     // the file's name, or as in "variable DSSAUTH_TTL"
	line   int        // of the file; 0 for other origins
	field  string     // as in rules[1].groups
	node   *yaml.Node // nil: it is not YAML, and this was reported
}

// wrong reports a mistake. The text must hold nothing that could be a credential.
func (e entry) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch name := strings.TrimPrefix(e.field, top+"."); {
	case e.line > 0:
		text = fmt.Sprintf("%s:%d: %s: %s", e.origin, e.line, name, text)
	case strings.Contains(name, "["):
		text = fmt.Sprintf("%s: %s: %s", e.origin, name, text)
	default:
		text = e.origin + ": " + text
	}
	e.mistakes = append(e.mistakes, errors.New(text))
}

// refuse reports a value that does not fit.
func (e entry) refuse(value, problem string) {
	if strings.HasPrefix(e.field, "headers") || strings.HasPrefix(e.field, "dss_cookies") {
		// A user may have put the value of a header or a cookie here by
		// mistake.
		e.wrong("%s: %s", shown.Quote(value), problem)
		return
	}
	e.wrong("%s%s", quote(value), problem)
}

// quote quotes a value that cannot hold a credential. A password can stand
// before an @, and a token behind a ?.
func quote(value string) string {
	if strings.ContainsAny(value, "@?") {
		return ""
	}
	if len(value) > 100 {
		value = value[:100] + "…"
	}
	return strconv.Quote(value) + ": "
}

// file reads the file's settings.
func (r *reader) file(name string) {
	fail := func(format string, args ...any) {
		r.unread = true
		r.mistakes = append(r.mistakes, fmt.Errorf("%s%w", name, fmt.Errorf(format, args...)))
	}
	f, err := os.Open(name)
	if err != nil {
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err
		}
		fail(": %w", err)
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		fail(": it cannot be read: %w", err)
		return
	}
	node, line, err := parse(text)
	switch {
	case err != nil && line > 0:
		fail(":%d: %w", line, err)
	case err != nil:
		fail(": %w", err)
	default:
		r.group(entry{reader: r, origin: name, line: node.Line, node: node})
	}
}

var yamlError = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(?:unknown anchor '(.*)' referenced)?(.*)`)

var ofParser = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or|<)`)

// colonFirst matches an element of a list that begins with a colon, as IPv6
// addresses can. In brackets YAML allows it only in quotes.
var colonFirst = regexp.MustCompile(`[\[,]\s*:`)

// parse reads one YAML document. line is the line of the error, or 0. Aliases
// are not expanded: they stay nodes, and are refused when their value is read.
func parse(text []byte) (node *yaml.Node, line int, err error) {
	if len(text) > maxSize {
		return nil, 0, errors.New("it has more than 1 MiB: the settings need less")
	}
	for i, c := range string(text) {
		if unicode.IsControl(c) && c != '\t' && c != '\n' && c != '\r' || c == utf8.RuneError {
			return nil, 1 + bytes.Count(text[:i], []byte("\n")), errors.New("there is a control character, or text that is not UTF-8: leave it out")
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	switch err = decoder.Decode(&first); {
	case err == io.EOF, err == nil && isNull(first.Content[0]):
		return nil, 0, errors.New("it is empty: fill it, or leave it out")
	case err == nil:
		if err = decoder.Decode(&second); err == io.EOF {
			return first.Content[0], 0, nil
		} else if err == nil {
			return nil, second.Line, errors.New("a second YAML document begins here: keep one of them")
		}
	}
	at := yamlError.FindStringSubmatch(err.Error())
	if name := at[2]; name != "" {
		before := max(0, bytes.Index(text, []byte("*"+name)))
		return nil, 1 + bytes.Count(text[:before], []byte("\n")), errors.New(noAliases)
	}
	// The library leaves out the line if it is the first one. The errors of its
	// parser count lines from 0, and name the line where the list or the keys with
	// the error begin.
	here, hint := "", ""
	if line, _ = strconv.Atoi(at[1]); ofParser.MatchString(at[3]) {
		line, here = line+1, ", here or below"
	}
	line = min(max(line, 1), 1+bytes.Count(bytes.TrimRight(text, "\n"), []byte("\n")))
	if colonFirst.Match(text) {
		hint = ": in a list, put what begins with a colon in quotes, as in ['::1']"
	}
	return nil, line, fmt.Errorf("this is not YAML%s: %s%s", here, at[3], hint)
}

const noAliases = "anchors (&), aliases (*) and merges (<<) are not read: write the value itself, and put it in quotes if it begins with one of these characters"

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// top stands in place of a field if the mistake is about the whole file.
const top = "the file"

// group finds the settings in a mapping: the whole file, or a part such as tls.
func (r *reader) group(e entry) {
	prefix := ""
	if e.field != "" {
		prefix = e.field + "."
	} else {
		e.field = top
	}
	var known []string
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.name, prefix); ok {
			key, _, _ := strings.Cut(rest, ".")
			known = append(known, key)
		}
	}
	for _, member := range e.members(known) {
		member.field = strings.TrimPrefix(member.field, top+".")
		if _, ok := settingOf(member.field); ok {
			r.found[member.field] = member
		} else {
			r.group(member)
		}
	}
}

// word matches a name that is safe to show: it is not a credential that somebody
// wrote here by mistake.
var word = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,39}$`)

// members returns the values of a mapping by their keys, each of which must be
// one of known.
func (e entry) members(known []string) []entry {
	if !e.plain() {
		return nil
	}
	if e.node.Kind != yaml.MappingNode {
		e.wrong("it is %s: it must be keys with values, as in %s: …", kind(e.node), known[0])
		return nil
	}
	if len(e.node.Content) == 0 {
		e.wrong("it is empty: leave it out, or give it %s", strings.Join(slices.Compact(slices.Clone(known)), ", "))
	}
	var all []entry
	lines := map[string]int{}
	for i := 0; i+1 < len(e.node.Content); i += 2 {
		key, value := e.node.Content[i], e.node.Content[i+1]
		if len(e.mistakes) > maxMistakes {
			break
		}
		at := e
		if at.line > 0 {
			at.line = key.Line
		}
		name := key.Value
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "":
			at.wrong("a key is %s: a key must be a name", kind(key))
		case name == "<<":
			at.wrong(noAliases)
		case !slices.Contains(known, name):
			if word.MatchString(name) {
				at.field = e.field + "." + name
			}
			at.wrong("there is no such key%s", didYouMean(name, known))
		case lines[name] > 0:
			at.field = e.field + "." + name
			at.wrong("it is given twice, first in line %d: remove one", lines[name])
		default:
			lines[name] = key.Line
			at.field, at.node = e.field+"."+name, value
			all = append(all, at)
		}
	}
	return all
}

// plain reports whether the value is written out here. If it is not, plain
// reports a mistake.
func (e entry) plain() bool {
	switch {
	case e.node.Kind == yaml.AliasNode || e.node.Anchor != "":
		e.wrong(noAliases)
	case isNull(e.node):
		e.wrong("it has no value: give it one, or leave it out")
	default:
		return true
	}
	return false
}

// text returns the value if it is one line of text.
func (e entry) text() (string, bool) {
	n := e.node
	switch {
	case !e.plain():
	case n.Kind != yaml.ScalarNode:
		e.wrong("it is %s: it must be text", kind(n))
	case n.ShortTag() != "!!str":
		e.wrong("%sit is %s: it must be text; put it in quotes if it is meant so", quote(n.Value), kind(n))
	case len(n.Value) > maxText:
		e.wrong("it is longer than 4 KiB: shorten it")
	case strings.ContainsFunc(n.Value, unicode.IsControl):
		e.wrong("it holds a line's end or another control character: leave it out")
	case strings.TrimSpace(n.Value) != n.Value:
		e.wrong("%sit begins or ends with a space: leave it out", quote(n.Value))
	default:
		return n.Value, true
	}
	return "", false
}

// list returns the elements of a list.
func (e entry) list(example string) ([]entry, bool) {
	if !e.plain() {
		return nil, false
	}
	if e.node.Kind != yaml.SequenceNode {
		e.wrong("it is %s: it must be a list, as in %s", kind(e.node), example)
		return nil, false
	}
	if len(e.node.Content) > maxElements {
		e.wrong("the list has more than 10,000 elements: shorten it")
		return nil, false
	}
	all := make([]entry, len(e.node.Content))
	for i, n := range e.node.Content {
		all[i] = e
		all[i].field, all[i].node = fmt.Sprintf("%s[%d]", e.field, i), n
		if e.line > 0 {
			all[i].line = n.Line
		}
	}
	return all, true
}

// texts returns the elements of a list of texts. The list must not be empty.
func (e entry) texts(example string, check func(string) string) (all []string) {
	elements, ok := e.list(example)
	if ok && len(elements) == 0 {
		e.wrong("the list is empty: leave it out, or fill it, as in %s", example)
	}
	first := map[string]int{}
	for i, element := range elements {
		text, ok := element.text()
		if !ok {
			continue
		}
		problem := check(text)
		if before, twice := first[text]; twice && problem == "" {
			problem = fmt.Sprintf("%s[%d] says the same: remove one", e.field, before)
		}
		if problem != "" {
			element.refuse(text, problem)
			continue
		}
		first[text] = i
		all = append(all, text)
	}
	return all
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "of another type"
}

// give takes a setting from a variable or a flag.
func (r *reader) give(name, origin, text string) {
	s, _ := settingOf(name)
	e := entry{reader: r, origin: origin, field: name}
	var err error
	if e.node, err = s.node(text); err != nil {
		e.wrong("%v", err)
	}
	r.found[name] = e
}

// variableOf returns the variable of a setting: DSSAUTH_TLS_KEY for tls.key.
func variableOf(name string) string {
	return "DSSAUTH_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// kubernetes matches the variables that Kubernetes sets for services whose names begin
// with dssauth.
var kubernetes = regexp.MustCompile(`^DSSAUTH_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// variables takes the settings from all variables. An empty variable counts as
// not set.
func (r *reader) variables(all map[string]string) (warnings []string) {
	var known []string
	for _, s := range settings {
		name := variableOf(s.name)
		if all[name] != "" {
			r.give(s.name, "variable "+name, all[name])
		}
		known = append(known, name)
	}
	known = append(known, variableOf("config"))
	for name, value := range all {
		if strings.HasPrefix(name, "DSSAUTH_") && value != "" && !slices.Contains(known, name) && !kubernetes.MatchString(name) {
			warnings = append(warnings, fmt.Sprintf("variable %s: there is no such setting%s", name, didYouMean(name, known)))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// flags returns what args ask for, and the settings in them.
func (r *reader) flags(args []string) (c Command, given map[string]string) {
	set := flag.NewFlagSet("gateway", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&c.File, "config", "", "")
	set.BoolVar(&c.Check, "check-config", false, "")
	set.BoolVar(&c.Version, "version", false, "")
	set.BoolVar(&c.Help, "help", false, "")
	set.BoolVar(&c.Help, "h", false, "")
	given = map[string]string{}
	for _, s := range settings {
		take := func(text string) error {
			if _, twice := given[s.name]; twice {
				r.mistakes = append(r.mistakes, fmt.Errorf("flag -%s: it is given twice: remove one", s.name))
			}
			given[s.name] = text
			return nil
		}
		if s.boolean {
			set.BoolFunc(s.name, "", take)
		} else {
			set.Func(s.name, "", take)
		}
	}
	var known []string
	set.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })

	for len(args) > 0 {
		err := set.Parse(args)
		rest := set.Args()
		if err == nil {
			if len(rest) > 0 {
				r.mistakes = append(r.mistakes, errors.New("command line: the text at its end does not belong to a flag: write a flag as in -listen 127.0.0.1:8080, and true or false as in -user_details=true"))
			}
			break
		}
		// This is the flag that Parse refused. Its value is not shown.
		name, _, _ := strings.Cut(strings.TrimLeft(args[len(args)-len(rest)-1], "-"), "=")
		_, own := settingOf(name)
		switch {
		case set.Lookup(name) == nil:
			if !word.MatchString(name) {
				name = "…"
			}
			r.mistakes = append(r.mistakes, fmt.Errorf("flag -%s: there is no such flag%s", name, didYouMean(name, known)))
			for len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				rest = rest[1:] // its value
			}
		case own || name == "config":
			r.mistakes = append(r.mistakes, fmt.Errorf("flag -%s: it has no value", name))
		default:
			r.mistakes = append(r.mistakes, fmt.Errorf("flag -%s: it must be true or false", name))
		}
		args = rest
	}
	return c, given
}

// didYouMean returns a question for the known name that is nearest to name.
func didYouMean(name string, known []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	if name = plain(name); len(name) > 100 {
		return ""
	}
	distance := func(k string) int {
		if len(name) > 2 && strings.HasPrefix(plain(k), name) {
			return 0
		}
		return edits(name, plain(k))
	}
	nearest := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(a), distance(b)) })
	if distance(nearest) > len(plain(nearest))/3 {
		return ""
	}
	return ": did you mean " + nearest + "?"
}

// edits counts the bytes to insert, delete or replace to turn a into b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
