package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf16"
)

// maxPaste bounds the part of a browser's request that is read.
const maxPaste = 1 << 20

var (
	errPasteLong = errors.New("the paste is too long: the Cookie header alone is enough")
	errTerminal  = errors.New("this is a terminal: leave it out, or use -")
)

// source gives Cookie headers.
type source interface {
	// next returns the next paste, or false if there is none.
	next(ctx context.Context, prompt string) (r request, ok bool, err error)
}

// input is a file, or anything else that is not a terminal.
type input struct {
	lines   *bufio.Reader
	prompts io.Writer
}

// asked returns an input of pastes. Each of them ends with an empty line.
func asked(from io.Reader, prompts io.Writer) *input {
	return &input{lines: bufio.NewReader(io.LimitReader(from, 4*maxPaste)), prompts: prompts}
}

func (in *input) next(_ context.Context, prompt string) (r request, ok bool, err error) {
	fmt.Fprintf(in.prompts, "\n%s\nEnd with an empty line; an empty line alone skips this.\n> ", prompt)
	text, err := in.readPaste()
	fmt.Fprintln(in.prompts)
	if err != nil || text == "" {
		return request{}, false, err
	}
	r, err = parsePaste(text)
	return r, err == nil, err
}

func (in *input) readPaste() (string, error) {
	var text strings.Builder
	caret := false // before a line end on Windows, where a paste has an empty line for each line end of a body
	for {
		line, err := in.lines.ReadString('\n')
		if text.Len()+len(line) > maxPaste {
			return "", errPasteLong
		}
		trimmed := strings.TrimSpace(line)
		ends := trimmed == "" && !caret
		if !ends {
			text.WriteString(line)
		}
		caret = strings.HasSuffix(trimmed, "^")
		switch {
		case err == io.EOF, err == nil && ends:
			return text.String(), nil
		case err != nil:
			return "", err
		}
	}
}

// readCookieFile returns the text of a file without empty lines at its edges. The name
// - is standard input.
func readCookieFile(name string, stdin io.Reader) (string, error) {
	from := stdin
	if name != "-" {
		file, err := os.Open(name)
		var path *fs.PathError
		if errors.As(err, &path) {
			// Without the name: it may be the cookies themselves.
			err = path.Err
		}
		if err != nil {
			return "", err
		}
		defer file.Close()
		if isTerminal(file) {
			return "", errTerminal // it would show the paste
		}
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, 2*maxPaste))
	return strings.TrimSpace(decoded(text)), err
}

// decoded reads UTF-16 too, which Windows PowerShell writes into files.
func decoded(text []byte) string {
	rest, ok := bytes.CutPrefix(text, []byte{0xff, 0xfe})
	if !ok {
		return string(text)
	}
	units := make([]uint16, len(rest)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(rest[2*i:])
	}
	return string(utf16.Decode(units))
}
