package dssauth

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// setWallClock changes the time of day of t, but not its monotonic clock. Seen
// from t, the wall clock then moved by d in the other direction. A time.Time with
// a monotonic clock begins with a word that has nanoseconds in its lowest 30
// bits, and above them seconds.
func setWallClock(tb testing.TB, t *time.Time, d time.Duration) {
	tb.Helper()
	before := t.Unix()
	*(*uint64)(unsafe.Pointer(t)) += uint64(int64(d/time.Second)) << 30
	require.Equal(tb, before+int64(d/time.Second), t.Unix(), "time.Time has changed")
	require.Contains(tb, t.String(), " m=")
}

// Not in a bubble: its times have no monotonic clock.
func TestSettingTheClockMovesNoExpiry(t *testing.T) {
	for _, moved := range []time.Duration{-24 * time.Hour, -time.Hour, time.Hour, 24 * time.Hour} {
		t.Run(fmt.Sprint("by ", moved), func(t *testing.T) {
			for name, ttl := range map[string]time.Duration{"still remembered": time.Hour, "ends": 10 * time.Millisecond} {
				dss := &countingResolver{}
				m, err := New(Config{Resolver: dss, TTL: ttl})
				require.NoError(t, err)
				visit := func() int64 {
					_, _, err := m.identify(&http.Request{Header: http.Header{"Cookie": {"session=ann"}}}, false)
					require.NoError(t, err)
					return dss.calls.Load()
				}
				require.EqualValues(t, 1, visit())
				m.answers.life.running.Wait() // the lookup still reads base
				setWallClock(t, &m.answers.clock.base, moved)
				if name == "ends" {
					for start := time.Now(); visit() == 1; {
						require.Less(t, time.Since(start), 10*time.Second, "it does not end")
					}
				} else {
					assert.EqualValues(t, 1, visit(), name)
				}
				require.NoError(t, m.Close())
			}
		})
	}
}

// All kept times are differences to one moment. Other code may read a clock
// only to show people the age of an answer.
func TestOtherCodeReadsNoClock(t *testing.T) {
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				pkg, _ := s.X.(*ast.Ident)
				now := s.Sel.Name == "Now" && pkg != nil && pkg.Name == "time"
				if now || strings.HasPrefix(s.Sel.Name, "Unix") {
					found = append(found, file.Name()+" "+s.Sel.Name)
				}
			}
			return true
		})
	}
	slices.Sort(found)
	assert.Equal(t, []string{"drain.go Now", "identity.go Now", "lifetime.go Now", "lookup.go Now",
		"marks.go Now", "marks.go UnixMilli", "marks.go UnixMilli", "marks.go UnixMilli",
		"notices.go Now", "notices.go Now", "notices.go Now", "notices.go Now", "notices.go Now", "notices.go Unix",
		"notices.go UnixNano", "notices.go UnixNano", "notices.go UnixNano", "notices.go UnixNano", "notices.go UnixNano",
		"replicas.go Unix", "replicas.go UnixNano", "sharing.go Unix", "sharing.go UnixNano"}, found,
		"Identity.AsOf twice, clock.base, a connection's deadline, marks that replicas share, and what they tell each other")
}
