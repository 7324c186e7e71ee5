package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// export writes the files of a commit to a folder.
func export(commit, folder string) error {
	archive, err := run(".", nil, "git", "archive", "--format=tar", commit+":")
	if err != nil {
		return err
	}
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		file := filepath.Join(folder, filepath.FromSlash(header.Name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
}

// module is a module of the repository that is meant for users.
type module struct {
	path     string
	folder   string
	required []string // directly
	replaced []string
}

// findModules returns the modules for users under root, the one of root first.
func findModules(root string) (modules []module, err error) {
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if relative, _ := filepath.Rel(root, file); d.IsDir() && slices.Contains(notForUsers, relative) {
			return fs.SkipDir
		}
		if d.IsDir() || d.Name() != "go.mod" {
			return nil
		}
		m, err := readModule(filepath.Dir(file))
		modules = append(modules, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.folder, b.folder) })
	if len(modules) == 0 || modules[0].folder != root {
		return nil, fmt.Errorf("no go.mod in %s", root)
	}
	return modules, nil
}

func readModule(folder string) (module, error) {
	out, err := run(folder, []string{"GOWORK=off"}, "go", "mod", "edit", "-json")
	if err != nil {
		return module{}, err
	}
	var file struct {
		Module  struct{ Path string }
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal([]byte(out), &file); err != nil {
		return module{}, err
	}
	m := module{path: file.Module.Path, folder: folder}
	for _, r := range file.Require {
		if !r.Indirect {
			m.required = append(m.required, r.Path)
		}
	}
	for _, r := range file.Replace {
		m.replaced = append(m.replaced, r.Old.Path)
	}
	return m, nil
}

// release puts the module into the proxy as a tag would: it requires modules of
// this repository at the version, and replaces none.
func (m module) release(all []module, proxy string) error {
	edit := []string{"mod", "edit"}
	for _, other := range all {
		if slices.Contains(m.required, other.path) {
			edit = append(edit, "-require="+other.path+"@"+version)
		}
	}
	for _, replaced := range m.replaced {
		if !slices.ContainsFunc(all, func(other module) bool { return other.path == replaced }) {
			return fmt.Errorf("replaces %s, which has no effect where somebody else requires the module", replaced)
		}
		edit = append(edit, "-dropreplace="+replaced)
	}
	if len(edit) > 2 {
		if _, err := run(m.folder, []string{"GOWORK=off"}, "go", edit...); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(filepath.Join(m.folder, "go.mod"))
	if err != nil {
		return err
	}
	content, err := m.zip()
	if err != nil {
		return err
	}
	to := filepath.Join(proxy, filepath.FromSlash(m.path), "@v")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": []byte(`{"Version": "` + version + `"}`),
		version + ".mod":  data,
		version + ".zip":  content,
	} {
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// zip holds the module's files, without the modules inside it.
func (m module) zip() ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	err := filepath.WalkDir(m.folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && file != m.folder {
				return fs.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(m.folder, file)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		entry, err := w.Create(m.path + "@" + version + "/" + filepath.ToSlash(name))
		if err != nil {
			return err
		}
		_, err = entry.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
