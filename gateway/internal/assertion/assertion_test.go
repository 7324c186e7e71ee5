package assertion

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/gateway/internal/upstreams"
)

func TestClaims(t *testing.T) {
	ann := dssauth.NewIdentity("ann", "sales", "R&D, Zürich", `a"b\c`)
	ann.DisplayName, ann.Email = "Ann Ä", "ann@apps.example"
	for name, row := range map[string]struct {
		id   dssauth.Identity
		want string
	}{
		"all that is known": {ann, `"sub":"ann","groups":["sales","R&D, Zürich","a\"b\\c"],"name":"Ann Ä","email":"ann@apps.example"`},
		"no groups":         {dssauth.NewIdentity("bob"), `"sub":"bob","groups":[]`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigner(t)
				now := time.Now().Unix()
				<-time.After(900 * time.Millisecond) // virtual
				token, err := s.Sign(row.id)
				require.NoError(t, err)
				var set jose.JSONWebKeySet
				require.NoError(t, json.Unmarshal(published(s), &set))
				signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
				require.NoError(t, err)
				claims, err := signed.Verify(set)
				require.NoError(t, err)
				assert.JSONEq(t, fmt.Sprintf(`{"iss":"https://apps.example","aud":"report-app",%s,"iat":%d,"exp":%d}`, row.want, now, now+60), string(claims))
				header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
				require.NoError(t, err)
				assert.JSONEq(t, fmt.Sprintf(`{"alg":"EdDSA","typ":"JWT","kid":%q}`, set.Keys[0].KeyID), string(header))
			})
		})
	}
}

func TestTokenIsKeptTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ann := newSigner(t), dssauth.NewIdentity("ann", "sales")
		<-time.After(900 * time.Millisecond) // iat is 900 ms before the signature
		first, err := s.Sign(ann)
		require.NoError(t, err)
		<-time.After(9*time.Second + 99*time.Millisecond)
		second, err := s.Sign(ann)
		require.NoError(t, err)
		assert.Equal(t, first, second)
		<-time.After(time.Millisecond)
		third, err := s.Sign(ann)
		require.NoError(t, err)
		assert.NotEqual(t, first, third, "it would have less than 50 s left")
	})
}

func TestTokensOfVisitorsAreNotMixedUp(t *testing.T) {
	details := func(name, email string) dssauth.Identity {
		id := dssauth.NewIdentity("ann", "a", "b")
		id.DisplayName, id.Email = name, email
		return id
	}
	ids := []dssauth.Identity{
		dssauth.NewIdentity("ann"), dssauth.NewIdentity("ann", "a"), dssauth.NewIdentity("ann", "a", "b"),
		dssauth.NewIdentity("ann", "b", "a"), dssauth.NewIdentity("ann", "a,b"), dssauth.NewIdentity("ann", "ab"),
		dssauth.NewIdentity("ann", "A"), dssauth.NewIdentity("Ann", "a"), dssauth.NewIdentity("ann ", "a"),
		details("Ann", ""), details("", "Ann"), details("Ann", "ann@apps.example"),
	}
	s := newSigner(t)
	for range 2 {
		for _, before := range ids {
			for _, id := range ids {
				_, err := s.Sign(before)
				require.NoError(t, err)
				token, err := s.Sign(id)
				require.NoError(t, err)
				claims := claimsOf(t, token)
				assert.Equal(t, id.Login, claims.Sub)
				assert.Equal(t, append([]string{}, id.Groups()...), claims.Groups)
				assert.Equal(t, id.DisplayName, claims.Name)
				assert.Equal(t, id.Email, claims.Email)
			}
		}
	}
	assert.Equal(t, 3, s.tokens.Len(), "a login has one entry")
}

func TestKeptTokensAreBounded(t *testing.T) {
	s := newSigner(t)
	for i := range maxTokens + 10 {
		s.tokens.Add(strconv.Itoa(i), &token{})
	}
	assert.Equal(t, maxTokens, s.tokens.Len())

	s = newSigner(t)
	large := dssauth.NewIdentity("ann", strings.Repeat("g", maxTokenBytes))
	token, err := s.Sign(large)
	require.NoError(t, err)
	assert.Equal(t, large.Groups(), claimsOf(t, token).Groups)
	assert.Zero(t, s.tokens.Len(), "a large token is signed each time")
}

func TestVisitorWithoutLoginGetsNoToken(t *testing.T) {
	for name, row := range map[string]struct {
		id   dssauth.Identity
		want string
	}{
		"an anonymous visitor":      {dssauth.Identity{}, "without a login"},
		"an API key without a user": {dssauth.Identity{APIKeyID: "ann"}, "without a login"},
		"a login that is not UTF-8": {dssauth.NewIdentity("ann\xff"), `login "ann\xff" is not UTF-8`},
		"a group that is not UTF-8": {dssauth.NewIdentity("ann", "sales", "\xc3"), `group "\xc3" of ann is not UTF-8`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t)
			for range 2 {
				token, err := s.Sign(row.id)
				assert.ErrorContains(t, err, row.want)
				assert.Empty(t, token)
			}
		})
	}
}

func TestOneSignerForManyRequests(t *testing.T) {
	s := newSigner(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				id := dssauth.NewIdentity("user"+strconv.Itoa(n%3), strconv.Itoa(i%2))
				token, err := s.Sign(id)
				if assert.NoError(t, err) {
					assert.Equal(t, id.Groups(), claimsOf(t, token).Groups)
				}
			}
		})
	}
	all.Wait()
}

func TestPublicKeys(t *testing.T) {
	first, second := writeKey(t, newKey(t)), writeKey(t, newKey(t))
	s := newSigner(t, first, second)
	var set struct{ Keys []map[string]string }
	require.NoError(t, json.Unmarshal(published(s), &set))
	require.Len(t, set.Keys, 2)
	for i, file := range []string{first, second} {
		key, _, err := readKey(file)
		require.NoError(t, err)
		x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
		assert.Equal(t, map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x,
			"kid": base64.RawURLEncoding.EncodeToString(thumbprint[:])}, set.Keys[i])
	}

	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, "/dssauth/jwks.json", nil))
		assert.Equal(t, status, w.Code, method)
		if status == 405 {
			assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
			continue
		}
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.Equal(t, "public, max-age=300", w.Header().Get("Cache-Control"))
		assert.Equal(t, strconv.Itoa(len(s.jwks)), w.Header().Get("Content-Length"))
		assert.Equal(t, method == "GET", w.Body.Len() > 0)
	}
}

func TestWrongSettings(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no issuer":                 {func(c *Config) { c.Issuer = "" }, "assertion: Config.Issuer: required, as in https://apps.example"},
		"no audience":               {func(c *Config) { c.Audience = "" }, "assertion: Config.Audience: required, as in report-app"},
		"blanks around an audience": {func(c *Config) { c.Audience = "app\n" }, `assertion: Config.Audience: "app\n": must be`},
		"an issuer of other bytes":  {func(c *Config) { c.Issuer = "\xff" }, `assertion: Config.Issuer: "\xff": must be UTF-8`},
		"a file that is missing":    {func(c *Config) { c.KeyFiles[1] += ".old" }, "assertion: Config.KeyFiles[1]: open "},
		"a folder":                  {func(c *Config) { c.KeyFiles[1] = filepath.Dir(c.KeyFiles[1]) }, "is a directory"},
		"a device without an end":   {func(c *Config) { c.KeyFiles[1] = "/dev/zero" }, "too large"},
		"one key twice": {func(c *Config) { c.KeyFiles[1] = c.KeyFiles[0] },
			`holds the same key as KeyFiles[0]`},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{upstreams.Issuer, upstreams.Audience, []string{writeKey(t, newKey(t)), writeKey(t, newKey(t))}}
			row.change(&c)
			_, err := New(c)
			assert.ErrorContains(t, err, row.want)
		})
	}
}

func TestNothingShowsThePrivateKey(t *testing.T) {
	key := newKey(t)
	s := newSigner(t, writeKey(t, key))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
		text := fmt.Sprintf(verb, s)
		assert.Contains(t, text, "report-app", verb)
		assertHidden(t, key, text)
		assertHidden(t, key, fmt.Sprintf(verb, struct{ S any }{s}))
		assertHidden(t, key, fmt.Sprintf(verb, struct{ s *Signer }{s}))
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "signer", s)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("JSON", "signer", s)
	data, err := json.Marshal(map[string]any{"signer": s})
	require.NoError(t, err)
	assertHidden(t, key, log.String()+string(data)+string(published(s)))
}

func TestKeptTokenTakesOneAllocation(t *testing.T) {
	s, ann := newSigner(t), dssauth.NewIdentity("ann", "sales", "marketing")
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { s.Sign(ann) }), 1.0)
}

func BenchmarkSign(b *testing.B) {
	s, err := New(Config{Issuer: upstreams.Issuer, Audience: upstreams.Audience})
	require.NoError(b, err)
	groups := make([]string, 20)
	for i := range groups {
		groups[i] = "group " + strconv.Itoa(i)
	}
	for _, run := range []struct {
		name   string
		groups int
		forget bool
	}{{"kept, 3 groups", 3, false}, {"kept, 20 groups", 20, false}, {"signed, 3 groups", 3, true}} {
		ann := dssauth.NewIdentity("ann", groups[:run.groups]...)
		b.Run(run.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if run.forget {
					s.tokens.Purge()
				}
				s.Sign(ann)
			}
		})
	}
}

type claims struct {
	Sub, Name, Email string
	Groups           []string
}

func claimsOf(t *testing.T, token string) (c claims) {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &c))
	return c
}

func newSigner(t *testing.T, files ...string) *Signer {
	t.Helper()
	s, err := New(Config{upstreams.Issuer, upstreams.Audience, files})
	require.NoError(t, err)
	return s
}

func published(s *Signer) []byte {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/dssauth/jwks.json", nil))
	return w.Body.Bytes()
}
