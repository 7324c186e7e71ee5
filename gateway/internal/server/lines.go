package server

import (
	"io"
	"sync"
	"time"
)

const (
	// together is how long lines are kept in a busy time, and what a process that is
	// killed can lose of them.
	together = 100 * time.Millisecond
	// maxKept is when they are written sooner.
	maxKept = 64 << 10
)

// Lines writes lines of a log to what is made for fewer writes: one for each request
// would be a tenth of what a busy gateway does. A line after a quiet time is written
// at once. Those that follow within a tenth of a second are written together at its
// end, or when [Lines.Flush] is called. It is safe for concurrent use.
type Lines struct {
	mu    sync.Mutex // held while writing: a reader that is slow slows down requests, and takes no memory
	w     io.Writer
	kept  []byte
	timer *time.Timer // nil: it is a quiet time
}

// NewLines returns Lines that go to w.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// Write takes whole lines. Its error may be about earlier ones.
func (l *Lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer == nil {
		l.timer = time.AfterFunc(together, l.tick)
		return l.w.Write(line)
	}
	l.kept = append(l.kept, line...)
	if len(l.kept) < maxKept {
		return len(line), nil
	}
	return len(line), l.flush()
}

func (l *Lines) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		l.timer = nil
		return
	}
	_ = l.flush()
	l.timer.Reset(together)
}

func (l *Lines) flush() error {
	_, err := l.w.Write(l.kept)
	l.kept = l.kept[:0]
	return err
}

// Flush writes what is kept. A program calls it before it ends.
func (l *Lines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return nil
	}
	return l.flush()
}
