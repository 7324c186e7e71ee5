// Command fetch tries the library as a stranger gets it: from a module proxy,
// outside this repository. `replace` lines and the workspace make everything work
// in a clone, and nothing for anybody else.
//
// It releases the last commit, with all its modules, at a made-up version to a
// module proxy of files. Then it acts as a stranger in new modules: it runs
// README's install command, builds and tests README's program, and gets, builds and
// installs each module.
//
//	go run ./.ci/fetch
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	// version is higher than any that will be tagged.
	version = "v0.999.0"
	// maxRequired bounds the modules that every user of the root gets with it.
	maxRequired = 8
)

// notForUsers are the folders of modules that nobody imports.
var notForUsers = []string{"bench"}

func main() {
	log.SetFlags(0)
	log.SetPrefix("fetch: ")
	folder, err := os.MkdirTemp("", "fetch")
	if err != nil {
		log.Fatal(err)
	}
	err = fetch(folder)
	os.RemoveAll(folder)
	if err != nil {
		log.Fatal(err)
	}
}

func fetch(folder string) error {
	source := filepath.Join(folder, "source")
	if err := export("HEAD", source); err != nil {
		return err
	}
	modules, err := findModules(source)
	if err != nil {
		return err
	}
	if len(modules[0].required) > maxRequired {
		return fmt.Errorf("the root requires %d modules, more than %d: %s", len(modules[0].required), maxRequired, strings.Join(modules[0].required, ", "))
	}
	proxy := filepath.Join(folder, "proxy")
	for _, m := range modules {
		if err := m.release(modules, proxy); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		fmt.Printf("released %s %s\n", m.path, version)
	}
	s, err := newStranger(folder, proxy, modules)
	if err != nil {
		return err
	}
	if err := s.tryReadme(filepath.Join(source, "README.md"), modules[0].path); err != nil {
		return err
	}
	for i, m := range modules {
		if err := s.try(m, fmt.Sprintf("stranger%d", i)); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
	}
	return nil
}

// stranger is somebody with Go and an internet connection, and no clone.
type stranger struct {
	folder string
	env    []string
}

func newStranger(folder, proxy string, modules []module) (stranger, error) {
	out, err := run(folder, nil, "go", "env", "GOPROXY", "GOMODCACHE", "GOSUMDB")
	if err != nil {
		return stranger{}, err
	}
	settings := strings.Split(out, "\n")
	// Without "direct", which would look for our modules' folders among modules.
	others, cache := strings.TrimSuffix(settings[0], ",direct"), settings[1]
	return stranger{folder, []string{
		"GOWORK=off",
		"GOBIN=" + filepath.Join(folder, "bin"),
		// A cache of its own: made-up versions must not stay in the usual one,
		// which only saves downloads. With -trimpath, earlier builds are used again
		// all the same.
		"GOMODCACHE=" + filepath.Join(folder, "cache"),
		"GOFLAGS=-modcacherw -trimpath -buildvcs=false",
		"GOPROXY=file://" + filepath.ToSlash(proxy) + ",file://" + filepath.ToSlash(cache) + "/cache/download," + others,
		"GONOSUMDB=" + modules[0].path,
		"GONOPROXY=",
		"GOPRIVATE=",
		"GOSUMDB=" + settings[2],
	}}, nil
}

func (s stranger) module(name string) (folder string, err error) {
	folder = filepath.Join(s.folder, name)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	return folder, s.run(folder, "go", "mod", "init", "stranger.test/"+name)
}

func (s stranger) run(folder, name string, args ...string) error {
	_, err := run(folder, s.env, name, args...)
	return err
}

//go:embed readme_program_test.go.txt
var programTest []byte

// tryReadme does what README says, to the letter.
func (s stranger) tryReadme(readme, root string) error {
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	install, program, err := parseReadme(string(text), root)
	if err != nil {
		return err
	}
	folder, err := s.module("readme")
	if err != nil {
		return err
	}
	if err := s.run(folder, install[0], install[1:]...); err != nil {
		return fmt.Errorf("README's install command: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o644); err != nil {
		return err
	}
	if err := s.run(folder, "go", "build", "-o", filepath.Join(folder, "program"), "."); err != nil {
		return fmt.Errorf("README's program, after README's install command: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "main_test.go"), programTest, 0o644); err != nil {
		return err
	}
	if err := s.run(folder, "go", "mod", "tidy"); err != nil {
		return err
	}
	if err := s.run(folder, "go", "test", "-count=1", "-timeout=60s", "."); err != nil {
		return fmt.Errorf("the test of README's program: %w", err)
	}
	graph, err := run(folder, s.env, "go", "list", "-m", "all")
	if err != nil {
		return err
	}
	fmt.Printf("README's program: fetched, built and tested; %d modules in its graph, with its own\n", len(strings.Fields(graph))/2+1)
	return nil
}

// parseReadme returns the words of the install command, and the program. The test
// sets the address that the program listens on.
func parseReadme(text, root string) (install []string, program string, err error) {
	// Until the first release the command is in a sentence.
	if !regexp.MustCompile("(?m)(^|`)go get " + regexp.QuoteMeta(root) + "($|`)").MatchString(text) {
		return nil, "", fmt.Errorf("README has no command \"go get %s\"", root)
	}
	install = []string{"go", "get", root}
	_, rest, found := strings.Cut(text, "```go\npackage main\n")
	code, _, ends := strings.Cut(rest, "```")
	const address = `"127.0.0.1:8080"`
	if !found || !ends || strings.Count(code, address) != 1 {
		return nil, "", errors.New("README has no program that listens on " + address)
	}
	return install, "package main\n" + strings.Replace(code, address, "address", 1) + "\nvar address = " + address + "\n", nil
}

// try gets a module, builds all its packages, and installs its programs.
func (s stranger) try(m module, name string) error {
	folder, err := s.module(name)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"get", m.path + "@" + version},
		{"get", m.path + "/...@" + version},
		{"build", m.path + "/..."},
		{"install", m.path + "/...@" + version}, // refused where a replace line is left
	} {
		if err := s.run(folder, "go", args...); err != nil {
			return err
		}
	}
	fmt.Printf("%s: fetched, built and installed\n", m.path)
	return nil
}

// run runs a command in a folder and returns its output, without the end of the
// last line.
func run(folder string, env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir = folder
	c.Env = append(os.Environ(), env...)
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}
