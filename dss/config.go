package dss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dssauth/dssauth/internal/loopback"
)

// Config names the DSS to call, and the credentials.
//
// It prints without its credentials, with two exceptions: fmt shows them if a
// Config is in an unexported field of another struct, and for the verbs %p and
// %w.
type Config struct {
	// URL is the URL of DSS, as in https://dss.example or https://example.com/dss.
	// Required.
	URL string

	// APIKey is a personal or global API key of DSS. One of APIKey, APIKeySource
	// and Ticket is required.
	APIKey string

	// APIKeySource gives the API key if keys are replaced while the application
	// runs. New asks it. Each time DSS rejects its key, it is asked for another
	// one: one question at a time, at most once a second, from a goroutine of its
	// own, with a context that ends after 5 seconds. It must return then: it is
	// not asked again before it returns. The rejected call waits up to a second
	// for the answer. With another key it is made once more, if its body can be
	// sent twice. Copies of the client share the key.
	//
	// New fails if the source fails, panics, or gives a text that cannot be a key.
	// Later, a client keeps its key in these cases, and also if the source gives
	// the same key again. The error gives the reason, and quotes the source's own
	// error as one line. Do not put a key into that error.
	//
	// After a question about a browser the source is not asked: DSS sends the same
	// reply if it does not know the browser. It is asked after any other call,
	// such as [Client.AuthInfo].
	APIKeySource func(context.Context) (string, error)

	// Ticket is the ticket that DSS gives to its own processes, in DKU_API_TICKET.
	Ticket string

	// HTTPClient gives the transport and the timeout of calls; its redirect policy
	// and its cookies are not used. The transport must leave Authorization and
	// X-DKU headers as they are. Nil, or a client without a Transport, means a
	// transport that suits DSS: it waits at most 5 seconds to connect and 5
	// minutes for a reply to begin, keeps up to 256 idle connections for up to a
	// minute, and uses a proxy from the environment for https only. A Transport
	// together with the TLS fields below is an error: set them on the Transport.
	HTTPClient *http.Client

	// RootCAs are the authorities that may sign DSS's certificate. Nil means the
	// system's.
	RootCAs *x509.CertPool

	// Certificates are the client certificates, for a DSS or a proxy before it
	// that asks for one.
	Certificates []tls.Certificate

	// InsecureSkipVerify accepts any certificate. Anybody between the application
	// and DSS can then read the credentials. Prefer RootCAs.
	InsecureSkipVerify bool

	// Logger gets a warning if others could read the credentials: for plain http
	// to a host that is not local, and for InsecureSkipVerify. Nil means
	// [slog.Default].
	Logger *slog.Logger
}

// Format prints the URL and the kind of credentials, for every verb.
func (c Config) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "dss.Config{URL: %s, %s}", quoteURL(c.URL), credentialKind(c))
}

// MarshalText is the text of Format, for slog, JSON, XML and YAML: otherwise
// they would show the credentials, and the keys of client certificates.
func (c Config) MarshalText() ([]byte, error) { return fmt.Append(nil, c), nil }

func credentialKind(c Config) string {
	switch {
	case c.APIKey != "":
		return "API key"
	case c.APIKeySource != nil:
		return "API key from a source"
	case c.Ticket != "":
		return "ticket"
	}
	return "no credentials"
}

// New returns a client for the DSS that cfg describes. It does not call DSS:
// wrong settings are an error here, wrong credentials are an error of the first
// call. It waits up to 5 seconds for cfg.APIKeySource.
func New(cfg Config) (*Client, error) {
	return newClient(cfg, origin{from: "Config"})
}

// origin holds facts about the settings that only FromEnv knows.
type origin struct {
	from       string              // the source, in words
	fields     map[string]string   // the source's names for the fields of Config
	callOrigin string              // X-DKU-CallOrigin, or ""
	pinned     []*x509.Certificate // DSS's own certificate or its authority; nil: Config decides
	inside     bool                // inside DSS: no proxy is on the way to DSS
}

// field returns the name that the source has for a field of Config.
func (o origin) field(name string) string {
	if f, ok := o.fields[name]; ok {
		return f
	}
	return "Config." + name
}

func newClient(cfg Config, o origin) (*Client, error) {
	base, err := parseBaseURL(o.field("URL"), cfg.URL)
	if err != nil {
		return nil, err
	}
	own, err := ownCredentials(cfg, o)
	if err != nil {
		return nil, err
	}
	if cfg.HTTPClient != nil && (cfg.RootCAs != nil || len(cfg.Certificates) > 0 || cfg.InsecureSkipVerify) {
		return nil, errors.New("dss: Config.HTTPClient: it has TLS settings of its own; set RootCAs, Certificates and InsecureSkipVerify on its Transport")
	}

	in := &instance{base: base, from: o.from, callOrigin: o.callOrigin}
	if cfg.HTTPClient != nil {
		if cfg.HTTPClient.Timeout < 0 {
			return nil, fmt.Errorf("dss: Config.HTTPClient: Timeout %v is negative; 0 means none", cfg.HTTPClient.Timeout)
		}
		in.timeout = cfg.HTTPClient.Timeout
		in.wire = cfg.HTTPClient.Transport
	}
	if in.wire == nil {
		in.wire = newWire(cfg, base, o)
	}
	if cfg.APIKeySource != nil { // last: it takes time
		name := o.field("APIKeySource")
		keys, err := newKeySource(name, cfg.APIKeySource)
		if err != nil {
			return nil, err
		}
		own = caller{kind: "API key from " + name, keys: keys, current: func(context.Context) (*credentials, error) { return keys.current(), nil }}
	}
	warn(cfg, base)
	return &Client{dss: in, as: own}, nil
}

func ownCredentials(cfg Config, o origin) (caller, error) {
	key, ticket := o.field("APIKey"), o.field("Ticket")
	switch {
	case cfg.APIKeySource != nil && cfg.APIKey != "":
		return caller{}, fmt.Errorf("dss: %s and %s are both set; set one of them", key, o.field("APIKeySource"))
	case cfg.APIKeySource != nil && cfg.Ticket != "":
		return caller{}, fmt.Errorf("dss: %s and %s are both set; set one of them", ticket, o.field("APIKeySource"))
	case cfg.APIKeySource != nil:
		return caller{}, nil
	case cfg.APIKey != "" && cfg.Ticket != "":
		return caller{}, fmt.Errorf("dss: %s and %s are both set; set one of them", key, ticket)
	case cfg.APIKey != "":
		if err := checkAPIKey(cfg.APIKey); err != nil {
			return caller{}, fmt.Errorf("dss: %s: %w", key, err)
		}
		return caller{kind: "API key", current: keyCredentials(cfg.APIKey).always}, nil
	case cfg.Ticket != "":
		if err := checkTicket(cfg.Ticket); err != nil {
			return caller{}, fmt.Errorf("dss: %s: %w", ticket, err)
		}
		return callerWithTicket("ticket", cfg.Ticket), nil
	}
	return caller{}, fmt.Errorf("dss: %s and %s are both empty; set one of them", key, ticket)
}

func warn(cfg Config, base *url.URL) {
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	if base.Scheme == "http" && !loopback.Is(base.Hostname()) {
		log.Warn("dss: credentials and identities go to DSS unencrypted; use https", "url", base.String())
	}
	if cfg.InsecureSkipVerify {
		log.Warn("dss: DSS's certificate is not checked, so that anybody in between can read the credentials; trust its authority instead", "url", base.String())
	}
}

// apiPath is the path of DSS's API below the URL of DSS. A proxy before DSS may
// call it proxiedAPIPath.
const (
	apiPath        = "/dip/publicapi"
	proxiedAPIPath = "/public/api"
)

// parseBaseURL returns the URL of DSS without a slash at its end. Errors name
// the field and quote the value, unless it may hold a password.
func parseBaseURL(field, value string) (*url.URL, error) {
	fail := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("dss: %s %s: %s", field, quoteURL(value), why)
	}
	if value == "" {
		return nil, fmt.Errorf("dss: %s is empty; set it to where DSS is, as in https://dss.example", field)
	}
	if strings.ContainsFunc(value, isSpaceOrControl) {
		return fail("spaces and control characters are not allowed")
	}
	if strings.Contains(value, "@") {
		return fail("a user name or password is not allowed; the credentials have a setting of their own")
	}
	if scheme, _, ok := strings.Cut(value, "://"); !ok && !strings.HasPrefix(value, "file:") {
		return fail("scheme is required, as in https://dss.example")
	} else if s := strings.ToLower(scheme); s != "https" && s != "http" {
		return fail("scheme must be https or http, as in https://dss.example")
	}
	u, err := url.Parse(value)
	if err != nil {
		return fail("it is not a URL such as https://dss.example")
	}
	switch {
	case u.Hostname() == "":
		return fail("host is required, as in https://dss.example")
	case u.RawQuery != "" || u.ForceQuery:
		return fail("a query is not allowed; end it before the ?")
	case strings.Contains(value, "#"):
		return fail("a fragment is not allowed; end it before the #")
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !isPort(u.Port()):
		return fail("port must be between 1 and 65535")
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), apiPath):
		return fail("leave out " + apiPath + ", which is added to it")
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), proxiedAPIPath):
		return fail("leave out " + proxiedAPIPath + ": " + apiPath + " is added, and is the same API")
	case checkPath(strings.TrimRight(u.EscapedPath(), "/")) != nil:
		return fail("its path must be a plain one, as in https://example.com/dss")
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// quoteURL quotes a URL without the parts that may be credentials.
func quoteURL(value string) string {
	if strings.Contains(value, "@") {
		return "(not shown, it may hold a password)"
	}
	if len(value) >= 16 && !strings.ContainsAny(value, ".:/") { // a key in the wrong place
		return "(not shown, it may be an API key)"
	}
	if i := strings.IndexAny(value, "?#"); i >= 0 {
		value = value[:i+1] + "…"
	}
	return strconv.Quote(clip(value, 200))
}
