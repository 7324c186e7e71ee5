// Package dss calls the API of a Dataiku DSS instance.
package dss

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"
)

var errSkeleton = errors.New("dss: not yet")

// ErrNotConfigured is what FromEnv returns where no source of settings is present.
var ErrNotConfigured = errors.New("dss: not configured")

// ErrUnexpectedReply is wrapped by errors about a 2xx reply that is not what was asked for.
var ErrUnexpectedReply = errors.New("unexpected reply")

type Config struct {
	URL                string
	APIKey             string `json:"-"`
	Ticket             string `json:"-"`
	HTTPClient         *http.Client
	RootCAs            *x509.CertPool
	Certificates       []tls.Certificate
	InsecureSkipVerify bool
}

type Client struct{}

func New(Config) (*Client, error) { return nil, errSkeleton }
func FromEnv() (*Client, error)   { return nil, ErrNotConfigured }

type AuthInfoOption func(*authInfoOptions)
type authInfoOptions struct{ secrets bool }

func WithSecrets() AuthInfoOption { return func(o *authInfoOptions) { o.secrets = true } }

type AuthInfo struct {
	AuthSource           string
	Via                  []string
	AuthIdentifier       string
	Groups               []string // nil where the reply has no groups
	UserProfile          string
	AssociatedDSSUser    string
	UserForImpersonation string
	Secrets              []Secret
}

// Login is the user's login, or "" for API keys and nobody.
func (AuthInfo) Login() string { return "" }

// IsNobody reports whether DSS said that nobody is signed in.
func (AuthInfo) IsNobody() bool { return true }

type Secret struct {
	Name  string
	value func() string
}

func (s Secret) Value() string { return s.value() }

func (*Client) AuthInfo(context.Context, ...AuthInfoOption) (AuthInfo, error) {
	return AuthInfo{}, errSkeleton
}
func (*Client) AuthInfoFromBrowserHeaders(context.Context, http.Header, ...AuthInfoOption) (AuthInfo, error) {
	return AuthInfo{}, errSkeleton
}
func (*Client) TicketFromBrowserHeaders(context.Context, http.Header) (string, error) {
	return "", errSkeleton
}
func (*Client) As(login string) (*Client, error)                                        { return nil, errSkeleton }
func (*Client) WithTicket(ticket string) (*Client, error)                               { return nil, errSkeleton }
func (c *Client) WithTicketSource(source func(context.Context) (string, error)) *Client { return c }
func (*Client) User(ctx context.Context, login string) (User, error)                    { return User{}, errSkeleton }
func (*Client) OwnSettings(context.Context) (*Settings, error)                          { return nil, errSkeleton }
func (*Client) UpdateOwnSettings(context.Context, func(*Settings) error) error          { return errSkeleton }
func (*Client) Do(ctx context.Context, method, path string, in, out any) error          { return errSkeleton }
func (*Client) Transport() http.RoundTripper                                            { return nil }
func (*Client) CloseIdleConnections()                                                   {}

// String tells the URL, the kind of credentials and where they came from: never the credentials.
func (*Client) String() string { return "" }

type Settings struct{}

func (*Settings) Properties() map[string]string                                                   { return nil }
func (*Settings) SetProperty(name, value string)                                                  {}
func (*Settings) RemoveProperty(name string)                                                      {}
func (*Settings) AddSecret(name, value string)                                                    {}
func (*Settings) RemoveSecret(name string)                                                        {}
func (*Settings) SetBasicConnectionCredential(connection, user, password string)                  {}
func (*Settings) RemoveConnectionCredential(connection string)                                    {}
func (*Settings) SetBasicPluginCredential(plugin, paramSet, preset, param, user, password string) {}
func (*Settings) SetOAuth2PluginCredential(plugin, paramSet, preset, param, refreshToken string)  {}
func (*Settings) RemovePluginCredential(plugin, paramSet, preset, param string)                   {}
func (*Settings) Save(context.Context) error                                                      { return errSkeleton }

type User struct {
	Login, DisplayName, Email string
	Groups                    []string
	Enabled                   bool
}

type Error struct {
	StatusCode    int
	Type, Message string
	RetryAfter    time.Duration
}

func (*Error) Error() string { return "" }

// NotAuthenticated reports a JSON 401 NotAuthenticatedException.
func (*Error) NotAuthenticated() bool { return false }
