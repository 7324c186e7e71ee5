package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each row of these pages names tests that exist.
func TestRowsNameTestsThatExist(t *testing.T) {
	for page, sections := range map[string][]string{
		"reliability.md": {"Figures", "Identity", "Fails closed", "Overload", "Bounds", "DSS misbehaves", "Hostile browsers", "Sent to sign in", "Configuration", "Life", "The doctor", "The shared store", "Redis and Valkey", "The gateway"},
		"contract.md":    {"What the library does where DSS differs"},
		"../SECURITY.md": {"Promises", "Threat model", "The shared store", "The gateway", "What visitors share"},
	} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			// NAME is each router's folder.
			assert.Empty(t, wrongRows(eachRouter(string(text), routers(t)), sections, testsIn))
		})
	}
}

// CI prints each figure that the page names.
func TestFiguresAreLogged(t *testing.T) {
	text, err := os.ReadFile("reliability.md")
	require.NoError(t, err)
	var logged []string
	for _, row := range rows(string(text), "Figures") {
		for _, name := range testNames.FindAllStringSubmatch(row[len(row)-1], -1) {
			source, err := testsIn(name[1])
			require.NoError(t, err)
			_, body, _ := strings.Cut(source, "\nfunc "+name[2]+"(")
			body, _, _ = strings.Cut(body, "\n}\n")
			if strings.Contains(body, `"figure: `) {
				logged = append(logged, name[2])
			}
		}
	}
	assert.Equal(t, []string{
		"TestRandomVisitorsAreNeverTakenForOthers", "TestFloodDoesNotAffectKnownVisitors", "TestOutagesOfAnyLength",
		"TestPoisonedRequestsDoNotAffectOthers", "TestOutageBesidePoisonedRequests", "TestNothingIsLeftAfterClose", "TestNothingPrintsACanary",
		"TestKeptConnectionsDoNotMixVisitors",
		"TestIdentityModelOverRedis", "TestEightReplicasCostAsMuchAsOne", "TestFiftyReplicasMissAtOnce", "TestReplicasWhileRedisFails",
		"TestForgettingReachesAllProcesses",
		"TestAttacks", "TestAttacksThroughAnotherProxy",
	}, logged)
	script, err := os.ReadFile("../.ci/run")
	require.NoError(t, err)
	assert.Contains(t, string(script), "go test -race -count=1 -timeout=40m -v work", "CI=true, the race detector, and -v")
	assert.Contains(t, string(script), "grep -E 'figure:")
}

// The check above can fail.
func TestWrongRowsAreFound(t *testing.T) {
	const head = "## A\n\n| Done | Out | Tests |\n| --- | --- | --- |\n"
	source := func(dir string) (string, error) {
		if dir != "" && dir != "dss" {
			return "", os.ErrNotExist
		}
		return "\nfunc TestX(t *testing.T) {\n{\"a case\"}\n}\n\nfunc FuzzY(f *testing.F) {\n}\n", nil
	}
	for page, want := range map[string]int{
		head + "| a | b | `TestX`, `dss: TestX`, `TestX/a_case`, `FuzzY` |\n": 0,
		head + "| a | b | `TestX` |\n\n## B\n\ntext\n":                        0,
		head + "| a | b | `TestZ` |\n":                                        1,
		head + "| a | b | `TestX`, `TestXX` |\n":                              1,
		head + "| a | b | `TestX/another_case` |\n":                           1,
		head + "| a | b | `nowhere: TestX` |\n":                               1,
		head + "| a | b | TestX |\n":                                          1,
		head + "| a | b | |\n":                                                1,
		head + "| a | `TestX` | as above |\n":                                 1,
		head + "| a | | `TestX` |\n":                                          1,
		head:                                                                  1,
		"## A\n\ntext\n":                                                      1,
		"## B\n":                                                              1,
	} {
		assert.Len(t, wrongRows(page, []string{"A"}, source), want, page)
	}
}

var (
	testNames = regexp.MustCompile("`(?:([a-z0-9/]+): )?((?:Test|Fuzz)\\w+)(?:/([^`]+))?`")
	onlyNames = regexp.MustCompile("^" + testNames.String() + "(, " + testNames.String() + ")*$")
)

// wrongRows returns the mistakes in the tables of these sections of a page.
func wrongRows(page string, sections []string, testsIn func(dir string) (string, error)) (wrong []string) {
	for _, section := range sections {
		table := rows(page, section)
		if len(table) == 0 {
			wrong = append(wrong, section+" has no rows")
		}
		for _, row := range table {
			last := row[len(row)-1]
			if !onlyNames.MatchString(last) || slices.Contains(row, "") {
				wrong = append(wrong, fmt.Sprintf("%s: %q: its last column must name tests and nothing else", section, row))
				continue
			}
			for _, name := range testNames.FindAllStringSubmatch(last, -1) {
				source, err := testsIn(name[1])
				if err != nil || !strings.Contains(source, "\nfunc "+name[2]+"(") || !strings.Contains(source, strings.ReplaceAll(name[3], "_", " ")) {
					wrong = append(wrong, fmt.Sprintf("%s: %s does not exist", section, name[0]))
				}
			}
		}
	}
	return wrong
}

// rows are the cells of a section's table, without its head.
func rows(page, section string) (table [][]string) {
	_, text, found := strings.Cut("\n"+page, "\n## "+section+"\n")
	if !found {
		return nil
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		table = append(table, cells)
	}
	return table[min(2, len(table)):]
}

// testsIn is the code of the tests in a directory; "" is the root.
func testsIn(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		return "", err
	}
	if dir == "" {
		promises, err := filepath.Glob("../promises/*_test.go")
		if err != nil {
			return "", err
		}
		files = append(files, promises...)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		all.Write(text)
	}
	return all.String(), nil
}

// eachRouter writes a test of examples/NAME as that of each router's example.
func eachRouter(page string, routers []string) string {
	return regexp.MustCompile("`examples/NAME: (\\w+)`").ReplaceAllStringFunc(page, func(name string) string {
		var all []string
		for _, router := range routers {
			all = append(all, strings.Replace(name, "NAME", router, 1))
		}
		return strings.Join(all, ", ")
	})
}
