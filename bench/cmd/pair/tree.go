package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

const modulePath = "github.com/dssauth/dssauth"

// tree is the module's files at a commit, or in a folder.
type tree struct {
	name  string
	files map[string][]byte // by path, with slashes
}

// readTree reads a commit of the repository in folder top, or the working tree
// that of is a folder of.
func readTree(top, of string) (tree, error) {
	if info, err := os.Stat(of); err == nil && info.IsDir() {
		return readFolder(of)
	}
	commit, err := git(top, "rev-parse", "--verify", "--short", "--end-of-options", of+"^{commit}")
	if err != nil {
		return tree{}, fmt.Errorf("%q is neither a commit nor a folder: %w", of, err)
	}
	t := tree{name: strings.TrimSpace(string(commit)), files: map[string][]byte{}}
	archive, err := git(top, "archive", "--format=tar", t.name)
	if err != nil {
		return tree{}, err
	}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return t.module()
		} else if err != nil {
			return tree{}, err
		}
		if header.Typeflag == tar.TypeReg {
			if t.files[header.Name], err = io.ReadAll(r); err != nil {
				return tree{}, err
			}
		}
	}
}

func readFolder(folder string) (tree, error) {
	out, err := git(folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return tree{}, err
	}
	top := strings.TrimSpace(string(out))
	commit, err := git(top, "rev-parse", "--short", "HEAD")
	if err != nil {
		return tree{}, err
	}
	changes, err := git(top, "status", "--porcelain")
	if err != nil {
		return tree{}, err
	}
	t := tree{name: strings.TrimSpace(string(commit)), files: map[string][]byte{}}
	if len(changes) > 0 {
		t.name += " with changes"
	}
	names, err := git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return tree{}, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		} else if err != nil {
			return tree{}, err
		}
		t.files[name] = data
	}
	return t.module()
}

// module leaves out files that importers do not compile: tests, and other
// modules.
func (t tree) module() (tree, error) {
	if t.files["go.mod"] == nil {
		return tree{}, fmt.Errorf("%s has no go.mod", t.name)
	}
	kept := map[string][]byte{}
	for name, data := range t.files {
		if !strings.HasSuffix(name, "_test.go") && !t.nested(path.Dir(name)) {
			kept[name] = data
		}
	}
	t.files = kept
	return t, nil
}

// nested reports whether a folder belongs to a module inside this one.
func (t tree) nested(folder string) bool {
	for ; folder != "."; folder = path.Dir(folder) {
		if t.files[folder+"/go.mod"] != nil {
			return true
		}
	}
	return false
}

// write writes the tree as a module of another path.
func (t tree) write(folder, as string) error {
	for name, data := range t.files {
		var err error
		if strings.HasSuffix(name, ".go") {
			if data, err = rename(data, modulePath, as); err != nil {
				return fmt.Errorf("%s at %s: %w", name, t.name, err)
			}
		}
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	_, err := run(folder, "go", "mod", "edit", "-module="+as)
	return err
}

// rename changes the imports of a Go file of the module from, or of a package in
// it, to the module to.
func rename(code []byte, from, to string) ([]byte, error) {
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, "", code, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	done := 0
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		rest, found := strings.CutPrefix(imported, from)
		if !found || rest != "" && rest[0] != '/' {
			continue
		}
		start := positions.Position(spec.Path.Pos()).Offset
		out.Write(code[done:start])
		out.WriteString(strconv.Quote(to + rest))
		done = start + len(spec.Path.Value)
	}
	out.Write(code[done:])
	return out.Bytes(), nil
}

func git(folder string, args ...string) ([]byte, error) { return run(folder, "git", args...) }

// run runs a command in a folder, outside all workspaces.
func run(folder, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Dir = folder
	c.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, exit.Stderr)
	}
	return out, err
}
