package dss

import (
	"context"
	"sync"
)

// updates are the updates of own settings that run in this process. DSS saves
// settings as a whole, so updates of one user wait for each other, also those
// by different clients. Updates of different users do not.
type updates struct {
	mu    sync.Mutex
	ended uint64 // the number that ended
	turns map[settingsOwner]*turn
}

// settingsOwner is the owner of settings: a DSS, and a login there.
type settingsOwner struct{ dss, login string }

// turn exists while an update has it or waits for it.
type turn struct {
	taken chan struct{} // holds a token while an update runs
	users int
}

var allUpdates = updates{turns: map[settingsOwner]*turn{}}

// count returns the number of updates that have ended. Settings that were read
// before the end of one may be old.
func (u *updates) count() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

// take waits for the turn of one owner's update.
func (u *updates) take(ctx context.Context, owner settingsOwner) (done func(), err error) {
	t := u.join(owner)
	select {
	case t.taken <- struct{}{}:
		return func() {
			<-t.taken
			u.leave(owner, t, 1)
		}, nil
	case <-ctx.Done():
		u.leave(owner, t, 0)
		return nil, ctx.Err()
	}
}

func (u *updates) join(owner settingsOwner) *turn {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.turns[owner]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		u.turns[owner] = t
	}
	t.users++
	return t
}

func (u *updates) leave(owner settingsOwner, t *turn, ended uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended += ended
	if t.users--; t.users == 0 {
		delete(u.turns, owner)
	}
}
