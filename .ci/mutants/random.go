package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// site is a small error that can be made at one place of the code.
type site struct {
	file     string
	in       string // the function, as in "(*cache).put"
	line     int
	from, to int // the part of the file that text replaces
	text     string
	old, new string // the changed lines before and after, each as one line
}

// sitesIn returns the sites of the package in dir, without its tests.
func sitesIn(dir string) ([]site, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []site
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		code, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		some, err := sitesOf(name, code)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func sitesOf(name string, code []byte) ([]site, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, name, code, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var all []site
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			v := visitor{files: files, code: code, file: name, in: nameOf(f)}
			v.results = []*ast.FieldList{f.Type.Results}
			ast.Walk(&v, f.Body)
			all = append(all, v.sites...)
		}
	}
	return all, nil
}

func nameOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	of := f.Recv.List[0].Type
	star, ok := of.(*ast.StarExpr)
	if ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	if ok {
		return fmt.Sprintf("(*%s).%s", of, f.Name.Name)
	}
	return fmt.Sprintf("%s.%s", of, f.Name.Name)
}

// visitor collects the sites of a function.
type visitor struct {
	files   *token.FileSet
	code    []byte
	file    string
	in      string
	results []*ast.FieldList // the results of the functions around the current node
	stack   []ast.Node
	sites   []site
}

func (v *visitor) offset(p token.Pos) int { return v.files.Position(p).Offset }

func (v *visitor) source(n ast.Node) string {
	return string(v.code[v.offset(n.Pos()):v.offset(n.End())])
}

// becomes notes that what lies between two positions can become text.
func (v *visitor) becomes(from, to token.Pos, text string) {
	s := site{file: v.file, in: v.in, line: v.files.Position(from).Line, from: v.offset(from), to: v.offset(to), text: text}
	start := bytes.LastIndexByte(v.code[:s.from], '\n') + 1
	end := s.to
	if n := bytes.IndexByte(v.code[s.to:], '\n'); n >= 0 {
		end += n
	} else {
		end = len(v.code)
	}
	s.old = oneLine(string(v.code[start:end]))
	s.new = oneLine(string(v.code[start:s.from]) + text + string(v.code[s.to:end]))
	v.sites = append(v.sites, s)
}

// oneLine returns text without comments at the ends of its lines, and with
// single spaces.
func oneLine(text string) string {
	return strings.Join(strings.Fields(lineComment.ReplaceAllString(text, "")), " ")
}

var lineComment = regexp.MustCompile(`(?m)\s// .*$`)

var swapped = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	token.ADD: "-", token.SUB: "+", token.LAND: "||", token.LOR: "&&",
}

func (v *visitor) Visit(n ast.Node) ast.Visitor {
	if n == nil {
		switch v.stack[len(v.stack)-1].(type) {
		case *ast.FuncLit:
			v.results = v.results[:len(v.results)-1]
		}
		v.stack = v.stack[:len(v.stack)-1]
		return nil
	}
	var parent ast.Node
	if len(v.stack) > 0 {
		parent = v.stack[len(v.stack)-1]
	}
	v.stack = append(v.stack, n)
	switch n := n.(type) {
	case *ast.FuncLit:
		v.results = append(v.results, n.Type.Results)
	case *ast.IfStmt:
		v.becomes(n.Cond.Pos(), n.Cond.End(), "!("+v.source(n.Cond)+")")
	case *ast.BinaryExpr:
		if to := swapped[n.Op]; to != "" {
			v.becomes(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), to)
		}
	case *ast.BasicLit:
		if n.Kind == token.INT && len(n.Value) == 1 { // larger ones are times and sizes: one more makes no difference
			v.becomes(n.Pos(), n.End(), "("+n.Value+"+1)")
		}
	case *ast.Ident:
		if other := map[string]string{"true": "false", "false": "true"}[n.Name]; other != "" {
			v.becomes(n.Pos(), n.End(), other)
		}
	case *ast.CaseClause:
		if n.List != nil {
			v.becomes(n.Pos(), n.End(), "")
		}
	case *ast.CommClause:
		if n.Comm != nil {
			v.becomes(n.Pos(), n.End(), "")
		}
	case *ast.ReturnStmt:
		v.returns(n)
	case *ast.ExprStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.IncDecStmt:
		v.drops(n, parent)
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			v.drops(n, parent)
		}
	}
	return v
}

// drops notes that the statement n can be removed, if it stands in a block.
func (v *visitor) drops(n, parent ast.Node) {
	switch parent.(type) {
	case *ast.BlockStmt, *ast.CaseClause:
		v.becomes(n.Pos(), n.End(), "")
	case *ast.CommClause:
		if parent.(*ast.CommClause).Comm != n {
			v.becomes(n.Pos(), n.End(), "")
		}
	}
}

// returns notes that an error that is returned can become nil.
func (v *visitor) returns(n *ast.ReturnStmt) {
	results := v.results[len(v.results)-1]
	if results == nil || len(n.Results) != results.NumFields() {
		return
	}
	of, ok := results.List[len(results.List)-1].Type.(*ast.Ident)
	last := n.Results[len(n.Results)-1]
	if ok && of.Name == "error" && v.source(last) != "nil" {
		v.becomes(last.Pos(), last.End(), "nil")
	}
}

// lot decides the order in which sites are chosen. An edit elsewhere in the
// file does not change it.
func (s site) lot(seed uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%s\n%s", seed, s.file, s.in, s.old, s.new))
	return string(sum[:])
}

func (s site) planted() ([]byte, error) {
	code, err := os.ReadFile(s.file)
	if err != nil {
		return nil, err
	}
	return slices.Concat(code[:s.from], []byte(s.text), code[s.to:]), nil
}

func (s site) String() string {
	return fmt.Sprintf("%s:%d, in %s\n\t- %s\n\t+ %s", s.file, s.line, s.in, s.old, s.new)
}

// randomPackages are the packages that get random errors. Each has a list of
// the other packages whose tests notice its errors.
var randomPackages = map[string][]string{
	".":                 {"./promises"},
	"dss":               {"./promises"},
	"internal/keyhash":  {".", "./promises"},
	"internal/latin1":   {".", "./promises"},
	"internal/loopback": {".", "./dss", "./promises"},
	"internal/ownkey":   {"./dss", "./promises"},
	"internal/seal":     {".", "./promises"},
	"internal/shown":    {"./promises"},
	"storetest":         nil,
	"rediscache":        nil,
	"dssprom":           nil,

	"gateway/internal/assertion": {"./gateway/internal/server", "./gateway"},
	"gateway/internal/config":    {"./gateway/internal/server", "./gateway"},
	"gateway/internal/rules":     {"./gateway/internal/server", "./gateway"},
	"gateway/internal/server":    {"./gateway"},
}

// chooseSites returns the sites of the packages, in the order of the seed's lots.
func chooseSites(packages []string, seed uint64) ([]site, error) {
	var all []site
	for _, dir := range packages {
		some, err := sitesIn(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b site) int { return cmp.Compare(a.lot(seed), b.lot(seed)) })
	return all, nil
}

// judgedBy returns the packages whose tests notice an error in dir.
func judgedBy(dir string) []string {
	var all []string
	own, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
	switch {
	case len(own) == 0:
	case dir == ".":
		all = append(all, dir)
	default:
		all = append(all, "./"+dir)
	}
	return append(all, randomPackages[dir]...)
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// notices returns which test failed, or "".
func notices(out []byte, pkg string) string {
	if m := failedTest.FindSubmatch(out); m != nil {
		return string(m[1]) + " " + pkg
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return strconv.Quote(strings.TrimSpace(line)) + " in " + pkg
		}
	}
	return ""
}

// judge is a test that passes on the sound code.
type judge struct {
	test, pkg string
	took      time.Duration
	reaches   map[int]bool // the errors whose code it runs
}

var passedTest = regexp.MustCompile(`(?m)^--- PASS: (\S+) `)

// judgesOf runs each test of pkg alone on the sound code, and returns those
// that pass. A test that fails there, or is skipped, notices nothing later.
func judgesOf(b *bed, pkg string, workers int) ([]*judge, error) {
	program, err := b.program("all " + pkg)
	if err != nil {
		return nil, err
	}
	list := exec.Command(program, "-test.list=^Test")
	list.Dir = pkg
	names, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("the tests of %s: %w", pkg, err)
	}
	var mu sync.Mutex
	var all []*judge
	var failure error
	inParallel(workers, strings.Fields(string(names)), func(name string) {
		j := &judge{test: name, pkg: pkg, reaches: map[int]bool{}}
		passes, err := j.comesBy(b)
		mu.Lock()
		defer mu.Unlock()
		failure = errors.Join(failure, err)
		if passes {
			all = append(all, j)
		}
	})
	return all, failure
}

// comesBy finds out what j reaches, and reports whether it passes.
func (j *judge) comesBy(b *bed) (bool, error) {
	reached, err := os.CreateTemp(b.dir, "reached")
	if err != nil {
		return false, err
	}
	defer reached.Close()
	cmd, err := b.command(j.test+" "+j.pkg, 0, "-test.v")
	if err != nil {
		return false, err
	}
	cmd.Env = append(cmd.Env, reachedBy+"="+reached.Name())
	start := time.Now()
	out, err := cmd.CombinedOutput()
	j.took = time.Since(start)
	if err != nil {
		fmt.Printf("fails on the sound code, and is left out: %s %s\n", j.test, j.pkg)
		return false, nil
	}
	lines, err := os.ReadFile(reached.Name())
	for _, line := range strings.Fields(string(lines)) {
		number, _ := strconv.Atoi(line)
		j.reaches[number] = true
	}
	return passedTest.Match(out), err
}

// Tests are tried in groups of turnOfJudges. A test that reaches few errors is
// about the code around them, and is tried early. Tests that take long are
// tried last.
const (
	turnOfJudges = 12
	long         = time.Second
)

// noticedBy returns the first judge that notices the error with this number, or
// "".
func (b *bed) noticedBy(number int, judges []*judge) (string, error) {
	var able []*judge
	for _, j := range judges {
		if j.reaches[number] {
			able = append(able, j)
		}
	}
	slices.SortFunc(able, func(x, y *judge) int {
		if slow := x.took > long; slow != (y.took > long) {
			return map[bool]int{true: 1, false: -1}[slow]
		}
		return cmp.Or(cmp.Compare(len(x.reaches), len(y.reaches)), cmp.Compare(x.test, y.test))
	})
	for turn := range slices.Chunk(able, turnOfJudges) {
		tests, limit := map[string][]string{}, time.Minute
		for _, j := range turn {
			tests[j.pkg] = append(tests[j.pkg], j.test)
			limit += 10 * j.took
		}
		for _, pkg := range slices.Sorted(maps.Keys(tests)) {
			cmd, err := b.command(killerOf(tests[pkg], pkg), number, "-test.failfast", fmt.Sprintf("-test.timeout=%s", limit))
			if err != nil {
				return "", err
			}
			out, err := cmd.CombinedOutput()
			if err == nil {
				continue
			}
			if by := notices(out, pkg); by != "" {
				return by, nil
			}
			return "", fmt.Errorf("%s ends with %w, and without a test that fails:\n%s", pkg, err, out)
		}
	}
	return "", nil
}

// runRandom makes count random errors in the packages that pattern matches.
func runRandom(count int, seed uint64, pattern string, workers int) error {
	in, err := regexp.Compile("^(" + pattern + ")$")
	if err != nil {
		return err
	}
	var packages []string
	for dir := range randomPackages {
		if in.MatchString(dir) {
			packages = append(packages, dir)
		}
	}
	slices.Sort(packages)
	start := time.Now()
	sites, err := chooseSites(packages, seed)
	if err != nil {
		return err
	}
	sites = sites[:min(len(sites), 2*count)] // many do not compile
	changes := make([]change, len(sites))
	for i, s := range sites {
		code, err := s.planted()
		if err != nil {
			return err
		}
		changes[i] = change{s.file, code}
	}
	b, err := sow(changes)
	if err != nil {
		return err
	}
	defer b.remove()

	var chosen []int
	var packagesOfTests []string
	listed := 0
	for i, s := range sites {
		if !b.has(i+1) || len(chosen)+listed == count {
			continue
		}
		if why := s.isHarmless(); why != "" {
			listed++
			fmt.Printf("changes nothing: %s\n\t%s\n", s, why)
			continue
		}
		chosen = append(chosen, i)
		packagesOfTests = append(packagesOfTests, judgedBy(filepath.Dir(s.file))...)
	}
	slices.Sort(packagesOfTests)
	var judges []*judge
	for _, pkg := range slices.Compact(packagesOfTests) {
		some, err := judgesOf(b, pkg, workers)
		if err != nil {
			return err
		}
		judges = append(judges, some...)
	}
	fmt.Printf("%d tests judge, after %s\n", len(judges), time.Since(start).Round(time.Second))
	var mu sync.Mutex
	noticed := 0
	inParallel(workers, chosen, func(i int) {
		begun := time.Now()
		s := sites[i]
		by, err := b.noticedBy(i+1, judges)
		mu.Lock()
		defer mu.Unlock()
		took := time.Since(begun).Seconds()
		switch {
		case err != nil:
			fmt.Printf("NOT NOTICED  %s\n%v\n", s, err)
		case by == "":
			fmt.Printf("NOT NOTICED  %s (%.0fs)\n", s, took)
		default:
			noticed++
			fmt.Printf("noticed      %s:%d, by %s (%.0fs)\n", s.file, s.line, by, took)
		}
	})
	fmt.Printf("figure: %d of %d random errors were noticed, with seed %d; %d more change nothing, as survivors.go says; in %s\n",
		noticed, len(chosen), seed, listed, time.Since(start).Round(time.Second))
	if noticed < len(chosen) {
		return fmt.Errorf("%d random errors were not noticed: write a test for each, or list it in survivors.go with the reason why it changes nothing", len(chosen)-noticed)
	}
	return nil
}

// isHarmless returns why s changes nothing, or "".
func (s site) isHarmless() string {
	for _, h := range survivors {
		if h.isFor(s) {
			return h.why
		}
	}
	return ""
}
