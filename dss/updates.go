package dss

import (
	"context"
	"sync"
)

// updates are the updates of own settings that run in this process. DSS saves
// settings as a whole, so those of one user wait for each other, whichever client
// they are made with. Those of different users do not.
type updates struct {
	mu    sync.Mutex
	ended uint64 // how many have
	turns map[settingsOwner]*turn
}

// settingsOwner is whose settings they are: of which DSS, and which login.
type settingsOwner struct{ dss, login string }

// turn is there while somebody has it or waits for it.
type turn struct {
	taken chan struct{} // holds a token while an update runs
	users int
}

var allUpdates = updates{turns: map[settingsOwner]*turn{}}

// count returns how many updates have ended. What was read before one of them did
// may be old.
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
