// Package assertion tells an upstream who sent a request, in a form that it can
// verify: a JWT with an Ed25519 signature, and the public keys for it.
//
// # Revocation
//
// A user who loses a group keeps access for up to the gateway's TTL, and a stolen
// token proves the old groups for 60 s more: TTL + 60 s in all. The 10 s for
// which a token is kept add nothing. A kept token is sent only for an identity
// that the gateway has just admitted, and only if its content is still the same.
// It expires sooner than a token that is signed at that moment.
//
// # Clocks
//
// An upstream on another machine compares iat and exp with its own clock. If this
// clock is a second behind, iat is in the future, and PyJWT refuses the token: set
// its leeway to a few seconds. This also lengthens exp.
//
// # Rotation
//
// A gateway without key files has a new key after a restart. Upstreams do not
// know the id of this key, and must fetch the keys again. PyJWT's PyJWKClient
// does so at once. jose's createRemoteJWKSet waits until 30 s have passed since
// its last fetch (cooldownDuration), and refuses until then.
//
// With key files there is no gap:
//
//  1. Add the new key as the second file, and restart all gateways. They sign with
//     the old key, and publish both.
//  2. Wait until the upstreams have fetched the keys again: 10 minutes with jose's
//     default (cacheMaxAge), 5 with PyJWKClient's (lifespan) or a cache that follows
//     our Cache-Control. Then put the new key first, and restart.
//  3. Wait 60 s, until the last token of the old key has expired. Then remove the
//     old file, and restart.
package assertion

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/dssauth/dssauth"
)

const (
	lifetime = 60 * time.Second
	reuse    = 10 * time.Second // so a token that is sent is valid for at least 50 s more

	// Each login has one entry. More users at a time cost only signatures. A
	// larger token would not fit into most servers' header limits, so it is not
	// kept.
	maxTokens     = 10_000
	maxTokenBytes = 8 << 10

	jwksMaxAge = 5 * time.Minute
)

// Config holds the settings of a [Signer].
type Config struct {
	// Issuer and Audience become the claims iss and aud, which upstreams compare.
	// Both are required.
	Issuer, Audience string
	// KeyFiles hold one Ed25519 private key each, as PKCS #8 in PEM, which is what
	// `openssl genpkey -algorithm ed25519` writes. The first one signs; the public
	// keys of all are published. Without files a key is made, for this process
	// only.
	KeyFiles []string
}

// Signer makes assertions. It is safe for concurrent use. As an [http.Handler] it
// serves the public keys. It shows no private key when it is printed.
type Signer struct {
	issuer, audience string
	signer           jose.Signer
	keyIDs           []string // of the key that signs, then of the others
	exposed          []string
	jwks             []byte
	tokens           *lru.Cache[string, *token] // by login
}

// token is what was signed about one login.
type token struct {
	groups      []string
	name, email string
	issued      time.Time // the claim iat: whole seconds, no monotonic reading
	text        string
}

// Error says what is wrong with a field of a [Config].
type Error struct {
	Field string // Issuer, Audience or KeyFiles
	Index int    // in KeyFiles
	Err   error
}

const keyFiles = "KeyFiles"

func (e *Error) Error() string {
	if e.Field == keyFiles {
		return fmt.Sprintf("assertion: Config.KeyFiles[%d]: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("assertion: Config.%s: %v", e.Field, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// New returns a Signer. Its errors name the field and the file, and repeat nothing
// of a file's content.
func New(c Config) (*Signer, error) {
	for _, field := range []struct{ name, value, example string }{
		{"Issuer", c.Issuer, "https://apps.example"},
		{"Audience", c.Audience, "report-app"},
	} {
		switch {
		case field.value == "":
			return nil, &Error{field.name, 0, fmt.Errorf("required, as in %s", field.example)}
		case !utf8.ValidString(field.value) || strings.TrimSpace(field.value) != field.value:
			return nil, &Error{field.name, 0, fmt.Errorf("%q: must be UTF-8 without blanks around it, as in %s", field.value, field.example)}
		}
	}
	s := &Signer{issuer: c.Issuer, audience: c.Audience}
	var keys []ed25519.PrivateKey
	for i, file := range c.KeyFiles {
		key, exposed, err := readKey(file)
		if err != nil {
			return nil, &Error{keyFiles, i, err}
		}
		if j := slices.IndexFunc(keys, func(k ed25519.PrivateKey) bool { return k.Equal(key) }); j >= 0 {
			return nil, &Error{keyFiles, i, fmt.Errorf("%q holds the same key as KeyFiles[%d], %q: name one of them", file, j, c.KeyFiles[j])}
		}
		keys = append(keys, key)
		if exposed {
			s.exposed = append(s.exposed, file)
		}
	}
	if len(keys) == 0 {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, fmt.Errorf("assertion: making a key: %w", err)
		}
		keys = append(keys, key)
	}

	var set jose.JSONWebKeySet
	for _, key := range keys {
		public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.EdDSA), Use: "sig"}
		thumbprint, err := public.Thumbprint(crypto.SHA256) // RFC 7638
		if err != nil {
			return nil, fmt.Errorf("assertion: the id of a key: %w", err)
		}
		public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
		set.Keys = append(set.Keys, public)
		s.keyIDs = append(s.keyIDs, public.KeyID)
	}
	var err error
	if s.jwks, err = json.Marshal(set); err != nil {
		return nil, fmt.Errorf("assertion: the public keys: %w", err)
	}
	s.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: keys[0], KeyID: s.keyIDs[0]}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("assertion: a signer: %w", err)
	}
	s.tokens, err = lru.New[string, *token](maxTokens)
	return s, err
}

// Exposed returns the key files that users outside the file's group may read, or
// that users other than the owner may change. To the upstream, such a user can
// pretend to be anybody: the caller should warn of these files.
func (s *Signer) Exposed() []string { return slices.Clone(s.exposed) }

// Sign returns a token, which is valid for 50 to 60 s more. A token is used again
// for up to 10 s, for a visitor with the same login, groups, name and email.
//
// It is an error if id has no login, like an anonymous visitor or an API key
// without a user: a token about nobody must not exist. It is also an error if
// the login or a group is not UTF-8: JSON would turn it into another name.
func (s *Signer) Sign(id dssauth.Identity) (string, error) {
	now := time.Now().Round(0) // tokens age while the machine is suspended, too
	groups := id.Groups()
	if kept, ok := s.tokens.Get(id.Login); ok && kept.serves(id, groups, now) {
		return kept.text, nil
	}
	made, err := s.sign(id, groups, now.Truncate(time.Second))
	if err != nil {
		return "", fmt.Errorf("assertion: %w", err)
	}
	if len(made.text) <= maxTokenBytes {
		s.tokens.Add(id.Login, made)
	}
	return made.text, nil
}

// serves reports whether t says the same about id as a new token would. The age
// can be negative: the clock may have been set back.
func (t *token) serves(id dssauth.Identity, groups []string, now time.Time) bool {
	age := now.Sub(t.issued)
	return age >= 0 && age < reuse && t.name == id.DisplayName && t.email == id.Email && slices.Equal(t.groups, groups)
}

func (s *Signer) sign(id dssauth.Identity, groups []string, now time.Time) (*token, error) {
	if id.Login == "" {
		return nil, errors.New("an identity without a login: only users get an assertion")
	}
	if !utf8.ValidString(id.Login) {
		return nil, fmt.Errorf("the login %q is not UTF-8", id.Login)
	}
	for _, group := range groups {
		if !utf8.ValidString(group) {
			return nil, fmt.Errorf("the group %q of %s is not UTF-8", group, id.Login)
		}
	}
	claims, err := json.Marshal(struct {
		Issuer   string   `json:"iss"`
		Audience string   `json:"aud"`
		Subject  string   `json:"sub"`
		Groups   []string `json:"groups"`
		Name     string   `json:"name,omitempty"`
		Email    string   `json:"email,omitempty"`
		IssuedAt int64    `json:"iat"`
		Expires  int64    `json:"exp"`
	}{
		s.issuer, s.audience, id.Login, append([]string{}, groups...), // [] and never null
		id.DisplayName, id.Email, now.Unix(), now.Add(lifetime).Unix(),
	})
	if err != nil {
		return nil, err
	}
	signed, err := s.signer.Sign(claims)
	if err != nil {
		return nil, err
	}
	text, err := signed.CompactSerialize()
	return &token{groups, id.DisplayName, id.Email, now, text}, err
}

// ServeHTTP serves the public keys as a JSON Web Key Set.
func (s *Signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the public keys can be read only", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json") // some clients refuse jwk-set+json
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(jwksMaxAge.Seconds())))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(s.jwks)))
	if r.Method == http.MethodGet {
		w.Write(s.jwks)
	}
}

// Format prints the issuer, the audience and the ids of the keys, for every verb.
func (s *Signer) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "assertion.Signer{iss %q, aud %q, keys %q}", s.issuer, s.audience, s.keyIDs)
}
