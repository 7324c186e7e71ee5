package dssauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
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
	// Resolver is asked instead of DSS. Nil asks DSS through Client. The text of
	// its errors is repeated nowhere, so log there what you want to read.
	Resolver Resolver

	// Headers are the names of the headers that identify a visitor: they are
	// sent to DSS, and the answer is remembered for their exact values. Lines of
	// one header that differ are joined by ", ", and bytes that are not UTF-8 are read
	// as Latin-1, as servers for Python do; cookies are joined by "; ", and such
	// ones left out; an Authorization header that differs from another, or is not
	// UTF-8, is a 400. Nil means Cookie and Authorization.
	Headers []string
	// Cookies are the names of the cookies to send and to key on, with * for
	// any characters, as in "dss_*". Nil means all but well-known ones of
	// analytics and load balancers, which change all the time.
	Cookies []string

	// TTL is how long an answer is reused. A user removed from a group, or
	// signed out elsewhere, keeps access for up to TTL. Zero means 10s;
	// negative asks DSS every time.
	TTL time.Duration
	// RefusalTTL is how long DSS's "anonymous" is remembered; a page or a form
	// asks again all the same. Zero means 2s; negative remembers none.
	RefusalTTL time.Duration
	// StaleIfError is how much longer than TTL an answer is reused while DSS is
	// down: while our own question, who we are, ends in a connection error, a
	// timeout, a 5xx or a 429. Where that question succeeds and a visitor's
	// lookup fails, nothing is bridged, nor is anything after DSS refused the
	// visitor. To bridge an outage in which DSS does not answer at all, Timeout
	// must be 3s or more. It cannot be set beside Resolver. Zero means never.
	StaleIfError time.Duration

	// Store shares answers with the other replicas of the application, so that all
	// together ask DSS about a visitor as often as one. The module rediscache has one
	// for Redis. An answer is used for up to TTL + 2s then, since the clocks of
	// replicas can differ by 2s; all need the same settings of what a visitor is
	// identified by, UserDetails and TTL. With a Store, [Middleware.Forget] and
	// [Middleware.ForgetUser] reach all replicas that hear it, and StaleIfError
	// bridges only while this one does. It cannot be set beside Resolver. Nil keeps
	// answers in memory only. See docs/replicas.md.
	Store Store
	// StoreSecrets seal what goes into the Store: one to four of at least 32 random
	// bytes each, the same for all replicas. The first one seals, all open, so that
	// they can be replaced step by step. Use other secrets for another DSS: two DSSs
	// at 127.0.0.1 on two machines have the same address.
	StoreSecrets [][]byte

	// Impersonation is how [ClientFromContext] acts as the visitor. Zero
	// means that it does not.
	Impersonation Impersonation
	// AllowAPIKeys admits callers that are an API key without a user. They
	// have no login and no groups, and are never impersonated.
	AllowAPIKeys bool
	// UserDetails adds display name and e-mail address to the identity. With
	// Impersonation they are read in the visitor's own settings (GET
	// /current-user), as the visitor. Without, or where that fails, they are asked
	// for with Client's rights (GET /users/{login}), which DSS 14.0 has and can
	// restrict. Each lookup costs one more call to DSS, and with Impersonation a second
	// one: for a ticket, or to have DSS confirm as whom the call is made.
	// If the calls fail, the identity stands without them; a missing right to
	// read users is a warning in the log, once a minute.
	UserDetails bool

	// LoginURL returns where a signed-out person is sent to sign in; empty shows
	// the refusal. A page is redirected. htmx gets it as HX-Redirect beside a 401.
	// A form, whose data would be lost, a frame of another site, which keeps no
	// cookies, and a person who may not open a page get it as a link on the
	// refusal's page. Programs and prefetches get none. Nil never sends anybody.
	//
	// Back is where the person wants to return: a path, with its query, of this
	// application and not of DSS. Escape it, as with [url.QueryEscape]. For a page
	// it is the path that arrived here: where a proxy strips a prefix, put that in
	// front. For htmx it is the path of HX-Current-URL, and for a form that of
	// Referer. These come from the browser and have the prefix. Where they name
	// another host than the request, as behind a proxy that rewrites Host, and
	// where there is none, back is "/". A sign-in page on another host needs a whole
	// URL: put your application's public address, from your own settings, in front.
	// No parameter of DSS's own sign-in page is known to take a way back.
	//
	// Two things no request tells: over plain http, that a frame is of another site;
	// and that a part asked by htmx is in such a frame. There a sign-in that does not
	// help goes round in circles. Forbid such frames by Content-Security-Policy.
	//
	// A browser is sent to sign in for a page once in 30s, and for at most four
	// pages in 30s: where signing in does not help, the refusal is shown. A cookie
	// remembers that. The next request for which DSS names the visitor clears it,
	// but not where [Middleware.Authenticate] admits it, which has no response.
	LoginURL func(r *http.Request, back string) string
	// OnError answers a request that is refused, and not redirected to sign in:
	// [Hooks] see both. [StatusCode] gives the status. Cache-Control, Vary, WWW-Authenticate and Retry-After are set
	// before, and over HTTP/1 the body has been read or given up, see
	// [Middleware.Refuse]. Nil means [WriteRefusal]; a function that calls it
	// passes on the request that it got, which knows where to sign in. The error
	// says what [Hooks] say of it.
	OnError func(http.ResponseWriter, *http.Request, error)
	// Logger gets what an operator must know. Nil means [slog.Default].
	Logger *slog.Logger
	// Hooks are called on lookups and refusals.
	Hooks Hooks

	// Timeout bounds everything a lookup may take. Zero means 5s.
	Timeout time.Duration
	// MaxLookups bounds the lookups under way at once. That many places open only
	// where they are needed and DSS is quick: there are 32 at first, or MaxLookups
	// if that is less, and never fewer. A quarter is reserved for visitors
	// known lately. A request waits at most 1s for its turn. Zero means 256; the
	// least is 2. Above 256, give [dss.Config] an HTTPClient whose transport keeps as
	// many idle connections. How many visitors that serves is in docs/capacity.md.
	MaxLookups int
	// MaxEntries bounds the answers remembered. Zero means 10,000. An answer with
	// more than 64 KiB of groups and other text is not remembered: its visitor
	// gets in, but each of the visitor's requests asks DSS. (1,000 groups with
	// names of 48 bytes are 64 KiB: a name counts 16 bytes more than its length.)
	MaxEntries int
	// MaxEntriesPerUser bounds the answers remembered for one user, who has one
	// per browser and API key. An account on more screens than that still gets in,
	// but for some of the requests DSS is asked: where n screens take turns, about
	// (MaxEntriesPerUser-1)/n of the requests are answered from memory. A cookie
	// or header that changes with each request fills the bound too; the log names
	// it. Zero means 32.
	MaxEntriesPerUser int
	// MaxHeaderBytes bounds what is sent to DSS about a visitor: the identifying
	// headers, without the cookies that are dropped. The identifying headers may
	// arrive with four times as much, so that other applications' cookies lock
	// nobody out. A request with more is refused with [ErrTooLarge], before DSS is
	// asked. Zero means 16 KiB.
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
	// ByTicket acts with a ticket that DSS gives for the visitor's browser. It
	// is the way that DSS documents for webapps: the group of the webapp's
	// run-as user needs the right "Impersonation in webapps".
	ByTicket
	// ByProxyUser acts as the visitor with Config.Client's credentials, which
	// must be those of an administrator. Before the first call for each answer
	// about the visitor, DSS is asked whom it takes such calls for.
	ByProxyUser
)

// asVisitor returns how to act as a visitor whose lookup is under way, nil if
// that is not to be done.
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

// check returns an error that names the setting which is wrong.
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
		return errors.New("dssauth: Config.StaleIfError has no effect beside Config.Resolver, of which nobody knows whether it is down: leave it zero, and bridge outages in the Resolver")
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
		return errors.New("dssauth: Config.Store cannot be set beside Config.Resolver, whose answers may not be those of other replicas: share them in the Resolver")
	case len(c.StoreSecrets) == 0:
		return errors.New("dssauth: Config.Store needs Config.StoreSecrets: at least one, of 32 random bytes, the same for all replicas")
	case len(c.StoreSecrets) > maxSecrets:
		return fmt.Errorf("dssauth: Config.StoreSecrets has %d secrets: %d are the most, and leave out those that no replica seals with any more", len(c.StoreSecrets), maxSecrets)
	case c.TTL < 0:
		return errors.New("dssauth: Config.Store needs remembered answers, but Config.TTL is negative: leave one of them out")
	}
	for i, secret := range c.StoreSecrets {
		switch {
		case len(secret) < 32:
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] has %d bytes: use 32 random ones at least, as from openssl rand -base64 32", i, len(secret))
		case !slices.ContainsFunc(secret, func(b byte) bool { return b != secret[0] }):
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] is one byte again and again: use 32 random ones, as from openssl rand -base64 32", i)
		case slices.ContainsFunc(c.StoreSecrets[:i], func(s []byte) bool { return bytes.Equal(s, secret) }):
			return fmt.Errorf("dssauth: Config.StoreSecrets[%d] is there twice: leave one out", i)
		}
	}
	return nil
}

// sharing returns what shares a's answers with other replicas, nil without a
// Store.
func (c *Config) sharing(names []string, a *answers) *sharing {
	if c.Store == nil {
		return nil
	}
	if u, err := url.Parse(c.Client.URL()); err == nil && loopback.Is(u.Hostname()) {
		c.Logger.Warn("dssauth: DSS is at a loopback address, which DSSs on other machines can have too: replicas that use another DSS need other Config.StoreSecrets", "url", c.Client.URL())
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
