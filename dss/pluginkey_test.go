package dss_test

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

func TestPluginKey(t *testing.T) {
	for part, want := range map[string]string{
		"":            `""`,
		"my plugin":   `"my plugin"`,
		`"\/`:         `"\"\\/"`,
		"<&>'":        `"<&>'"`,
		"\b\f\n\r\t":  `"\b\f\n\r\t"`,
		"\x00\v\x1f":  `"\u0000\u000b\u001f"`,
		"~\x7f\u0080": `"~\u007f\u0080"`,
		"é漢":          `"\u00e9\u6f22"`,
		"😀":           `"\ud83d\ude00"`,
		"\U0010ffff":  `"\udbff\udfff"`,
		"\u2028":      `"\u2028"`,
		"\ufffd":      `"\ufffd"`,
	} {
		assert.Equal(t, `"PLUGIN", `+want+`, "", "x", `+want, dss.PluginKey(part, "", "x", part))
	}
}

// pythonUnits states the rule in another way: it writes each UTF-16 code unit
// by itself, mostly as \u and four hexadecimal digits.
var pythonUnits = func() (table [0x10000]string) {
	for unit := range table {
		table[unit] = `\u` + strconv.FormatUint(uint64(0x10000+unit), 16)[1:]
	}
	for unit := 0x20; unit < 0x7f; unit++ {
		table[unit] = string(rune(unit))
	}
	for sign, escape := range map[rune]string{'"': `\"`, '\\': `\\`, 8: `\b`, 9: `\t`, 10: `\n`, 12: `\f`, 13: `\r`} {
		table[sign] = escape
	}
	return table
}()

func pythonKey(parts ...string) string {
	quoted := []string{`"PLUGIN"`}
	for _, part := range parts {
		text := `"`
		for _, r := range part {
			if r >= 0x10000 {
				text += pythonUnits[0xd800|(r-0x10000)>>10] + pythonUnits[0xdc00|(r-0x10000)&0x3ff]
			} else {
				text += pythonUnits[r]
			}
		}
		quoted = append(quoted, text+`"`)
	}
	return strings.Join(quoted, ", ")
}

// anyText is valid text with many characters that need an escape.
func anyText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(12) {
		switch r.IntN(5) {
		case 0:
			b.WriteRune(rune(r.IntN(0xa0)))
		case 1:
			b.WriteByte(`"\/<>&,[]`[r.IntN(9)])
		case 2:
			b.WriteRune(rune(0x10000 + r.IntN(0x100000)))
		case 3:
			b.WriteRune(rune(0xe000 + r.IntN(0x2000)))
		case 4:
			b.WriteRune(rune(r.IntN(0xd800)))
		}
	}
	return b.String()
}

func TestPluginKeyOfAnyText(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var inputs [][]string
	for range 5000 {
		inputs = append(inputs, []string{anyText(r), anyText(r), anyText(r), anyText(r)})
	}
	keys := make([]string, len(inputs))
	for i, in := range inputs {
		keys[i] = dss.PluginKey(in[0], in[1], in[2], in[3])
		require.Equal(t, pythonKey(in...), keys[i], "%q", in)
		var list []string
		require.NoError(t, json.Unmarshal([]byte("["+keys[i]+"]"), &list))
		require.Equal(t, append([]string{"PLUGIN"}, in...), list)
	}

	// If the machine has Python, Python decides.
	given, err := json.Marshal(inputs)
	require.NoError(t, err)
	python := exec.Command("python3", "-c", `import json, sys
json.dump([json.dumps(["PLUGIN"] + parts)[1:-1] for parts in json.load(sys.stdin)], sys.stdout)`)
	python.Stdin = strings.NewReader(string(given))
	out, err := python.Output()
	if err != nil {
		t.Logf("not compared with Python: %v", err)
		return
	}
	var said []string
	require.NoError(t, json.Unmarshal(out, &said))
	require.Equal(t, said, keys)
}

func FuzzPluginKey(f *testing.F) {
	for _, seed := range []string{"", "plugin", `"\`, "\x00\x7f", "é", "😀", "<&>", "\u2028\ufffd"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		if !utf8.ValidString(one) || !utf8.ValidString(two) {
			return // refused before
		}
		require.Equal(t, pythonKey(one, two, "", "x"), dss.PluginKey(one, two, "", "x"))
	})
}
