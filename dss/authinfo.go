package dss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
)

// AuthInfo is what DSS says about a caller. A reply that does not identify the
// caller for certain is an error instead: see [Client.AuthInfo].
type AuthInfo struct {
	// AuthSource is how the caller authenticated, as in USER_FROM_UI and
	// PERSONAL_API_KEY. It is empty if DSS does not name it.
	AuthSource string

	// Via lists the intermediaries, if DSS names them.
	Via []string

	// AuthIdentifier is the login of a user or the id of an API key. It is empty
	// for an anonymous caller. Use Login to tell them apart.
	AuthIdentifier string

	// Groups are the user's groups, or those of an API key without a user: such a
	// key can have groups since DSS 14.3. They are nil if the reply has no list of
	// groups.
	Groups []string

	// UserProfile is the user's profile, as in DESIGNER.
	UserProfile string

	// AssociatedDSSUser is the login that the caller acts as, if DSS names it.
	AssociatedDSSUser string

	// UserForImpersonation is the login that jobs of the caller run as.
	UserForImpersonation string

	// Secrets are the user's secrets, if asked for by WithSecrets.
	Secrets []Secret
}

// Login returns the caller's login. It is empty for an anonymous caller, and
// for an API key without a user, even if the key's id looks like a login.
func (a AuthInfo) Login() string {
	switch {
	case a.IsAnonymous():
		return ""
	case strings.Contains(strings.ToUpper(a.AuthSource), "API_KEY") && a.AuthSource != "PERSONAL_API_KEY":
		return ""
	case a.AssociatedDSSUser != "":
		return a.AssociatedDSSUser
	case a.AuthSource == "USER_FROM_UI":
		return a.AuthIdentifier
	case a.AuthSource == "" && a.Groups != nil:
		// A DSS that does not say how callers authenticate is older than 14.3. Global
		// API keys can be in groups only since 14.3.
		return a.AuthIdentifier
	}
	return ""
}

// IsAnonymous reports whether DSS answered that the caller is not signed in.
func (a AuthInfo) IsAnonymous() bool { return a.AuthIdentifier == "" }

// Secret is a user's secret. It prints as its name.
type Secret struct {
	Name  string
	value func() string
}

// Value returns the secret text.
func (s Secret) Value() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// Format prints the name only, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "secret %q [redacted]", s.Name) }

// LogValue is the text of Format, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// AuthInfoOption changes a question to DSS about a caller.
type AuthInfoOption func(*authInfoOptions)

type authInfoOptions struct{ secrets bool }

// WithSecrets asks for the user's secrets as well.
func WithSecrets() AuthInfoOption {
	return func(o *authInfoOptions) { o.secrets = true }
}

// AuthInfo asks DSS which caller this client is.
//
// A reply outside 2xx is an [*Error]. A reply that does not identify the caller
// for certain is an error that wraps [ErrUnexpectedReply]. Examples are a login
// page, a missing authIdentifier, a login with control characters or with
// spaces at its ends, and a member that occurs twice, is spelled in another
// case or has another type.
//
// DSS: GET /auth/info
func (c *Client) AuthInfo(ctx context.Context, options ...AuthInfoOption) (AuthInfo, error) {
	return c.authInfo(ctx, call{method: http.MethodGet, path: "/auth/info"}, options)
}

// AuthInfoFromBrowserHeaders returns the user whose browser sent h. DSS decides
// by the cookies and credentials in h. The X-DKU headers are left out. The
// other headers are sent as a Python server reads them: the lines of one header
// are joined with a comma, or a semicolon for Cookie, and a value that is not
// valid UTF-8 is read as Latin-1. Authorization headers that differ are an
// error.
//
// Errors are those of [Client.AuthInfo]. An [*Error] that is NotAuthenticated
// means that DSS does not know the browser, or that it rejects the credentials
// of this client. AuthInfo tells the two apart.
//
// DSS: POST /auth/info-from-browser-headers
func (c *Client) AuthInfoFromBrowserHeaders(ctx context.Context, h http.Header, options ...AuthInfoOption) (AuthInfo, error) {
	k, err := browserCall(pathBrowserInfo, h)
	if err != nil {
		return AuthInfo{}, err
	}
	return c.authInfo(ctx, k, options)
}

func (c *Client) authInfo(ctx context.Context, k call, options []AuthInfoOption) (AuthInfo, error) {
	var o authInfoOptions
	for _, option := range options {
		option(&o)
	}
	k.read = true
	withSecrets := "False" // as the official client writes it
	if o.secrets {
		withSecrets = "True"
	}
	k.path += "?withSecrets=" + withSecrets
	var info AuthInfo
	k.reply = decoded(maxReplyBytes, func(body []byte) (err error) {
		info, err = decodeAuthInfo(body)
		return err
	})
	if err := c.call(ctx, k); err != nil {
		return AuthInfo{}, err
	}
	if !o.secrets {
		info.Secrets = nil
	}
	return info, nil
}

func decodeAuthInfo(body []byte) (AuthInfo, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	members, err := p.object(body)
	if err != nil {
		return AuthInfo{}, fmt.Errorf("the body %w", err)
	}
	r := newReader(members, "authSource", "via", "authIdentifier", "groups", "userProfile",
		"associatedDSSUser", "associatedDSSUSer", "userForImpersonation", "secrets")
	r.parser = p
	var a AuthInfo
	r.text("authSource", &a.AuthSource)
	r.text("authIdentifier", &a.AuthIdentifier)
	r.texts("groups", &a.Groups)
	r.text("userProfile", &a.UserProfile)
	r.text("userForImpersonation", &a.UserForImpersonation)
	r.associatedUser(&a.AssociatedDSSUser)
	r.secrets("secrets", &a.Secrets)
	a.Via = r.via()
	if !r.has("authIdentifier") {
		r.fail("authIdentifier", errors.New("is missing"))
	}
	if a.AuthIdentifier != "" {
		r.name("authIdentifier", a.AuthIdentifier)
	} else if a.AssociatedDSSUser != "" {
		r.fail("associatedDSSUser", errors.New("is there, and authIdentifier is empty"))
	}
	if r.err != nil {
		return AuthInfo{}, r.err
	}
	return a, nil
}

// name refuses a value that cannot be a login.
func (r *reader) name(member, login string) {
	err := checkName(login)
	if err == errUndecoded { // JSON has other spellings of the same text
		err = fmt.Errorf("%w, or half a surrogate pair", err)
	}
	if err != nil {
		r.fail(member, err)
	}
}

// associatedUser reads a login. DSS's documentation and samples spell the
// member's name in two ways, and show its value as a string or as an object
// with a login.
func (r *reader) associatedUser(to *string) {
	for _, spelling := range []string{"associatedDSSUser", "associatedDSSUSer"} {
		if !r.has(spelling) {
			continue
		}
		login, err := parseUser(r.value(spelling))
		switch {
		case err != nil:
			r.fail(spelling, err)
		case login == "": // counts as absent
		case *to != "" && *to != login:
			r.fail(spelling, errors.New("differs from its other spelling"))
		default:
			r.name(spelling, login)
			*to = login
		}
	}
}

func parseUser(value []byte) (string, error) {
	if value[0] != '{' {
		return parseString(value)
	}
	members, err := parseObject(value)
	if err != nil {
		return "", err
	}
	var login string
	r := newReader(members, "login")
	r.text("login", &login)
	if r.err == nil && !r.has("login") {
		r.fail("login", errors.New("is missing"))
	}
	if r.err != nil {
		return "", fmt.Errorf("is an object whose %w", r.err)
	}
	return login, nil
}

// via reads the strings of a list. Any other shape yields nothing and is not
// an error, since via identifies nobody.
func (r *reader) via() []string {
	elements, err := r.parser.array(r.value("via"))
	if err != nil {
		return nil
	}
	via := []string{}
	for _, element := range elements {
		if s, err := parseString(element); err == nil {
			via = append(via, s)
		}
	}
	return via
}

func (r *reader) secrets(name string, to *[]Secret) {
	if !r.has(name) {
		return
	}
	elements, err := r.parser.array(r.value(name))
	if err != nil {
		r.fail(name, err)
		return
	}
	for _, element := range elements {
		secret, err := parseSecret(element)
		if err != nil {
			r.fail(name, fmt.Errorf("has an element that %w", err))
			return
		}
		*to = append(*to, secret)
	}
}

func parseSecret(element []byte) (Secret, error) {
	members, err := parseObject(element)
	if err != nil {
		return Secret{}, err
	}
	// DSS's samples read a secret's name from the member key, and its client
	// writes it to the member name.
	var name, key, value string
	r := newReader(members, "name", "key", "value")
	r.text("name", &name)
	r.text("key", &key)
	r.text("value", &value)
	switch {
	case !r.has("name") && !r.has("key"):
		r.fail("name", errors.New("is missing"))
	case !r.has("name"):
		name = key
	case r.has("key") && key != name:
		r.fail("key", errors.New("differs from its name"))
	}
	if r.err != nil {
		return Secret{}, fmt.Errorf("is a secret whose %w", r.err)
	}
	return Secret{Name: name, value: func() string { return value }}, nil
}
