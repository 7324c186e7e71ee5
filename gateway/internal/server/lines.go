package server

import (
	"io"
	"sync"
	"time"
)

const (
	// together is how long lines are kept in a busy time. A process that is killed
	// loses the lines of this time at most.
	together = 100 * time.Millisecond
	// maxKept is the size, in bytes, at which they are written sooner.
	maxKept = 64 << 10
)

// Lines writes the lines of a log with few writes: one write for each request would
// take a tenth of a busy gateway's time. A line after a quiet time is written at
// once. The lines of the next tenth of a second are written together at its end, or
// when [Lines.Flush] is called. It is safe for concurrent use.
type Lines struct {
	mu    sync.Mutex // held while writing: a slow reader of the log delays requests, and memory does not grow
	w     io.Writer
	kept  []byte
	timer *time.Timer // nil in a quiet time
}

// NewLines returns Lines that go to w.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

// Write takes whole lines. Its error may be about earlier lines.
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

// Flush writes the kept lines. A program calls it before it ends.
func (l *Lines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return nil
	}
	return l.flush()
}
