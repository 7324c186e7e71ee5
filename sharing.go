package dssauth

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/dssauth/dssauth/internal/seal"
)

// sharing exchanges three things with other replicas through a [Store]: DSS's answers,
// lookups under way, and forgotten answers. All of them are sealed.
//
// A stored answer is believed only for exactly its own bytes, for as long as an answer
// of this replica, and if it was not forgotten since. So a store can cost a call to
// DSS, but it cannot change an identity.
type sharing struct {
	*storeAccess
	sealer   *seal.Sealer
	about    []string // all keys cover this
	names    []string // of the identifying headers
	ttl      time.Duration
	patience time.Duration // with another replica's lookup
	lookup   time.Duration // the longest that a lookup can take

	finds    atomic.Int64                      // lookups that read the store
	forget   func(owners []string, keys []key) // forgets the answers that another replica forgot
	has      func(key) bool                    // whether an answer is in memory
	hears    atomic.Bool                       // whether notices of others arrive
	restored atomic.Int64                      // since when, without a gap

	mu      sync.Mutex
	locally // guarded by mu
}

// locally is one replica's state about the others.
type locally struct {
	marks   forgotten // the answers forgotten lately; the numbers are nanoseconds of the wall clock up to which answers end
	seed    maphash.Seed
	heard   *simplelru.LRU[string, struct{}] // notices: each counts once
	keys    map[uint64]key                   // of answers in memory, by the hash of their keys in the store
	purgeAt int                              // size at which keys is purged
	looking map[string]looked                // the same for lookups under way
	unheard map[string]unheard               // notices that the store did not take, by the first mark
	left    map[string]string                // leases that the store failed to end, and their values; nil: none
	strange bool                             // a notice came that no secret opens
}

// looked is the key of some lookups under way.
type looked struct {
	key     key
	lookups int
}

const (
	// skew is how far the clocks of replicas may differ.
	skew = 2 * time.Second
	// maxSecrets bounds the work of a lookup.
	maxSecrets = 4
	// minLook and maxLook are the pauses between two looks for the answer to a
	// lookup of another replica.
	minLook = 2 * time.Millisecond
	maxLook = 25 * time.Millisecond
	// minAgain and maxAgain are the pauses before the store is tried again.
	minAgain = 50 * time.Millisecond
	maxAgain = time.Minute
	// readyTime is how long a Watch may take until it listens.
	readyTime = 10 * time.Second
	// maxUnheard bounds the waiting notices.
	maxUnheard = 4096
	// helloTime is how long a replica's greeting is kept. Only its arrival matters.
	helloTime = time.Minute
)

// newLocally remembers forgotten answers for as long as an answer can be used.
func newLocally(ttl time.Duration) locally {
	l := locally{marks: newForgotten(int64(ttl + 2*skew)), seed: maphash.MakeSeed(), keys: make(map[uint64]key), looking: make(map[string]looked), unheard: make(map[string]unheard)}
	l.heard, _ = simplelru.NewLRU[string, struct{}](maxForgotten, nil) // does not fail for a positive size
	return l
}

// storedKeys are the keys in the store that belong to some bytes, one for each secret.
type storedKeys struct{ answer, lease, mark []string }

// keysOf returns the keys of c: HMACs of an injective encoding.
func (s *sharing) keysOf(c credentials) storedKeys {
	parts := slices.Clip(s.about)
	for _, name := range s.names {
		if values := c.header[name]; len(values) > 0 {
			parts = append(parts, "is", values[0]) // a picked header has one value
		} else {
			parts = append(parts, "none")
		}
	}
	return storedKeys{s.sealer.Keys("answer", parts...), s.sealer.Keys("lease", parts...), s.sealer.Keys("mark", parts...)}
}

// marksOf returns the keys of the marks that an owner's answers were forgotten.
func (s *sharing) marksOf(owner string) []string {
	return s.sealer.Keys("owner", append(slices.Clip(s.about), owner)...)
}

// sharedAnswer is the stored form of an answer.
type sharedAnswer struct {
	AsOf                                                 int64 // in nanoseconds, by the wall clock of the replica that asked DSS
	Login, Profile, Source, APIKeyID, DisplayName, Email string
	Groups                                               []string
}

func newSharedAnswer(id *Identity) *sharedAnswer {
	return &sharedAnswer{id.AsOf.UnixNano(), id.Login, id.Profile, id.Source, id.APIKeyID, id.DisplayName, id.Email, id.Groups()}
}

func (a *sharedAnswer) identity() Identity {
	return Identity{
		Login: a.Login, Profile: a.Profile, Source: a.Source, APIKeyID: a.APIKeyID, DisplayName: a.DisplayName, Email: a.Email,
		AsOf: time.Unix(0, a.AsOf), groups: makeGroups(a.Groups),
	}
}

// found is the result of asking the other replicas about a lookup.
type found struct {
	keys   storedKeys
	leases []string // that were taken: other replicas wait for this one
	token  string   // what is stored under them
	stale  bool     // the store has an answer that was not believed

	identity Identity // of a visitor: DSS need not be asked
	asked    int64    // when it was
	number   int64    // the count of lookups here when the store was asked
}

// isAnswer reports whether another replica has answered.
func (f *found) isAnswer() bool { return f.identity.isSomebody() }

// begins records k for the keys of f, during their lookup. It reports whether this
// replica has another lookup of k.
func (s *sharing) begins(f *found, k key) (beside bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stored := range f.keys.answer {
		lookups := s.looking[stored].lookups + 1
		s.looking[stored], beside = looked{k, lookups}, lookups > 1
	}
	return beside
}

// keeps records the same while their answer is in memory. It removes the keys of other
// answers now and then, so that one visitor's many answers push out no other visitor's.
func (s *sharing) keeps(f *found, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= s.purgeAt {
		maps.DeleteFunc(s.keys, func(_ uint64, k key) bool { return !s.has(k) })
		s.purgeAt = 2*len(s.keys) + 64
	}
	for _, stored := range f.keys.answer {
		s.keys[maphash.String(s.seed, stored)] = k
	}
}

// forgetting says which answers a replica forgot. It is a mark in the store, and a
// notice for the other replicas.
type forgetting struct {
	ID     string
	At     int64    // in nanoseconds, by the wall clock
	Owners []string // whose answers were forgotten
	Answer []string // the keys of the forgotten answer, if there is one
}

// unheard is a notice with the keys of its marks.
type unheard struct {
	forgetting
	marks []string
}

// addTo sets the numbers about the store in stats.
func (s *sharing) addTo(stats *StoreStats) {
	stats.Hits, stats.Misses = s.hits.Load(), s.misses.Load()
	stats.Rejected, stats.Failures = s.rejected.Load(), s.failed.Load()
	stats.Out, stats.Hears = s.out.Load(), s.hears.Load()
}

// mayKnow reports whether another replica may have an answer.
func (s *sharing) mayKnow() bool { return s != nil && !s.out.Load() }
