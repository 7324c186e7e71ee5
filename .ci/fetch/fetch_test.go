package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseReadme(t *testing.T) {
	const program = "```go\npackage main\n\nfunc main() { listen(\"127.0.0.1:8080\") }\n```\n"
	for name, row := range map[string]struct{ text, want string }{
		"no install command":        {program, "no command"},
		"another module's":          {"go get example.com/root/sub\n" + program, "no command"},
		"no program":                {"go get example.com/root\n", "no program"},
		"a program that never ends": {"go get example.com/root\n" + program[:40], "no program"},
		"a program elsewhere":       {"go get example.com/root\n```go\npackage main\n\nfunc main() {}\n```\n", "no program"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parseReadme(row.text, "example.com/root")
			assert.ErrorContains(t, err, row.want)
		})
	}

	for _, command := range []string{"```sh\ngo get example.com/root\n```\n", "From then on, `go get example.com/root`.\n"} {
		install, code, err := parseReadme("# x\n"+command+program, "example.com/root")
		require.NoError(t, err)
		assert.Equal(t, []string{"go", "get", "example.com/root"}, install)
		assert.Equal(t, "package main\n\nfunc main() { listen(address) }\n\nvar address = \"127.0.0.1:8080\"\n", code)
	}
}

func TestReleaseHasTheFilesOfATag(t *testing.T) {
	root := writeFiles(t, map[string]string{
		"go.mod":       "module example.com/root\n\ngo 1.26.0\n\nrequire example.com/other v1.2.3\n",
		"a.go":         "package root\n",
		"store/go.mod": "module example.com/root/store\n\ngo 1.26.0\n\nrequire example.com/root v0.0.0\n\nreplace example.com/root => ../\n",
		"store/b.go":   "package store\n",
		"bench/go.mod": "module example.com/root/bench\n\ngo 1.26.0\n",
	})
	modules, err := findModules(root)
	require.NoError(t, err)
	require.Len(t, modules, 2, "all but the one that is for nobody")
	proxy := t.TempDir()
	for _, m := range modules {
		require.NoError(t, m.release(modules, proxy))
	}
	assert.Equal(t, []string{"example.com/root@v0.999.0/a.go", "example.com/root@v0.999.0/go.mod"},
		zipped(t, filepath.Join(proxy, "example.com/root/@v/v0.999.0.zip")), "no module inside it")
	nested, err := os.ReadFile(filepath.Join(proxy, "example.com/root/store/@v/v0.999.0.mod"))
	require.NoError(t, err)
	assert.Equal(t, "module example.com/root/store\n\ngo 1.26.0\n\nrequire example.com/root v0.999.0\n", string(nested))
}

func TestModulesForUsers(t *testing.T) {
	modules, err := findModules(filepath.Join("..", ".."))
	require.NoError(t, err)
	var found []string
	for _, m := range modules {
		found = append(found, m.path)
	}
	const root = "github.com/dssauth/dssauth"
	assert.Subset(t, found, []string{root, root + "/dssprom", root + "/examples"})
}

func TestReplaceOfForeignModuleStopsTheRelease(t *testing.T) {
	root := writeFiles(t, map[string]string{
		"go.mod": "module example.com/root\n\ngo 1.26.0\n\nrequire example.com/other v1.2.3\n\nreplace example.com/other => ./other\n",
	})
	modules, err := findModules(root)
	require.NoError(t, err)
	assert.ErrorContains(t, modules[0].release(modules, t.TempDir()), "example.com/other")
}

func writeFiles(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	return root
}

func zipped(t *testing.T, file string) (names []string) {
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	for _, f := range r.File {
		names = append(names, f.Name)
	}
	return names
}
