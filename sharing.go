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

// sharing is what replicas tell each other through a [Store]: what DSS answered,
// who asks it just now, and what was forgotten. All of it is sealed.
//
// What a store gives back is believed about exactly the bytes that it was put
// for, as long as this replica's own answer would be, and not beyond what was
// forgotten. So a store can cost a call of DSS, and never an identity.
type sharing struct {
	*storeAccess
	sealer   *seal.Sealer
	about    []string // what all keys cover
	names    []string // of the identifying headers
	ttl      time.Duration
	patience time.Duration // with another replica's lookup
	lookup   time.Duration // what one can take

	finds    atomic.Int64                      // lookups that look here
	forget   func(owners []string, keys []key) // what another replica forgot
	has      func(key) bool                    // whether an answer is in memory
	hears    atomic.Bool                       // what others forget
	restored atomic.Int64                      // since when, without a gap

	mu      sync.Mutex
	locally // guarded by mu
}

// locally is what one replica keeps about the others.
type locally struct {
	marks   forgotten // what was forgotten lately; the numbers are nanoseconds of the wall clock up to which answers end
	seed    maphash.Seed
	heard   *simplelru.LRU[string, struct{}] // notices: each counts once
	keys    map[uint64]key                   // of answers in memory, by the hash of their keys in the store
	purgeAt int                              // size at which keys is purged
	looking map[string]looked                // the same of lookups under way
	unheard map[string]unheard               // what the store did not take, by the first mark
	left    map[string]string                // leases that the store did not end when it should have, and their values; nil: none
	strange bool                             // a notice came that no secret opens
}

// looked are the bytes that some lookups under way are about.
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
	// maxUnheard bounds what waits to be told.
	maxUnheard = 4096
	// helloTime is how long a replica's greeting is kept. It matters only to those
	// who hear it.
	helloTime = time.Minute
)

// newLocally remembers forgetting as long as an answer can be used.
func newLocally(ttl time.Duration) locally {
	l := locally{marks: newForgotten(int64(ttl + 2*skew)), seed: maphash.MakeSeed(), keys: make(map[uint64]key), looking: make(map[string]looked), unheard: make(map[string]unheard)}
	l.heard, _ = simplelru.NewLRU[string, struct{}](maxForgotten, nil) // fails for no positive size
	return l
}

// storedKeys are the keys in the store of what belongs to some bytes, one for each
// secret.
type storedKeys struct{ answer, lease, mark []string }

// keysOf returns the keys of c: HMACs of an injective encoding.
func (s *sharing) keysOf(c credentials) storedKeys {
	parts := slices.Clip(s.about)
	for _, name := range s.names {
		if values := c.header[name]; len(values) > 0 {
			parts = append(parts, "is", values[0]) // what is picked has one value
		} else {
			parts = append(parts, "none")
		}
	}
	return storedKeys{s.sealer.Keys("answer", parts...), s.sealer.Keys("lease", parts...), s.sealer.Keys("mark", parts...)}
}

// marksOf returns the keys of what says that an owner's answers were forgotten.
func (s *sharing) marksOf(owner string) []string {
	return s.sealer.Keys("owner", append(slices.Clip(s.about), owner)...)
}

// sharedAnswer is what is stored of an answer.
type sharedAnswer struct {
	AsOf                                                 int64 // in nanoseconds, by the wall clock of whom DSS was asked by
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

// found is what the other replicas had to say about a lookup.
type found struct {
	keys   storedKeys
	leases []string // that were taken: other replicas wait for this one
	token  string   // what is stored under them
	stale  bool     // the store has an answer that was not believed

	identity Identity // of somebody: DSS need not be asked
	asked    int64    // when it was
	number   int64    // of lookups here that had asked when the store was
}

// isAnswer reports whether another replica has answered.
func (f *found) isAnswer() bool { return f.identity.isSomebody() }

// begins says which bytes the keys of f are about here, while they are looked up.
func (s *sharing) begins(f *found, k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stored := range f.keys.answer {
		s.looking[stored] = looked{k, s.looking[stored].lookups + 1}
	}
}

// keeps says the same while their answer is in memory. Whatever is not is left out
// now and then, so that one visitor's many answers push out nobody else.
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

// forgetting says what a replica forgot: as the mark of that, and as a notice for
// the other replicas.
type forgetting struct {
	ID     string
	At     int64    // in nanoseconds, by the wall clock
	Owners []string // whose answers were forgotten
	Answer []string // the keys of the answer that was, if there are any
}

// unheard is a notice with the keys of its marks.
type unheard struct {
	forgetting
	marks []string
}

// addTo sets what stats says about the store.
func (s *sharing) addTo(stats *StoreStats) {
	stats.Hits, stats.Misses = s.hits.Load(), s.misses.Load()
	stats.Rejected, stats.Failures = s.rejected.Load(), s.failed.Load()
	stats.Out, stats.Hears = s.out.Load(), s.hears.Load()
}

// mayKnow reports whether another replica's answer can be had.
func (s *sharing) mayKnow() bool { return s != nil && !s.out.Load() }
