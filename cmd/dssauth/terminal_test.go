package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func (t *typing) takeAll(s string) {
	for _, b := range []byte(s) {
		t.take(b)
	}
}

func TestTyping(t *testing.T) {
	for name, row := range map[string]struct {
		sent    string
		text    string
		entered bool // an answer, unless more comes at once
	}{
		"nothing":                               {"", "", false},
		"a line without its end":                {"a=b", "a=b", false},
		"a line":                                {"a=b\r", "a=b", true},
		"a line as a pipe has it":               {"a=b\n", "a=b", true},
		"two lines":                             {"a\rb\r", "a\nb", true},
		"two lines of Windows":                  {"a\r\nb\r\n", "a\nb", true},
		"an empty line between":                 {"a\r\rb\r", "a\n\nb", true},
		"a marked paste":                        {"\x1b[200~a=b\x1b[201~", "a=b", false},
		"a marked paste, and Enter":             {"\x1b[200~a=b\x1b[201~\r", "a=b", true},
		"a marked paste that ends with a line":  {"\x1b[200~a=b\r\x1b[201~", "a=b", false},
		"a marked paste, cut off":               {"\x1b[200~a=b\r", "a=b", false},
		"Enter, and then a marked paste":        {"a\r\x1b[200~b", "a\nb", false},
		"two marked pastes":                     {"\x1b[200~a\x1b[201~\x1b[200~b\x1b[201~\r", "ab", true},
		"a key with a sequence of its own":      {"a\x1b[Ab", "a\x1b[Ab", false},
		"a key that begins like a mark":         {"\x1b[20~a", "\x1b[20~a", false},
		"the escape key before a marked paste":  {"\x1b\x1b[200~a\x1b[201~\r", "\x1ba", true},
		"half a mark, and then the whole":       {"\x1b[20\x1b[200~a\x1b[201~\r", "\x1b[20a", true},
		"an end without a beginning":            {"a\x1b[201~\r", "a", true},
		"keys that take back":                   {"\x7fab\x7fc\b\bd\r", "d", true},
		"a key that takes all back":             {"abc\r\x15d", "d", false},
		"the end of input":                      {"a\x04", "a", true},
		"neither takes anything from a paste":   {"\x1b[200~a\x7f\x15\x04b\x1b[201~", "a\x7f\x15\x04b", false},
		"spaces around a paste":                 {" \r\ta=b \r", "a=b", true},
		"what is white space elsewhere is kept": {"a=b\f\u00a0\r", "a=b\f\u00a0", true},
		"half a mark, and no more":              {"\x1b[200", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var typed typing
			typed.takeAll(row.sent)
			text, err := typed.text()
			assert.NoError(t, err)
			assert.Equal(t, row.text, text)
			assert.Equal(t, row.entered, typed.entered)
		})
	}
}

func TestInputBeforeTheQuestionIsDropped(t *testing.T) {
	for name, row := range map[string]struct{ before, after, text string }{
		"a line":                       {"old\r", "new\r", "new"},
		"a line without its end":       {"old", "new\r", "new"},
		"a marked paste":               {pasteBegins + "old" + pasteEnds, "new\r", "new"},
		"a marked paste that goes on":  {pasteBegins + "old", "old\r" + pasteEnds + "\rnew\r", "new"},
		"half a mark, whose rest came": {"old\x1b[20", "0~new" + pasteEnds + "\r", "new"},
		"a paste that is too long":     {strings.Repeat("x", maxPaste+1), "new\r", "new"},
	} {
		t.Run(name, func(t *testing.T) {
			var typed typing
			typed.takeAll(row.before)
			typed.forget()
			assert.False(t, typed.entered)
			typed.takeAll(row.after)
			text, err := typed.text()
			assert.NoError(t, err)
			assert.Equal(t, row.text, text)
			assert.True(t, typed.entered)
		})
	}
}

func TestEndlessPasteIsBounded(t *testing.T) {
	for _, more := range []int{0, 1, maxPaste} {
		var typed typing
		typed.takeAll(strings.Repeat("x", maxPaste+more))
		text, err := typed.text()
		assert.LessOrEqual(t, len(typed.bytes), maxPaste)
		if more > 0 {
			assert.ErrorIs(t, err, errPasteLong)
			continue
		}
		assert.NoError(t, err)
		assert.Len(t, text, maxPaste)
	}
}

// A person can end any paste.
func FuzzTyping(f *testing.F) {
	for _, sent := range []string{"", "a=b\r", pasteBegins + "a\rb" + pasteEnds, "\x1b\x1b[200~", "\x1b[20\x1b[201~", "a\x7f\x15\x04"} {
		f.Add(sent)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		var typed typing
		typed.takeAll(sent)
		typed.takeAll(pasteEnds + "\r")
		assert.True(t, typed.entered)
		assert.False(t, typed.pasting)
		text, err := typed.text()
		assert.NoError(t, err)
		assert.LessOrEqual(t, len(text), len(sent))
	})
}
