// Command mutants breaks the code on purpose, one fault at a time, and demands
// that the test named for the fault notices. A fault that cannot be planted any
// more, does not compile or survives fails the command.
//
//	go run ./.ci/mutants            # all of them
//	go run ./.ci/mutants -run lane  # those whose name contains "lane"
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	only := flag.String("run", "", "plant only the faults whose name contains this")
	workers := flag.Int("workers", 2, "faults tried at once")
	flag.Parse()
	if err := run(*only, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, workers int) error {
	var chosen []fault
	for _, f := range faults {
		if strings.Contains(f.name, only) {
			chosen = append(chosen, f)
		}
	}
	if err := soundWithout(chosen); err != nil {
		return err
	}
	work := make(chan fault)
	var mu sync.Mutex
	var wg sync.WaitGroup
	survivors := 0
	for range workers {
		wg.Go(func() {
			for f := range work {
				start := time.Now()
				err := try(f)
				mu.Lock()
				if err != nil {
					survivors++
					fmt.Printf("NOT KILLED  %s: %v\n", f.name, err)
				} else {
					fmt.Printf("killed      %s, by %s (%.0fs)\n", f.name, f.killer, time.Since(start).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	for _, f := range chosen {
		work <- f
	}
	close(work)
	wg.Wait()
	fmt.Printf("%d faults planted, %d killed\n", len(chosen), len(chosen)-survivors)
	if survivors > 0 {
		return fmt.Errorf("%d faults were not killed", survivors)
	}
	return nil
}

// soundWithout makes sure that every killer passes on the code as it is: a
// test that always fails would kill anything.
func soundWithout(faults []fault) error {
	seen := map[string]bool{}
	for _, f := range faults {
		if seen[f.killer] {
			continue
		}
		seen[f.killer] = true
		out, err := command(f.killer, "").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s fails without any fault: %w\n%s", f.killer, err, out)
		}
		if f.killer != "check" && bytes.Contains(out, []byte("no tests to run")) {
			return fmt.Errorf("%s does not exist", f.killer)
		}
	}
	return nil
}

// try plants f by way of an overlay, so that the tree stays as it is.
func try(f fault) error {
	code, err := os.ReadFile(f.file)
	if err != nil {
		return err
	}
	if n := bytes.Count(code, []byte(f.old)); n != 1 {
		return fmt.Errorf("the code to break stands %d times in %s, not once: adapt the fault to the code", n, f.file)
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, bytes.Replace(code, []byte(f.old), []byte(f.new), 1), 0o600); err != nil {
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
	if out, err := exec.Command("go", "build", "-o", os.DevNull, "-overlay", overlay, "./"+filepath.Dir(f.file)).CombinedOutput(); err != nil {
		return fmt.Errorf("it does not compile:\n%s", out)
	}
	out, err := command(f.killer, overlay).CombinedOutput()
	if err == nil {
		return fmt.Errorf("%s passes all the same", f.killer)
	}
	// A build failure of the test would look like a kill.
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
		return fmt.Errorf("%s does not build:\n%s", f.killer, out)
	}
	return nil
}

func command(killer, overlay string) *exec.Cmd {
	args := []string{"test", "-count=1", "-timeout=180s"}
	test, pkg, named := strings.Cut(killer, " ")
	if !named {
		args = []string{"run"}
	}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if named {
		args = append(args, "-run", "^"+test+"$", pkg)
	} else {
		args = append(args, "./examples/quickstart", "-check")
	}
	return exec.Command("go", args...)
}
