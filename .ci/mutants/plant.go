package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// chosenBy is the environment variable that turns one error of a bed on.
// reachedBy is the environment variable that names a file: a run writes the
// numbers of all errors that it reaches into it.
const (
	chosenBy  = "MUTANT"
	reachedBy = "MUTANT_REACHED"
)

// switches is a file that each package of a bed gets. Its code knows which
// error is on.
const switches = `package %s

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
)

var (
	mutant__, _ = strconv.Atoi(os.Getenv(%q))
	reached__   = os.Getenv(%q)
	seen__      [%d]atomic.Bool
)

func isMutant__(number int) bool {
	if reached__ != "" && seen__[number].CompareAndSwap(false, true) {
		if f, err := os.OpenFile(reached__, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			fmt.Fprintln(f, number)
			f.Close()
		}
	}
	return mutant__ == number
}
`

// change is a file with an error in it.
type change struct {
	file string
	code []byte // the whole file
}

// bed is the code with many errors in it at once. Each error is off until the
// environment turns it on: a build for each error would take longer than the
// tests that run on it. A function with an error stands beside the sound one,
// which calls it if the error is on. Each error has a number, from 1.
type bed struct {
	dir     string
	overlay string
	// beside are the errors that are not in the bed, such as those outside of
	// functions, with the reason.
	beside map[int]error
	// broken are the errors that do not compile.
	broken map[int]error

	mu    sync.Mutex
	built map[string]func() (string, error)
}

func (b *bed) has(number int) bool { return b.beside[number] == nil && b.broken[number] == nil }

func (b *bed) remove() { _ = os.RemoveAll(b.dir) }

// sow makes a bed of the changes.
func sow(changes []change) (*bed, error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir, overlay: filepath.Join(dir, "overlay.json"), beside: map[int]error{}, broken: map[int]error{}, built: map[string]func() (string, error){}}
	for {
		plots, err := b.lay(changes)
		if err != nil {
			return nil, err
		}
		out, err := b.compile(plots)
		if err == nil {
			return b, nil
		}
		if !b.weed(plots, out) {
			return nil, fmt.Errorf("the code does not compile with errors that are off: %w\n%s", err, out)
		}
	}
}

// plot is a file of a bed.
type plot struct {
	file    string
	doubles map[int][2]int // number of an error → the first and the last line of its functions at the file's end
	hosts   map[int][]int  // line of a sound function's brace → the errors that it can lead to
}

func (b *bed) lay(changes []change) ([]plot, error) {
	byFile := map[string][]int{}
	for i, c := range changes {
		if b.has(i + 1) {
			byFile[c.file] = append(byFile[c.file], i)
		}
	}
	replace, packages := map[string]string{}, map[string]string{}
	var plots []plot
	for file, of := range byFile {
		sound, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p := plot{file: file, doubles: map[int][2]int{}, hosts: map[int][]int{}}
		code, name, err := b.mix(&p, sound, of, changes)
		if err != nil {
			return nil, err
		}
		plots = append(plots, p)
		packages[filepath.Dir(file)] = name
		if err := b.overlays(replace, file, code); err != nil {
			return nil, err
		}
	}
	for dir, name := range packages {
		code := fmt.Sprintf(switches, name, chosenBy, reachedBy, len(changes)+1)
		if err := b.overlays(replace, filepath.Join(dir, "mutant__.go"), []byte(code)); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	return plots, os.WriteFile(b.overlay, list, 0o600)
}

// overlays makes the compiler read code in place of file.
func (b *bed) overlays(replace map[string]string, file string, code []byte) error {
	original, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	replace[original] = b.copyOf(file)
	return os.WriteFile(b.copyOf(file), code, 0o600)
}

func (b *bed) copyOf(file string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(file, "/", "_"))
}

// insertion is text that goes into a file.
type insertion struct {
	at   int
	text string
	gone int // the number of bytes that it replaces
}

// mix returns sound with the changed functions beside its own.
func (b *bed) mix(p *plot, sound []byte, of []int, changes []change) (code []byte, name string, err error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, p.file, sound, parser.SkipObjectResolution)
	if err != nil {
		return nil, "", err
	}
	leads := map[int]string{} // function → the code that calls its doubles
	var insertions []insertion
	var tail bytes.Buffer
	lines := bytes.Count(sound, []byte("\n"))
	for _, i := range of {
		number := i + 1
		differ, err := functionsThatDiffer(files, parsed, sound, changes[i].code)
		if err != nil {
			b.beside[number] = err
			continue
		}
		start := lines + bytes.Count(tail.Bytes(), []byte("\n")) + 2
		for _, d := range differ {
			f := parsed.Decls[d.index].(*ast.FuncDecl)
			brace := files.Position(f.Body.Lbrace)
			if leads[d.index] == "" {
				insertions = append(insertions, nameAll(files, f)...)
			}
			leads[d.index] += lead(f, number)
			p.hosts[brace.Line] = append(p.hosts[brace.Line], number)
			tail.WriteString("\n" + d.text(number))
		}
		p.doubles[number] = [2]int{start, lines + bytes.Count(tail.Bytes(), []byte("\n")) + 1}
	}
	for index, text := range leads {
		insertions = append(insertions, insertion{at: files.Position(parsed.Decls[index].(*ast.FuncDecl).Body.Lbrace).Offset + 1, text: text})
	}
	slices.SortStableFunc(insertions, func(a, b insertion) int { return cmp.Compare(a.at, b.at) })
	var out bytes.Buffer
	at := 0
	for _, in := range insertions {
		out.Write(sound[at:in.at])
		out.WriteString(in.text)
		at = in.at + in.gone
	}
	out.Write(sound[at:])
	out.Write(tail.Bytes())
	out.WriteString("\n")
	return out.Bytes(), parsed.Name.Name, nil
}

// different is a function that has another body in a change.
type different struct {
	index            int // among the file's declarations
	head, name, rest string
}

func (d different) text(number int) string { return d.head + double(d.name, number) + d.rest }

func double(name string, number int) string { return fmt.Sprintf("mutant%d_%s", number, name) }

func functionsThatDiffer(files *token.FileSet, sound *ast.File, code, changed []byte) ([]different, error) {
	others := token.NewFileSet()
	other, err := parser.ParseFile(others, "changed.go", changed, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if len(sound.Decls) != len(other.Decls) {
		return nil, errors.New("it changes which declarations there are")
	}
	var differ []different
	for i, a := range sound.Decls {
		b := other.Decls[i]
		start, end := offsets(files, a)
		from, to := offsets(others, b)
		if bytes.Equal(code[start:end], changed[from:to]) {
			continue
		}
		f, isFunc := a.(*ast.FuncDecl)
		g, stays := b.(*ast.FuncDecl)
		if !isFunc || !stays || f.Body == nil || g.Body == nil {
			return nil, errors.New("it changes what is not a function's body")
		}
		body, otherBody := files.Position(f.Body.Lbrace).Offset, others.Position(g.Body.Lbrace).Offset
		if !bytes.Equal(code[start:body], changed[from:otherBody]) {
			return nil, errors.New("it changes how a function is called")
		}
		if recovers(f.Body) || recovers(g.Body) {
			return nil, errors.New("it changes a function that is deferred to recover")
		}
		name := others.Position(g.Name.Pos()).Offset
		differ = append(differ, different{i, string(changed[from:name]), g.Name.Name, string(changed[name+len(g.Name.Name) : to])})
	}
	if len(differ) == 0 {
		return nil, errors.New("it changes no function")
	}
	return differ, nil
}

func offsets(files *token.FileSet, d ast.Decl) (start, end int) {
	start = files.Position(d.Pos()).Offset
	if f, ok := d.(*ast.FuncDecl); ok {
		start = files.Position(f.Type.Pos()).Offset // without its comment
	}
	return start, files.Position(d.End()).Offset
}

// recovers reports whether the body itself calls recover, which works only in a
// deferred function.
func recovers(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "recover" {
				found = true
			}
		}
		_, inner := n.(*ast.FuncLit)
		return !inner
	})
	return found
}

// nameAll gives a name to the receiver and to each parameter of f that has none.
func nameAll(files *token.FileSet, f *ast.FuncDecl) []insertion {
	var in []insertion
	number := 0
	for _, list := range []*ast.FieldList{f.Recv, f.Type.Params} {
		if list == nil {
			continue
		}
		for _, field := range list.List {
			if len(field.Names) == 0 {
				in = append(in, insertion{at: files.Position(field.Pos()).Offset, text: given(number) + " "})
				field.Names = []*ast.Ident{{Name: given(number)}}
				number++
			}
			for _, name := range field.Names {
				if name.Name == "_" {
					in = append(in, insertion{at: files.Position(name.Pos()).Offset, text: given(number), gone: 1})
					name.Name = given(number)
					number++
				}
			}
		}
	}
	return in
}

func given(number int) string { return fmt.Sprintf("given%d__", number) }

// lead returns the code that calls the double of f if the environment turns it
// on.
func lead(f *ast.FuncDecl, number int) string {
	var arguments []string
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			argument := name.Name
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				argument += "..."
			}
			arguments = append(arguments, argument)
		}
	}
	call := double(f.Name.Name, number)
	if f.Recv != nil {
		call = f.Recv.List[0].Names[0].Name + "." + call
	}
	if f.Type.TypeParams != nil {
		var types []string
		for _, field := range f.Type.TypeParams.List {
			for _, name := range field.Names {
				types = append(types, name.Name)
			}
		}
		call += "[" + strings.Join(types, ", ") + "]"
	}
	call += "(" + strings.Join(arguments, ", ") + ")"
	if f.Type.Results != nil {
		return fmt.Sprintf(" if isMutant__(%d) { return %s };", number, call)
	}
	return fmt.Sprintf(" if isMutant__(%d) { %s; return };", number, call)
}

// allErrors makes the compiler report all errors, and not only ten.
const allErrors = "-gcflags=github.com/dssauth/dssauth/...=-e"

func (b *bed) compile(plots []plot) ([]byte, error) {
	var dirs []string
	for _, p := range plots {
		if dir := "./" + filepath.Dir(p.file); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, nil
	}
	return exec.Command("go", append([]string{"build", "-o", os.DevNull, "-overlay", b.overlay, allErrors}, dirs...)...).CombinedOutput()
}

var compilerError = regexp.MustCompile(`(?m)^(\S+\.go):(\d+):\d+: (.*)$`)

// weed removes the errors that the compiler complains about from the bed, and
// reports whether there were any.
func (b *bed) weed(plots []plot, output []byte) bool {
	found := false
	for _, m := range compilerError.FindAllSubmatch(output, -1) {
		line, _ := strconv.Atoi(string(m[2]))
		for _, p := range plots {
			if !isAt(string(m[1]), b.copyOf(p.file), p.file) {
				continue
			}
			for number, lines := range p.doubles {
				if lines[0] <= line && line <= lines[1] {
					b.broken[number] = errors.New(string(m[3]))
					found = true
				}
			}
			for _, number := range p.hosts[line] {
				b.beside[number] = fmt.Errorf("it cannot stand beside the sound function: %s", m[3])
				found = true
			}
		}
	}
	return found
}

// isAt reports whether name is the path of one of the files.
func isAt(name string, files ...string) bool {
	at, err := filepath.Abs(name)
	return err == nil && slices.ContainsFunc(files, func(file string) bool {
		other, err := filepath.Abs(file)
		return err == nil && at == other
	})
}

// program returns the program that runs killer. It builds each program once.
func (b *bed) program(killer string) (string, error) {
	_, pkg, named := strings.Cut(killer, " ")
	b.mu.Lock()
	build := b.built[pkg]
	if build == nil {
		name := filepath.Join(b.dir, fmt.Sprintf("program%d", len(b.built)))
		build = sync.OnceValues(func() (string, error) {
			args := []string{"build", "-o", name, "-overlay", b.overlay, allErrors, "./examples/quickstart"}
			if named {
				args = []string{"test", "-c", "-o", name, "-vet=off", "-overlay", b.overlay, allErrors, pkg}
			}
			if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
				return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
			}
			return name, nil
		})
		b.built[pkg] = build
	}
	b.mu.Unlock()
	return build()
}

// command runs killer with the error of that number on; 0 is none.
func (b *bed) command(killer string, number int, more ...string) (*exec.Cmd, error) {
	program, err := b.program(killer)
	if err != nil {
		return nil, err
	}
	test, pkg, named := strings.Cut(killer, " ")
	var cmd *exec.Cmd
	if named {
		cmd = exec.Command(program, append([]string{"-test.timeout=180s", "-test.run=^" + test + "$"}, more...)...)
		cmd.Dir = pkg
	} else {
		cmd = exec.Command(program, "-check")
	}
	return chosen(cmd, number), nil
}

func chosen(cmd *exec.Cmd, number int) *exec.Cmd {
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", chosenBy, number))
	return cmd
}
