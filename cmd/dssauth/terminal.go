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
	// pause is how long nothing arrives between the end of a paste and what a
	// person does next. A terminal sends a paste without a break.
	pause = 250 * time.Millisecond
	// markPause is the same within a paste whose end will be marked.
	markPause = 2 * time.Second
	// maxSettle bounds the wait for a pause.
	maxSettle = 10 * time.Second
)

var errInterrupted = errors.New("interrupted")

// endings are the signals that would end the process at once, and leave the
// terminal without echo and the rest of a paste to the shell. SIGPIPE comes
// when the report goes to a pager that was left.
var endings = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE}

// terminal is a person who is asked for Cookie headers.
//
// A pasted credential must not be seen, and no part of a paste may reach the
// shell, which would execute it and keep it in its history. So from beginning
// to end the terminal shows nothing of what is typed, and all of it is read,
// whether it was asked for or not. Before the end comes a pause, so that
// nothing is left of a paste that is still arriving.
type terminal struct {
	screen  io.Writer
	marks   bool // the terminal is told to mark pastes
	restore func()
	stop    context.CancelFunc // of the signals

	mu      sync.Mutex
	typed   typing
	arrived chan struct{} // something has
	over    chan struct{} // nothing will
}

// openTerminal takes over the terminal that file is, until close. It returns a
// context that ends with Ctrl-C or a signal, and false where file is none.
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

// close returns the terminal as it was, with nothing left to read.
func (t *terminal) close() {
	t.settle()
	t.show(pastesUnmarked)
	t.restore()
	t.stop()
}

// show writes what is not for people.
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

// settle waits until nothing arrives any more.
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

// next asks for a paste. What was typed before the question is no answer.
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

// answer returns what is typed and pasted up to an Enter. Where pastes are not
// marked, each line of one ends like that: only a pause tells the last.
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

// What a terminal is told, and what it sends around a paste once it was told.
const (
	pastesMarked   = "\x1b[?2004h"
	pastesUnmarked = "\x1b[?2004l"
	pasteBegins    = "\x1b[200~"
	pasteEnds      = "\x1b[201~"

	escape        = 0x1b
	ctrlC         = "\x03"
	ctrlBackslash = "\x1c"
)

// typing makes text of what a terminal sends.
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

// text is what has been typed, with lines that end as in files.
func (t *typing) text() (string, error) {
	if t.tooLong {
		return "", errPasteLong
	}
	return trim(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(t.bytes))), nil
}
