package dssauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/loopback"
	"github.com/dssauth/dssauth/internal/seal"
)

// Config says how visitors are identified. Only Client, or Resolver, must be
// set: the zero value of every other field is a safe default.
type Config struct {
	// Client asks DSS. Its credentials are the application's own.
	Client *dss.Client
	// Resolver is asked instead of DSS. Nil asks DSS through Client. The text of its
	// errors is never repeated: log the details in the Resolver.
	Resolver Resolver

	// Headers are the names of the headers that identify a visitor: they are sent to
	// DSS, and the answer is remembered for their exact values. Different lines of one
	// header are joined by ", ", and bytes that are not UTF-8 are read as Latin-1, as
	// servers for Python do. Cookies are joined by "; ", and a cookie that is not UTF-8
	// is left out. Two different Authorization headers, or one that is not UTF-8, are a
	// 400. Nil means Cookie and Authorization.
	Headers []string
	// Cookies are the names of the cookies that identify a visitor, with * for any
	// characters, as in "dss_*". Nil means all cookies except well-known ones of
	// analytics and load balancers, which change all the time.
	Cookies []string

	// TTL is how long an answer is reused. A user removed from a group, or
	// signed out elsewhere, keeps access for up to TTL. Zero means 10s;
	// negative asks DSS every time.
	TTL time.Duration
	// RefusalTTL is how long DSS's "anonymous" is remembered. A page or a form always
	// asks again. Zero means 2s; negative remembers none.
	RefusalTTL time.Duration
	// StaleIfError is how much longer than TTL an answer is reused while DSS is down.
	// DSS is down while our own question (GET /auth/info) ends in a connection error, a
	// timeout, a 5xx or a 429. If that question succeeds and only a visitor's lookup
	// fails, the old answer is not reused. The same holds after DSS refused the
	// visitor. To bridge an outage in which DSS does not answer at all, Timeout must be
	// 3s or more. It cannot be set beside Resolver. Zero means never.
	StaleIfError time.Duration

	// Store shares answers with the other replicas of the application: together they
	// ask DSS about a visitor no more often than one alone. The module rediscache has
	// one for Redis. With a Store an answer is used for up to TTL + 2s, since the
	// clocks of replicas can differ by 2s. All replicas need the same Headers, Cookies,
	// UserDetails and TTL. [Middleware.Forget] and [Middleware.ForgetUser] then reach
	// all replicas that can watch the store, and StaleIfError bridges only while this
	// replica can. It cannot be set beside Resolver. Nil keeps answers in memory only.
	// See docs/replicas.md.
	Store Store
	// StoreSecrets seal everything in the Store: one to four secrets of at least 32
	// random bytes each, the same for all replicas. The first one seals, all open, so
	// that you can replace them step by step. Use other secrets for another DSS: two
	// DSSs at 127.0.0.1 on two machines have the same address.
	StoreSecrets [][]byte

	// Impersonation is the way in which [ClientFromContext] acts as the visitor. Zero
	// means that it does not.
	Impersonation Impersonation
	// AllowAPIKeys admits callers with an API key that belongs to no user. They have no
	// login and no groups, and are never impersonated.
	AllowAPIKeys bool
	// UserDetails adds display name and e-mail address to the identity. With
	// Impersonation they are read as the visitor, in the visitor's own settings (GET
	// /current-user). Without it, or if that fails, they are read with Client's rights
	// (GET /users/{login}); DSS 14.0 has that call and can restrict it. Each lookup
	// costs one more call to DSS, and with Impersonation a second one: for a ticket, or
	// to confirm the user for whom DSS takes the call. If the calls fail, the identity
	// has no details. A missing right to read users is a warning in the log, once a
	// minute.
	UserDetails bool

	// LoginURL returns the URL where a signed-out person can sign in; empty shows the
	// refusal. A page is redirected there. htmx gets it as HX-Redirect beside a 401. In
	// three cases it is a link on the refusal's page: for a form, whose data would be
	// lost; for a frame of another site, which keeps no cookies; for a person who may
	// not open a page. Programs and prefetches do not get it. Nil sends nobody to sign
	// in.
	//
	// Back is the path, with its query, to which the person wants to return. It belongs
	// to this application and not to DSS. Escape it, as with [url.QueryEscape]. For a
	// page it is the path that arrived here: if a proxy strips a prefix, put that in
	// front. For htmx it is the path of HX-Current-URL, and for a form that of Referer.
	// These come from the browser and have the prefix. Back is "/" if they are missing,
	// or name another host than the request, as behind a proxy that rewrites Host. A
	// sign-in page on another host needs a whole URL: put your application's public
	// address, from your own settings, in front. We do not know a parameter of DSS's
	// own sign-in page that leads the person back.
	//
	// Two cases cannot be seen in a request: a frame of another site over plain http,
	// and an htmx request inside such a frame. If signing in does not help there, the
	// browser goes round in circles. Forbid such frames by Content-Security-Policy.
	//
	// A browser is sent to sign in for a page once in 30s, and for at most four pages
	// in 30s. If signing in does not help, it sees the refusal. A cookie remembers
	// that. The next request for which DSS names the visitor clears the cookie.
	// [Middleware.Authenticate] cannot clear it, since it has no response.
	LoginURL func(r *http.Request, back string) string
	// OnError answers a request that is refused, and not redirected to sign in: [Hooks]
	// see both. [StatusCode] gives the status. Before the call, Cache-Control, Vary,
	// WWW-Authenticate and Retry-After are set, and over HTTP/1 the body has been read
	// or given up, see [Middleware.Refuse]. Nil means [WriteRefusal]. A function that
	// calls WriteRefusal passes on the request that it got, which holds the sign-in
	// URL. The comment of [Hooks] has more about the error.
	OnError func(http.ResponseWriter, *http.Request, error)
	// Logger gets the warnings for the operator. Nil means [slog.Default].
	Logger *slog.Logger
	// Hooks are called on lookups and refusals.
	Hooks Hooks

	// Timeout bounds the whole time of a lookup. Zero means 5s.
	Timeout time.Duration
	// MaxLookups bounds the lookups under way at once. At first there are 32 places, or
	// MaxLookups if that is less, and never fewer. More open only if they are needed
	// and DSS is quick. A quarter is reserved for visitors who were known in the last
	// hour. A request waits at most 1s for its turn. Zero means 256; the least is 2.
	// Above 256, give [dss.Config] an HTTPClient whose transport keeps as many idle
	// connections. docs/capacity.md says how many visitors that serves.
	MaxLookups int
	// MaxEntries bounds the answers remembered. Zero means 10,000. An answer with more
	// than 64 KiB of groups and other text is not remembered: its visitor gets in, but
	// each of the visitor's requests asks DSS. A group's name counts 16 bytes more than
	// its length, so 1,000 groups with names of 48 bytes are 64 KiB.
	MaxEntries int
	// MaxEntriesPerUser bounds the answers remembered for one user: one for each
	// browser and API key. An account on more screens than that still gets in, but some
	// of its requests ask DSS. If n screens take turns, about (MaxEntriesPerUser-1)/n
	// of the requests are answered from memory. A cookie or header that changes with
	// each request reaches the bound too; the log names it. Zero means 32.
	MaxEntriesPerUser int
	// MaxHeaderBytes bounds the identifying headers of a visitor that are sent to DSS,
	// without the dropped cookies. The identifying headers may arrive with four times
	// as many bytes, so that other applications' cookies lock nobody out. A request
	// with more is refused with [ErrTooLarge], before DSS is asked. Zero means 16 KiB.
	MaxHeaderBytes int
}

// Format prints c without its secrets.
func (c Config) Format(s fmt.State, verb rune) {
	type settings Config // without this method
	c.StoreSecrets = nil
	fmt.Fprintf(s, fmt.FormatString(s, verb), settings(c))
}

// Impersonation is a way to act as the visitor.
type Impersonation int

const (
	// NoImpersonation makes [ClientFromContext] fail.
	NoImpersonation Impersonation = iota
	// ByTicket acts with a ticket that DSS gives for the visitor's browser. DSS
	// documents this way for webapps: the group of the webapp's run-as user needs the
	// right "Impersonation in webapps".
	ByTicket
	// ByProxyUser acts as the visitor with Config.Client's credentials, which must be
	// those of an administrator. For each answer about the visitor, DSS must first
	// confirm that such calls act as the visitor.
	ByProxyUser
)

// asVisitor returns a function that acts as a visitor whose lookup is under way, or nil
// without an Impersonation.
func (c *Config) asVisitor() asVisitor {
	client := c.Client // not c, whose maker may change it
	switch c.Impersonation {
	case ByProxyUser:
		return func(_ context.Context, _ http.Header, login string) (*dss.Client, error) {
			return client.AsVerified(login)
		}
	case ByTicket:
		return func(ctx context.Context, identifying http.Header, _ string) (*dss.Client, error) {
			ticket, err := client.TicketFromBrowserHeaders(ctx, identifying)
			if err != nil {
				return nil, err
			}
			return client.WithTicket(ticket)
		}
	}
	return nil
}

const (
	maxTTL        = time.Hour
	maxStale      = 24 * time.Hour
	maxTimeout    = time.Minute
	maxMaxEntries = 1 << 24
)

// check returns an error that names the wrong setting.
func (c *Config) check() error {
	for _, check := range []func() error{c.checkSources, c.checkStore, c.checkImpersonation, c.checkDurations, c.checkBounds} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkSources() error {
	switch {
	case c.Client == nil && c.Resolver == nil:
		return errors.New("dssauth: Config.Client is missing: make one with dss.FromEnv or dss.New")
	case c.Client != nil && c.Client.URL() == "":
		return errors.New("dssauth: Config.Client was not made by dss.New or dss.FromEnv")
	case c.Resolver != nil && c.UserDetails:
		return errors.New("dssauth: Config.UserDetails has no effect beside Config.Resolver: set DisplayName and Email there")
	case c.Resolver != nil && c.StaleIfError > 0:
		return errors.New("dssauth: Config.StaleIfError has no effect beside Config.Resolver, since an outage of a Resolver cannot be seen: leave it zero, and bridge outages in the Resolver")
	}
	return nil
}

func (c *Config) checkStore() error {
	switch {
	case c.Store == nil && len(c.StoreSecrets) == 0:
		return nil
	case c.Store == nil:
		return errors.New("dssauth: Config.StoreSecrets has no effect without Config.Store: set both, or neither")
	case c.Resolver != nil:
		return errors.New("dssauth: Config.Store cannot be set beside Config.Resolver, since Resolvers of other replicas may answer differently: share answers in the Resolver")
	case isNilPointer(c.Store): // its methods would panic
		return fmt.Errorf("dssauth: Config.Store is a nil %T: check the error of the function that makes it", c.Store)
	case len(c.StoreSecrets) == 0:
		return errors.New("dssauth: Config.Store needs Config.StoreSecrets: at least one, of 32 random bytes, the same for all replicas")
	case len(c.StoreSecrets) > maxSecrets:
		return fmt.Errorf("dssauth: Config.StoreSecrets has %d secrets, and at most %d are allowed: remove those with which no replica seals any more", len(c.StoreSecrets), maxSecrets)
	case c.TTL < 0:
		return errors.New("dssauth: Config.Store needs remembered answers, but Config.TTL is negative: leave one of them out")
	}
	for i, secret := range c.StoreSecrets {
		switch {
		case len(secret) < 32:
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] has %d bytes: use at least 32 random bytes, as from openssl rand -base64 32", i, len(secret))
		case !slices.ContainsFunc(secret, func(b byte) bool { return b != secret[0] }):
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] repeats one byte: use 32 random bytes, as from openssl rand -base64 32", i)
		case slices.ContainsFunc(c.StoreSecrets[:i], func(s []byte) bool { return bytes.Equal(s, secret) }):
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] is the same as an earlier one: remove one of them", i)
		}
	}
	return nil
}

func isNilPointer(s Store) bool {
	v := reflect.ValueOf(s)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// sharing returns a sharing of a's answers with other replicas, or nil without a Store.
func (c *Config) sharing(names []string, a *answers) *sharing {
	if c.Store == nil {
		return nil
	}
	if u, err := url.Parse(c.Client.URL()); err == nil && loopback.Is(u.Hostname()) {
		c.Logger.Warn("dssauth: DSS is at a loopback address, and a DSS on another machine can have the same address: replicas that use another DSS need other Config.StoreSecrets", "url", c.Client.URL())
	}
	s := &sharing{
		storeAccess: &storeAccess{clock: a.clock, store: c.Store, life: a.life, told: a.told, under: make(chan struct{}, maxStoreCalls)},
		sealer:      seal.New(c.StoreSecrets),
		about:       append([]string{c.Client.URL(), fmt.Sprint("details:", c.UserDetails)}, names...),
		names:       names,
		ttl:         c.TTL,
		patience:    c.Timeout / 4 * 3,
		lookup:      c.Timeout + grace,
		forget:      a.hear,
		has:         func(k key) bool { return a.cache.find(k) != nil },
		locally:     newLocally(c.TTL),
	}
	s.back = s.isRestored
	return s
}

func (c *Config) checkImpersonation() error {
	switch {
	case c.Impersonation < NoImpersonation || c.Impersonation > ByProxyUser:
		return fmt.Errorf("dssauth: Config.Impersonation is %d: use NoImpersonation, ByTicket or ByProxyUser", c.Impersonation)
	case c.Impersonation == NoImpersonation:
		return nil
	case c.Client == nil:
		return errors.New("dssauth: Config.Impersonation needs Config.Client")
	}
	// Any login: a client that acts as one user cannot act as another.
	if _, err := c.Client.As("visitor"); err != nil {
		return fmt.Errorf("dssauth: Config.Impersonation needs a Config.Client that was not made by As or WithTicket: %w", err)
	}
	return nil
}

func (c *Config) checkDurations() error {
	for _, d := range []struct {
		field    string
		value    time.Duration
		max      time.Duration
		negative bool
		unit     string
	}{
		{"TTL", c.TTL, maxTTL, true, "a user who lost access keeps it that long"},
		{"RefusalTTL", c.RefusalTTL, maxTTL, true, "a user who signs in waits that long"},
		{"StaleIfError", c.StaleIfError, maxStale, false, "a user who lost access keeps it that long in an outage"},
		{"Timeout", c.Timeout, maxTimeout, false, "a request waits that long"},
	} {
		switch {
		case d.value > d.max:
			return fmt.Errorf("dssauth: Config.%s is %s: the most is %s, since %s", d.field, d.value, d.max, d.unit)
		case d.value < 0 && !d.negative:
			return fmt.Errorf("dssauth: Config.%s is %s: it cannot be negative", d.field, d.value)
		case d.value > 0 && d.value < time.Millisecond:
			return fmt.Errorf("dssauth: Config.%s is %s: is a unit missing, as in 10*time.Second?", d.field, d.value)
		}
	}
	if c.StaleIfError > 0 && c.TTL < 0 {
		return errors.New("dssauth: Config.StaleIfError needs remembered answers, but Config.TTL is negative: make one of them zero")
	}
	return nil
}

func (c *Config) checkBounds() error {
	for _, n := range []struct {
		field           string
		value, min, max int
	}{
		{"MaxLookups", c.MaxLookups, 2, 1 << 16},
		{"MaxEntries", c.MaxEntries, 1, maxMaxEntries},
		{"MaxEntriesPerUser", c.MaxEntriesPerUser, 1, 1 << 10},
		{"MaxHeaderBytes", c.MaxHeaderBytes, 256, 1 << 20},
	} {
		if n.value != 0 && (n.value < n.min || n.value > n.max) {
			return fmt.Errorf("dssauth: Config.%s is %d: use %d to %d, or 0 for the default", n.field, n.value, n.min, n.max)
		}
	}
	return nil
}

func (c *Config) setDefaults() {
	orDefault(&c.TTL, 10*time.Second)
	orDefault(&c.RefusalTTL, 2*time.Second)
	orDefault(&c.Timeout, 5*time.Second)
	orDefault(&c.MaxLookups, 256)
	orDefault(&c.MaxEntries, 10_000)
	orDefault(&c.MaxEntriesPerUser, 32)
	orDefault(&c.MaxHeaderBytes, 16<<10)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func orDefault[T time.Duration | int](v *T, fallback T) {
	if *v == 0 {
		*v = fallback
	}
}
