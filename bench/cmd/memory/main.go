// Command memory shows the cost of a remembered visitor in bytes, beyond the
// identity itself, and that no cookie is kept.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/dss"
)

func main() {
	entries := flag.Int("entries", 100_000, "visitors to remember")
	enforce := flag.Bool("enforce", false, "exit with status 1 if a target is missed")
	flag.Parse()
	log.SetFlags(0)

	ours, err := measureOurs(*entries)
	if err != nil {
		log.Fatal("memory: ", err)
	}
	k8s, err := measureK8s(*entries)
	if err != nil {
		log.Fatal("memory: ", err)
	}
	kept, err := rawKept()
	if err != nil {
		log.Fatal("memory: ", err)
	}

	fmt.Printf("Bytes of heap per remembered visitor, %d visitors with cookies of %d bytes, a login of 11 bytes, three groups, a profile and a source:\n\n", *entries, size)
	fmt.Print("| | cache and identities | identities alone | the cache's share |\n| --- | --- | --- | --- |\n")
	for _, m := range []memory{ours, k8s} {
		fmt.Printf("| %s | %.0f | %.0f | %.0f |\n", m.name, m.full, m.identities, m.share())
	}
	met := bench.PrintTargets([]bench.Target{
		{Number: "11d", What: "bytes of an entry, with its identity", Reached: ours.full, AtMost: true, Bound: 470},
		{Number: "9", What: "bytes above the identity", Reached: ours.share(), AtMost: true, Bound: 320},
		{Number: "9", What: "the same, stretch", Reached: ours.share(), AtMost: true, Bound: 260, Stretch: true},
		{Number: "9", What: "entries beyond Config.MaxEntries", Reached: float64(ours.beyond), AtMost: true},
		{Number: "9", What: "cookies found in a dump of the heap", Reached: float64(kept), AtMost: true},
	})
	fmt.Printf("\n%s · `go run ./cmd/memory -entries %d`\n", bench.Machine(), *entries)
	if *enforce && !met {
		os.Exit(1)
	}
}

const size = 350

// session is a cookie that contains its user.
func session(user int) string { return fmt.Sprintf("session=%026d", user) }

// stated is a Resolver that believes it. It makes its strings anew each time,
// as DSS's replies do.
type stated struct{}

func (stated) Resolve(_ context.Context, h http.Header) (dssauth.Identity, error) {
	_, value, found := strings.Cut(h.Get("Cookie"), "session=")
	if !found || len(value) < 26 {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	user, err := strconv.Atoi(value[:26])
	if err != nil {
		return dssauth.Identity{}, err
	}
	id := dssauth.NewIdentity(bench.Login(user), strings.Clone("readers"), strings.Clone("analysts"), fmt.Sprintf("team%03d", user%1000))
	id.Profile, id.Source = strings.Clone("DESIGNER"), strings.Clone("USER_FROM_UI")
	return id, nil
}

// memory is bytes per visitor.
type memory struct {
	name             string
	full, identities float64
	beyond           int // entries more than allowed
}

func (m memory) share() float64 { return m.full - m.identities }

// measureOurs measures the heap with a full cache, and then with the identities
// only.
func measureOurs(entries int) (memory, error) {
	m := memory{name: bench.Ours}
	empty := heap()
	identities := make([]dssauth.Identity, entries)
	auth, err := dssauth.New(dssauth.Config{Resolver: stated{}, TTL: time.Hour, MaxEntries: entries})
	if err != nil {
		return m, err
	}
	// The copies that handlers get share their text with the cache's own.
	for range 2 {
		if err := bench.VisitAll(auth.Handler, session, entries, size, func(user int, r *http.Request) {
			identities[user], _ = dssauth.FromContext(r.Context())
		}); err != nil {
			return m, err
		}
	}
	if n := auth.Stats().Entries; n < entries {
		return m, fmt.Errorf("%d entries instead of %d", n, entries)
	}
	full := heap() - len(identities)*int(unsafe.Sizeof(identities[0]))

	// One more visitor must take another one's place.
	if err := bench.VisitAll(auth.Handler, session, 1, size+1, func(int, *http.Request) {}); err != nil {
		return m, err
	}
	m.beyond = auth.Stats().Entries - entries
	if err := auth.Close(); err != nil {
		return m, err
	}
	auth = nil
	alone := heap()
	runtime.KeepAlive(identities)
	m.full = float64(full-empty) / float64(entries)
	m.identities = float64(alone-empty) / float64(entries)
	return m, nil
}

// measureK8s does the same with Kubernetes' cache.
func measureK8s(entries int) (memory, error) {
	m := memory{name: bench.K8s}
	empty := heap()
	identities := make([]*authenticator.Response, entries)
	authn := bench.NewK8sAuthenticator(func(ctx context.Context, cookies string) (dss.AuthInfo, error) {
		id, err := stated{}.Resolve(ctx, http.Header{"Cookie": {cookies}})
		return dss.AuthInfo{AssociatedDSSUser: id.Login, AuthIdentifier: id.Login, Groups: id.Groups()}, err
	}, time.Hour)
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, ok, err := authn.AuthenticateToken(r.Context(), r.Header.Get("Cookie"))
			if err == nil && ok {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), responseKey{}, who)))
			}
		})
	}
	if err := bench.VisitAll(wrap, session, entries, size, func(user int, r *http.Request) {
		identities[user] = r.Context().Value(responseKey{}).(*authenticator.Response)
	}); err != nil {
		return m, err
	}
	pointers := len(identities) * int(unsafe.Sizeof(identities[0]))
	full := heap() - pointers
	runtime.KeepAlive(authn)
	authn, wrap = nil, nil
	alone := heap() - pointers
	runtime.KeepAlive(identities)
	m.full = float64(full-empty) / float64(entries)
	m.identities = float64(alone-empty) / float64(entries)
	return m, nil
}

type responseKey struct{}

// heap returns the bytes in use after a thorough collection.
func heap() int {
	for range 3 { // pools are emptied at the second
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}
