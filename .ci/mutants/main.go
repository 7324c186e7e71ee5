// Command mutants breaks the code on purpose, one fault at a time, and demands
// that the test named for the fault notices. The command fails if a fault can
// no longer be planted, does not compile or survives.
//
//	go run ./.ci/mutants            # all of them
//	go run ./.ci/mutants -run place # those whose name matches "place"
//
// With -random it makes small errors at random places, such as a negated
// condition or a statement that is left out. A test must notice each error, or
// survivors.go must say why the error changes nothing. The same seed chooses
// the same errors.
//
//	go run ./.ci/mutants -random 100 -seed 7
//	go run ./.ci/mutants -random 20 -in dss # only in the package dss
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is one deliberate error in the code.
type fault struct {
	name     string
	file     string
	old, new string // old stands exactly once in file
	killer   string // what must fail: "TestName ./package", or "check" for the quickstart's -check
}

func main() {
	only := flag.String("run", "", "plant only the faults whose name this regular expression matches")
	workers := flag.Int("workers", runtime.NumCPU(), "faults tried at once")
	random := flag.Int("random", 0, "make so many random errors instead")
	seed := flag.Uint64("seed", 1, "which random errors: the same seed chooses the same ones")
	in := flag.String("in", ".*", "make random errors only in the packages whose directory this regular expression matches as a whole")
	flag.Parse()
	var err error
	if *random > 0 {
		err = runRandom(*random, *seed, *in, *workers)
	} else {
		err = run(*only, *workers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, workers int) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	var chosen []fault
	for _, f := range faults {
		if pattern.MatchString(f.name) {
			chosen = append(chosen, f)
		}
	}
	start := time.Now()
	b, err := sowFaults(chosen)
	if err != nil {
		return err
	}
	defer b.remove()
	quick, err := soundInBed(b, chosen, workers)
	if err != nil {
		return err
	}
	if err := soundWithout(slices.DeleteFunc(slices.Clone(chosen), func(f fault) bool { return quick[f.name] > 0 })); err != nil {
		return err
	}
	var mu sync.Mutex
	survivors := 0
	inParallel(workers, chosen, func(f fault) {
		start := time.Now()
		err := errors.New("")
		if number := quick[f.name]; number > 0 {
			err = b.try(f, number)
		}
		if err != nil {
			err = try(f)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			survivors++
			fmt.Printf("NOT KILLED  %s: %v\n", f.name, err)
		} else {
			fmt.Printf("killed      %s, by %s (%.1fs)\n", f.name, f.killer, time.Since(start).Seconds())
		}
	})
	fmt.Printf("%d faults planted, %d of them together, %d killed, in %s\n", len(chosen), len(quick), len(chosen)-survivors, time.Since(start).Round(time.Second))
	if survivors > 0 {
		return fmt.Errorf("%d faults were not killed", survivors)
	}
	return nil
}

func inParallel[T any](workers int, all []T, do func(T)) {
	work := make(chan T)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for one := range work {
				do(one)
			}
		})
	}
	for _, one := range all {
		work <- one
	}
	close(work)
	wg.Wait()
}

// sowFaults makes a bed of the faults that can be planted at all.
func sowFaults(faults []fault) (*bed, error) {
	changes := make([]change, len(faults))
	for i, f := range faults {
		code, err := f.planted()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		changes[i] = change{f.file, code}
	}
	return sow(changes)
}

// soundInBed returns the numbers of the faults in b whose killers pass while no
// fault is on. Some killers fail in a bed even then, such as one that counts
// allocations.
func soundInBed(b *bed, faults []fault, workers int) (map[string]int, error) {
	tests, passes := killers(faults), map[string]bool{}
	var mu sync.Mutex
	var failure error
	inParallel(workers, slices.Sorted(maps.Keys(tests)), func(pkg string) {
		cmd, err := b.command(killerOf(tests[pkg], pkg), 0, "-test.v")
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			failure = errors.Join(failure, err)
			return
		}
		out, err := cmd.CombinedOutput()
		mu.Lock()
		defer mu.Unlock()
		if pkg == "" {
			passes[check] = err == nil
		}
		for _, name := range tests[pkg] {
			if pkg != "" && bytes.Contains(out, []byte("\n--- PASS: "+name+" ")) {
				passes[name+" "+pkg] = true
			}
		}
	})
	if failure != nil {
		return nil, failure
	}
	numbers := map[string]int{}
	for i, f := range faults {
		if b.has(i+1) && passes[f.killer] {
			numbers[f.name] = i + 1
		}
	}
	return numbers, nil
}

// killers returns the killers by package, so that each package needs one run.
func killers(faults []fault) map[string][]string {
	tests := map[string][]string{}
	for _, f := range faults {
		test, pkg, _ := strings.Cut(f.killer, " ")
		if !slices.Contains(tests[pkg], test) {
			tests[pkg] = append(tests[pkg], test)
		}
	}
	return tests
}

func killerOf(names []string, pkg string) string {
	if pkg == "" {
		return check
	}
	return "(" + strings.Join(names, "|") + ") " + pkg
}

// soundWithout makes sure that every killer passes on the code without faults:
// a test that always fails would kill anything.
func soundWithout(faults []fault) error {
	for pkg, names := range killers(faults) {
		if pkg == "" {
			if out, err := command(check, "").CombinedOutput(); err != nil {
				return fmt.Errorf("the quickstart's -check fails without any fault: %w\n%s", err, out)
			}
			continue
		}
		out, err := command(killerOf(names, pkg), "", "-v").CombinedOutput()
		if err != nil {
			return fmt.Errorf("a killer in %s fails without any fault: %w\n%s", pkg, err, out)
		}
		for _, name := range names {
			if !bytes.Contains(out, []byte("\n--- PASS: "+name+" ")) {
				return fmt.Errorf("%s in %s does not exist, or is skipped", name, pkg)
			}
		}
	}
	return nil
}

// planted returns f's file with f in it.
func (f fault) planted() ([]byte, error) {
	code, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(code, []byte(f.old)); n != 1 {
		return nil, fmt.Errorf("the code to break stands %d times in %s, not once: adapt the fault to the code", n, f.file)
	}
	return bytes.Replace(code, []byte(f.old), []byte(f.new), 1), nil
}

// try runs f's killer with f on.
func (b *bed) try(f fault, number int) error {
	cmd, err := b.command(f.killer, number)
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	return verdict(f.killer, out, err)
}

// try plants f alone, with an overlay, so that the files stay unchanged.
func try(f fault) error {
	code, err := f.planted()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, code, 0o600); err != nil {
		return err
	}
	original, err := filepath.Abs(f.file)
	if err != nil {
		return err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{original: broken}})
	if err != nil {
		return err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return err
	}
	if f.killer == check { // its output does not tell a fault that was noticed from one that does not compile
		if out, err := exec.Command("go", "build", "-o", os.DevNull, "-overlay", overlay, "./"+filepath.Dir(f.file)).CombinedOutput(); err != nil {
			return fmt.Errorf("it does not compile:\n%s", out)
		}
	}
	out, err := command(f.killer, overlay).CombinedOutput()
	return verdict(f.killer, out, err)
}

// verdict returns the reason why a killer, which printed out and ended with
// err, did not kill the fault. It returns nil if the killer killed it.
func verdict(killer string, out []byte, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("%s passes all the same", killer)
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return fmt.Errorf("it does not compile, or %s does not:\n%s", killer, out)
	case killer != check && !bytes.Contains(out, []byte("--- FAIL")) && !bytes.Contains(out, []byte("panic: ")) && !bytes.Contains(out, []byte("fatal error: ")):
		return fmt.Errorf("%s does not fail, but something else does:\n%s", killer, out)
	}
	return nil
}

// command returns a command that runs killer on the code that overlay, a file,
// leads to. It runs without vet, since nothing but the test may fail. It runs
// without the compiler's optimisations, which take longer than the tests
// themselves.
func command(killer, overlay string, more ...string) *exec.Cmd {
	args := []string{"run"}
	test, pkg, named := strings.Cut(killer, " ")
	if named {
		args = []string{"test", "-count=1", "-timeout=180s", "-vet=off", "-gcflags=-N -l"}
	}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(args, more...)
	if named {
		args = append(args, "-run", "^"+test+"$", pkg)
	} else {
		args = append(args, "./examples/quickstart", "-check")
	}
	return exec.Command("go", args...)
}
