package main

import (
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// board holds the last notes, in memory: each process has its own.
type board struct {
	mu      sync.Mutex
	notes   []note        // never changed in place
	changed chan struct{} // closed by the next note
}

type note struct {
	ID   string    `json:"id"`
	By   string    `json:"by"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

const mostNotes = 20

func newBoard() *board { return &board{notes: []note{}, changed: make(chan struct{})} }

// read returns the notes, oldest first, and a channel that is closed when they
// change.
func (b *board) read() ([]note, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notes, b.changed
}

func (b *board) add(by, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.notes[max(0, len(b.notes)+1-mostNotes):]
	b.notes = append(slices.Clone(kept), note{rand.Text(), by, text, time.Now()})
	close(b.changed)
	b.changed = make(chan struct{})
}
