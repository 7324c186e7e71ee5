package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// The report names each member that dss reads: others cannot see a fault in one that
// is hidden.
func TestReportNamesEachMemberThatIsRead(t *testing.T) {
	read := membersRead(t)
	require.Contains(t, read, "associatedDSSUSer")
	require.Contains(t, read, "userProperties")
	require.Greater(t, len(read), 15)
	for name, file := range read {
		assert.True(t, inList(name), "%s reads the member %s: add it to knownMembers, in cmd/dssauth/shape.go", file, name)
	}
}

func inList(name string) bool {
	shapes, _ := shape("", map[string]any{name: "a value"}, 0).(map[string]any)
	return shapes[name] != nil
}

// membersRead are the names that newReader gets in dss, and their files.
func membersRead(t *testing.T) map[string]string {
	files, err := filepath.Glob("../../dss/*.go")
	require.NoError(t, err)
	constants, read := map[string]string{}, map[string]string{}
	parsed := map[string]*ast.File{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		if parsed[file], err = parser.ParseFile(token.NewFileSet(), file, source, 0); err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed[file], func(n ast.Node) bool {
			if c, ok := n.(*ast.ValueSpec); ok && len(c.Names) == 1 && len(c.Values) == 1 {
				if text, ok := c.Values[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
					constants[c.Names[0].Name], _ = strconv.Unquote(text.Value)
				}
			}
			return true
		})
	}
	for file, syntax := range parsed {
		if filepath.Base(file) == "env.go" { // which reads a file of settings, and no reply
			continue
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "newReader" {
				return true
			}
			for _, argument := range call.Args[1:] {
				var name string
				switch a := argument.(type) {
				case *ast.BasicLit:
					name, _ = strconv.Unquote(a.Value)
				case *ast.Ident:
					name = constants[a.Name]
				}
				require.NotEmpty(t, name, "%s: a name that this test does not find", file)
				read[name] = "dss/" + filepath.Base(file)
			}
			return true
		})
	}
	return read
}

// Each text of DSS's answer about us or a visitor is a value that the report hides.
func TestReportHidesEachTextOfAnAnswer(t *testing.T) {
	for field := range reflect.TypeFor[dss.AuthInfo]().Fields() {
		if field.Name == "AuthSource" || field.Name == "Secrets" { // DSS's own word; never asked for
			continue
		}
		var info dss.AuthInfo
		v := reflect.ValueOf(&info).Elem().FieldByIndex(field.Index)
		switch v.Interface().(type) {
		case string:
			v.SetString("the-value")
		case []string:
			v.Set(reflect.ValueOf([]string{"the-value"}))
		default:
			t.Errorf("dss.AuthInfo.%s is neither a string nor a list of strings: have textsOf, in cmd/dssauth/contract.go, return its texts, and extend this test", field.Name)
			continue
		}
		for _, c := range []*contract{{doctor: &doctor{own: info}}, {doctor: &doctor{}, visiting: look{info: info}}} {
			c.env, c.noCookies = func(string) string { return "" }, "none"
			assert.True(t, c.holdsValue("X-The-Value"), "the report shows a header that has the value of %s in its name: see holdsValue, in cmd/dssauth/contract.go", field.Name)
		}
	}
}
