package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// pause is the silence between the end of a paste and a person's next key. A
	// terminal sends a paste without a break.
	pause = 250 * time.Millisecond
	// markPause is the same within a paste with a marked end.
	markPause = 2 * time.Second
	// maxSettle bounds the wait for a pause.
	maxSettle = 10 * time.Second
)

var errInterrupted = errors.New("interrupted")

// endings are the signals that would end the process at once. Then the terminal would
// have no echo, and the shell would get the rest of a paste. SIGPIPE comes when the
// report goes to a pager that has ended.
var endings = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE}

// terminal asks a person for Cookie headers.
//
// A pasted credential must not be visible, and no part of a paste may reach the shell:
// it would execute the text and keep it in its history. So from beginning to end the
// terminal does not show typed text, and reads all of it, even without a question. It
// waits for a pause before the end, so that no part remains of a paste that is still
// arriving.
type terminal struct {
	screen  io.Writer
	marks   bool // the terminal marks pastes
	restore func()
	stop    context.CancelFunc // of the signals

	mu      sync.Mutex
	typed   typing
	arrived chan struct{} // something has
	over    chan struct{} // nothing will
}

// openTerminal takes over the terminal of file, until close. It returns a context that
// ends with Ctrl-C or a signal. It returns false if file is not a terminal.
func openTerminal(ctx context.Context, file *os.File, screen io.Writer) (*terminal, context.Context, bool) {
	ctx, stop := signal.NotifyContext(ctx, endings...)
	restore, ok := hush(file)
	if !ok {
		stop()
		return nil, nil, false
	}
	t := &terminal{
		screen: screen, marks: marksPastes(screen), restore: restore, stop: stop,
		arrived: make(chan struct{}, 1), over: make(chan struct{}),
	}
	t.show(pastesMarked)
	ctx, interrupt := context.WithCancel(ctx)
	go t.read(file, interrupt)
	return t, ctx, true
}

// close restores the terminal, with nothing left to read.
func (t *terminal) close() {
	t.settle()
	t.show(pastesUnmarked)
	t.restore()
	t.stop()
}

// show writes control sequences, which are not for people.
func (t *terminal) show(sequence string) {
	if t.marks {
		_, _ = io.WriteString(t.screen, sequence)
	}
}

func (t *terminal) read(file *os.File, interrupt func()) {
	defer close(t.over)
	chunk := make([]byte, 4096)
	for {
		n, err := file.Read(chunk)
		t.mu.Lock()
		for _, b := range chunk[:n] {
			t.typed.take(b)
		}
		t.mu.Unlock()
		// Within a paste as well: its end may never come.
		if bytes.ContainsAny(chunk[:n], ctrlC+ctrlBackslash) {
			interrupt()
		}
		if err != nil {
			return
		}
		select {
		case t.arrived <- struct{}{}:
		default:
		}
	}
}

// settle waits until no more input arrives.
func (t *terminal) settle() {
	enough := time.After(maxSettle)
	for {
		t.mu.Lock()
		rest := pause
		if t.typed.pasting {
			rest = markPause
		}
		t.mu.Unlock()
		select {
		case <-t.arrived:
		case <-time.After(rest):
			return
		case <-t.over:
			return
		case <-enough:
			return
		}
	}
}

// next asks for a paste. Input from before the question is not an answer.
func (t *terminal) next(ctx context.Context, prompt string) (r request, ok bool, err error) {
	t.settle()
	t.mu.Lock()
	t.typed.forget()
	t.mu.Unlock()
	fmt.Fprintf(t.screen, "\n%s\nIt is not shown. Then press Enter; Enter alone skips this, Ctrl-C ends.\n> ", prompt)
	text, err := t.answer(ctx)
	fmt.Fprintln(t.screen)
	if err != nil || text == "" {
		return request{}, false, err
	}
	r, err = parsePaste(text)
	return r, err == nil, err
}

// answer returns the typed and pasted text up to an Enter. In an unmarked paste each
// line ends with an Enter: only a pause shows the last one.
func (t *terminal) answer(ctx context.Context) (string, error) {
	quiet := time.NewTimer(0)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", errInterrupted
		case <-t.arrived:
			quiet.Stop()
			t.mu.Lock()
			if t.typed.entered {
				quiet.Reset(pause)
			}
			t.mu.Unlock()
			continue
		case <-quiet.C:
		case <-t.over:
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.typed.text()
	}
}

// The sequences to a terminal, and those that it then sends around a paste.
const (
	pastesMarked   = "\x1b[?2004h"
	pastesUnmarked = "\x1b[?2004l"
	pasteBegins    = "\x1b[200~"
	pasteEnds      = "\x1b[201~"

	escape        = 0x1b
	ctrlC         = "\x03"
	ctrlBackslash = "\x1c"
)

// typing turns a terminal's input into text.
type typing struct {
	bytes    []byte
	sequence []byte // perhaps the beginning of a mark
	pasting  bool   // between the marks of a paste
	stale    bool   // in a paste that began before the question
	tooLong  bool
	entered  bool // the last one was Enter, and not part of a marked paste
}

func (t *typing) forget() {
	*t = typing{sequence: t.sequence, pasting: t.pasting, stale: t.pasting}
}

func (t *typing) take(b byte) {
	t.sequence = append(t.sequence, b)
	switch s := string(t.sequence); {
	case s == pasteBegins:
		t.pasting, t.entered = true, false
	case s == pasteEnds:
		t.pasting, t.stale = false, false
	case strings.HasPrefix(pasteBegins, s), strings.HasPrefix(pasteEnds, s):
		return
	default:
		begun := t.sequence
		t.sequence = nil
		if b == escape { // begins anew
			begun = begun[:len(begun)-1]
			t.sequence = []byte{escape}
		}
		for _, b := range begun {
			t.put(b)
		}
		return
	}
	t.sequence = nil
}

func (t *typing) put(b byte) {
	if t.stale {
		return
	}
	t.entered = false
	if !t.pasting {
		switch b {
		case 0x7f, '\b':
			t.bytes = t.bytes[:max(0, len(t.bytes)-1)]
			return
		case 'U' - '@': // Ctrl-U
			t.bytes = nil
			return
		case 'D' - '@': // Ctrl-D
			t.entered = true
			return
		}
		t.entered = b == '\r' || b == '\n'
	}
	if len(t.bytes) == maxPaste {
		t.tooLong = true
		return
	}
	t.bytes = append(t.bytes, b)
}

// text returns the typed text, with line ends as in files.
func (t *typing) text() (string, error) {
	if t.tooLong {
		return "", errPasteLong
	}
	return trim(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(t.bytes))), nil
}
