package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed program
var programFiles embed.FS

// The modules that are linked into one program. The two names have the same
// length, so that everything that grows with a name is equal.
const (
	oldModule = "old.pair.test"
	newModule = "new.pair.test"
	program   = "program.pair.test"
)

// cost is the total cost of some requests.
type cost struct {
	Requests int
	CPU      time.Duration
	Allocs   uint64
	Bytes    uint64
}

// round is the program's output: the older side first.
type round struct{ Hit, Changing, Lookup [2]cost }

// pair is a folder with both versions, and the program that imports them.
type pair struct{ folder string }

func newPair(folder string, older, newer tree) (pair, error) {
	p := pair{folder}
	if err := older.write(filepath.Join(folder, "old"), oldModule); err != nil {
		return p, err
	}
	if err := newer.write(filepath.Join(folder, "new"), newModule); err != nil {
		return p, err
	}
	main, err := programFiles.ReadFile("program/main.go")
	if err != nil {
		return p, err
	}
	side, err := programFiles.ReadFile("program/side/side.go")
	if err != nil {
		return p, err
	}
	oldSide, err := rename(side, modulePath, oldModule)
	if err != nil {
		return p, err
	}
	newSide, err := rename(side, modulePath, newModule)
	if err != nil {
		return p, err
	}
	for name, data := range map[string][]byte{
		"main.go":     main,
		"old/side.go": oldSide,
		"new/side.go": newSide,
		"sides.go": fmt.Appendf(nil, "package main\n\nimport (\n\tnewer \"%[1]s/new\"\n\tolder \"%[1]s/old\"\n)\n\n"+
			"var sides = [2]opener{older.Open, newer.Open}\n", program),
		// A dependency of both is linked once, in the higher of two versions.
		"go.mod": fmt.Appendf(nil, "module %s\n\ngo 1.26.0\n\nrequire (\n\t%[2]s v0.0.0\n\t%[3]s v0.0.0\n)\n\n"+
			"replace (\n\t%[2]s => ../old\n\t%[3]s => ../new\n)\n", program, oldModule, newModule),
		"go.sum": append(older.files["go.sum"], newer.files["go.sum"]...),
	} {
		file := filepath.Join(folder, "program", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return p, err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return p, err
		}
	}
	return p, nil
}

// build links the program with its functions in another order for each seed.
// The place of functions changes a hit by some percent. With the same order in
// all rounds, two equal commits would seem to differ.
func (p pair) build(seed int) (binary string, err error) {
	binary = filepath.Join(p.folder, "program", "pair"+strconv.Itoa(seed))
	_, err = run(filepath.Join(p.folder, "program"), "go", "build", "-ldflags=-randlayout="+strconv.Itoa(seed), "-o", binary, ".")
	return binary, err
}

// measure is one round, on a program of its own.
func (p pair) measure(seed int, args []string) (r round, err error) {
	binary, err := p.build(seed)
	if err != nil {
		return r, err
	}
	defer os.Remove(binary)
	out, err := run(p.folder, binary, append([]string{"-first", strconv.Itoa(seed % 2)}, args...)...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("the program printed %q: %w", strings.TrimSpace(string(out)), err)
	}
	return r, nil
}
