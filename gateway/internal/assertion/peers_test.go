package assertion

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/upstreams"
)

// gateway serves the keys of one Signer after the other.
type gateway struct {
	*httptest.Server
	signer  atomic.Pointer[Signer]
	fetches map[string]*atomic.Int64 // by path
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{fetches: map[string]*atomic.Int64{"/node": {}, "/python": {}}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.signer.Load().ServeHTTP(w, r)
		g.fetches[r.URL.Path].Add(1)
	}))
	t.Cleanup(g.Close)
	return g
}

// startPeers returns URLs of applications that keep the public keys for 0.2 s.
func (g *gateway) startPeers(t *testing.T) map[string]string {
	t.Helper()
	const age = "JWKS_MAX_AGE=0.2"
	return map[string]string{
		"node":   upstreams.Node(t, "verified.js", g.URL+"/node", age),
		"python": upstreams.Python(t, g.URL+"/python", age),
	}
}

func TestPeersVerify(t *testing.T) {
	g := startGateway(t)
	file := writeKey(t, newKey(t))
	s := newSigner(t, file)
	g.signer.Store(s)
	peers := g.startPeers(t)

	groups := []string{"sales", "R&D, Zürich", "a b", `"x"`, "größe,", "日本", "%2C"}
	ann := dssauth.NewIdentity("ann", groups...)
	ann.DisplayName, ann.Email = "Ann Ä", "ann@apps.example"
	good, err := s.Sign(ann)
	require.NoError(t, err)
	now := time.Now()
	aged := func(by time.Duration) string {
		made, err := s.sign(ann, groups, now.Add(-by))
		require.NoError(t, err)
		return made.text
	}
	none, err := s.Sign(dssauth.NewIdentity("bob"))
	require.NoError(t, err)
	refused := forgeries(t, s, file, ann)
	refused["expired a second ago"] = aged(lifetime + time.Second)

	for peer, url := range peers {
		accepted := func(t *testing.T) {
			status, seen := upstreams.Ask(t, url, good)
			require.Equal(t, 200, status, seen.Error)
			assert.Equal(t, "ann", seen.Login)
			assert.Equal(t, groups, seen.Groups)
			assert.Equal(t, "Ann Ä", seen.Name)
			assert.Equal(t, "ann@apps.example", seen.Email)
			assert.Equal(t, 60.0, seen.Claims["exp"].(float64)-seen.Claims["iat"].(float64))
		}
		t.Run(peer, func(t *testing.T) {
			accepted(t)
			status, seen := upstreams.Ask(t, url, none)
			require.Equal(t, 200, status, seen.Error)
			assert.Equal(t, "bob", seen.Login)
			assert.Equal(t, []any{}, seen.Claims["groups"])
			status, seen = upstreams.Ask(t, url, aged(lifetime/2))
			assert.Equal(t, 200, status, "a token half of its time ago: %s", seen.Error)
			for name, token := range refused {
				status, seen := upstreams.Ask(t, url, token)
				assert.Equal(t, 401, status, name)
				assert.NotEmpty(t, seen.Error, name)
				assert.Empty(t, seen.Login, name)
			}
			accepted(t)
		})
	}
}

// forgeries are tokens that differ from a good one in one thing each.
func forgeries(t *testing.T, s *Signer, file string, id dssauth.Identity) map[string]string {
	t.Helper()
	by := func(c Config) string {
		signer, err := New(c)
		require.NoError(t, err)
		token, err := signer.Sign(id)
		require.NoError(t, err)
		return token
	}
	good := strings.Split(by(Config{upstreams.Issuer, upstreams.Audience, []string{file}}), ".")
	encode := base64.RawURLEncoding.EncodeToString
	header := func(format string) string { return encode(fmt.Appendf(nil, format, s.keyIDs[0])) }

	payload, err := base64.RawURLEncoding.DecodeString(good[1])
	require.NoError(t, err)
	changed := strings.Replace(string(payload), `"ann"`, `"eve"`, 1)
	require.NotEqual(t, string(payload), changed)

	strange := newKey(t)
	as := func(kid string, options *jose.SignerOptions) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: strange, KeyID: kid}}, options)
		require.NoError(t, err)
		signed, err := signer.Sign(payload)
		require.NoError(t, err)
		token, err := signed.CompactSerialize()
		require.NoError(t, err)
		return token
	}
	none := header(`{"alg":"none","typ":"JWT","kid":%q}`) + "." + good[1] + "."
	tokens := map[string]string{
		"no token":                        "",
		"not a token":                     "ann",
		"another audience":                by(Config{upstreams.Issuer, "other-app", []string{file}}),
		"another issuer":                  by(Config{"https://other.example", upstreams.Audience, []string{file}}),
		"another key":                     by(Config{upstreams.Issuer, upstreams.Audience, nil}),
		"another key under our id":        as(s.keyIDs[0], nil),
		"another key, which it brings":    as("", &jose.SignerOptions{EmbedJWK: true}),
		"no key id":                       as("", nil),
		"a changed payload":               good[0] + "." + encode([]byte(changed)) + "." + good[2],
		"no signature":                    good[0] + "." + good[1] + ".",
		"alg none":                        none,
		"alg none, with the signature":    none + good[2],
		"alg none in another case":        header(`{"alg":"nOnE","typ":"JWT","kid":%q}`) + "." + good[1] + ".",
		"another algorithm in the header": header(`{"alg":"ES256","typ":"JWT","kid":%q}`) + "." + good[1] + "." + good[2],
		"two tokens, as of two fields":    strings.Join(good, ".") + ", " + strings.Join(good, "."),
		"the signature of another token":  good[0] + "." + good[1] + "." + strings.Split(by(Config{upstreams.Issuer, "x", []string{file}}), ".")[2],
	}

	key, _, err := readKey(file)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	raw := der[len(der)-32:]
	for name, secret := range map[string][]byte{
		"bytes": raw, "DER": der, "x": []byte(encode(raw)), "JWKS": published(s),
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		signed := header(`{"alg":"HS256","typ":"JWT","kid":%q}`) + "." + good[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		tokens["HS256 with the public key's "+name] = signed + "." + encode(mac.Sum(nil))
	}
	return tokens
}

// The steps are those of the package's documentation.
func TestRotationRefusesNoVisitor(t *testing.T) {
	older, newer := writeKey(t, newKey(t)), writeKey(t, newKey(t))
	ann := dssauth.NewIdentity("ann", "sales")
	g := startGateway(t)
	sign := func() string {
		token, err := g.signer.Load().Sign(ann)
		require.NoError(t, err)
		return token
	}
	g.signer.Store(newSigner(t, older))
	peers := g.startPeers(t)

	requests, refused := 0, 0
	ask := func(token string) {
		for peer, url := range peers {
			requests++
			if status, seen := upstreams.Ask(t, url, token); status != 200 || seen.Login != "ann" {
				refused++
				t.Logf("%s: %d %s", peer, status, seen.Error)
			}
		}
	}
	first := sign()
	ask(first)
	for _, files := range [][]string{{older, newer}, {newer, older}, {newer}} {
		before := sign() // under way during the restart
		fetched := map[string]int64{}
		for path, n := range g.fetches {
			fetched[path] = n.Load()
		}
		g.signer.Store(newSigner(t, files...))
		turnedOver := false
		for n := 0; n < 25 || !turnedOver; n++ {
			ask(before)
			ask(sign())
			turnedOver = true
			for path, n := range g.fetches {
				turnedOver = turnedOver && n.Load() > fetched[path]
			}
			require.Less(t, requests, 100_000, "the peers fetch no keys")
		}
		ask(before)
		ask(sign())
	}
	t.Logf("figure: %d of %d requests refused while keys rotate", refused, requests)
	assert.Zero(t, refused)
	header := func(token string) string { return strings.Split(token, ".")[0] }
	assert.NotEqual(t, header(first), header(sign()), "another key signs in the end")
}
