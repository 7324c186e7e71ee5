package dssauth

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/dssauth/dssauth/dss"
)

// session is shared by the answers about one visitor, one after the other: a refresh
// that names the same login keeps it. It ends when the answer ends.
type session struct {
	tickets dss.Tickets
	rights  atomic.Pointer[[]*projectVerdict] // oldest first; replaced, never changed

	mu       sync.Mutex                // guards all below, and writing to rights
	verified *dss.Client               // acts by X-DKU-ProxyUser, and has DSS confirm it once
	asking   map[string]*projectFlight // by the project's key
}

// maxProjects bounds the verdicts of a session, and its questions at once. So
// [Config.MaxEntries] times this bounds them all.
const maxProjects = 32

// proxied returns the client that acts as login. All handlers get the same one, so that
// DSS confirms the login once.
func (s *session) proxied(own *dss.Client, login string) (_ *dss.Client, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified == nil {
		s.verified, err = own.AsVerified(login)
	}
	return s.verified, err
}

// projectVerdict is DSS's answer about one visitor and one project.
type projectVerdict struct {
	project  string
	err      error // nil: the visitor may read its content
	basis    int64 // when DSS was asked for its answer about the visitor
	expires  int64 // when that answer ends
	renewing atomic.Bool
}

// projectFlight is one question about a project, for all requests of the visitor.
type projectFlight struct {
	ctx    context.Context // no request waits beyond its end
	cancel context.CancelFunc
	done   chan struct{} // closed when err is set
	err    error
	ended  sync.Once // forgets the answer whose session has ended
}

// verdictOn returns DSS's verdict on project, or nil.
func (s *session) verdictOn(project string) *projectVerdict {
	if all := s.rights.Load(); all != nil {
		for _, v := range *all {
			if v.project == project {
				return v
			}
		}
	}
	return nil
}

// joinProject returns the question about project that is under way, or one that
// start starts.
func (s *session) joinProject(project string, start func(*projectFlight) error) (*projectFlight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.asking[project]; f != nil {
		return f, nil
	}
	if len(s.asking) >= maxProjects {
		return nil, unavailable("too many questions about projects are under way for one visitor", nil, 0)
	}
	f := &projectFlight{done: make(chan struct{})}
	if err := start(f); err != nil {
		return nil, err
	}
	if s.asking == nil {
		s.asking = make(map[string]*projectFlight)
	}
	s.asking[project] = f
	return f, nil
}

// landProject ends f. With keep, it stores v in place of an older verdict.
func (s *session) landProject(f *projectFlight, v *projectVerdict, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asking, v.project)
	if keep {
		var all []*projectVerdict
		if old := s.rights.Load(); old != nil {
			all = *old
		}
		kept := make([]*projectVerdict, 0, min(len(all)+1, maxProjects))
		for _, other := range all {
			if other.project != v.project {
				kept = append(kept, other)
			}
		}
		if len(kept) == maxProjects {
			kept = append(kept[:0], kept[1:]...)
		}
		kept = append(kept, v)
		s.rights.Store(&kept)
	}
	f.err = v.err
	close(f.done)
}
