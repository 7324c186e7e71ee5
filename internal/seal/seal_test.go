package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/internal/seal"
)

var (
	secretA = bytes.Repeat([]byte("a"), 32)
	secretB = bytes.Repeat([]byte("b"), 48)
)

func TestKeysDifferIfAnyInputDiffers(t *testing.T) {
	s := seal.New([][]byte{secretA, secretB})
	seen := map[string]string{}
	for _, parts := range [][]string{
		{"answer"}, {"answer", ""}, {"answer", "", ""}, {"answer", "ab", "c"}, {"answer", "a", "bc"}, {"answer", "abc"},
		{"mark", "ab", "c"}, {"answerab", "c"}, {"answer", "ab\x01c"}, {"answer", strings.Repeat("x", 200)},
	} {
		keys := s.Keys(parts[0], parts[1:]...)
		require.Len(t, keys, 2)
		assert.Equal(t, keys, s.Keys(parts[0], parts[1:]...))
		for i, k := range keys {
			assert.Regexp(t, `^[A-Za-z0-9_-]{43}$`, k)
			name := fmt.Sprintf("%q by secret %d", parts, i)
			assert.Empty(t, seen[k], name)
			seen[k] = name
		}
	}
}

func TestValuesOpenOnlyUnderTheirKey(t *testing.T) {
	s := seal.New([][]byte{secretA, secretB})
	key := s.Keys("answer", "ann")[0]
	for _, n := range []int{0, 1, 255, 256, 257, 70_000} {
		text := bytes.Repeat([]byte("t"), n)
		value := s.Seal(0, key, text)
		opened, ok := s.Open(0, key, value)
		assert.True(t, ok)
		assert.Equal(t, text, append([]byte{}, opened...))
	}
	value := s.Seal(0, key, []byte("ann"))
	for name, open := range map[string]func() ([]byte, bool){
		"another key":    func() ([]byte, bool) { return s.Open(0, s.Keys("answer", "bob")[0], value) },
		"another secret": func() ([]byte, bool) { return s.Open(1, key, value) },
		"cut":            func() ([]byte, bool) { return s.Open(0, key, value[:len(value)-1]) },
		"empty":          func() ([]byte, bool) { return s.Open(0, key, nil) },
		"longer":         func() ([]byte, bool) { return s.Open(0, key, append(bytes.Clone(value), 0)) },
	} {
		_, ok := open()
		assert.False(t, ok, name)
	}
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 1
		_, ok := s.Open(0, key, changed)
		assert.False(t, ok, "byte %d", i)
	}
}

func TestValuesRevealNeitherTextNorLength(t *testing.T) {
	s := seal.New([][]byte{secretA})
	short, long := s.Seal(0, "k", []byte("ann")), s.Seal(0, "k", bytes.Repeat([]byte("g"), 200))
	assert.Len(t, long, len(short))
	assert.NotContains(t, string(short), "ann")
	assert.NotEqual(t, short, s.Seal(0, "k", []byte("ann")), "nonces are random")
}

// TestSealedAsDescribed opens a value with nothing but the standard library.
func TestSealedAsDescribed(t *testing.T) {
	s := seal.New([][]byte{secretA})
	keys, err := hkdf.Key(sha256.New, secretA, nil, seal.Version+" keys", 32)
	require.NoError(t, err)
	mac := hmac.New(sha256.New, keys)
	mac.Write([]byte("\x06answer\x03ann\x00"))
	key := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	require.Equal(t, []string{key}, s.Keys("answer", "ann", ""))

	values, err := hkdf.Key(sha256.New, secretA, nil, seal.Version+" values", 32)
	require.NoError(t, err)
	cipherKey, err := hkdf.Expand(sha256.New, values, key, 32)
	require.NoError(t, err)
	block, err := aes.NewCipher(cipherKey)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	value := s.Seal(0, key, []byte("text"))
	text, err := gcm.Open(nil, value[:12], value[12:], []byte(seal.Version+" "+key))
	require.NoError(t, err)
	assert.Equal(t, append([]byte("text"), make([]byte, 252)...), text)
}

func TestFirstSecretSealsAndEachOpens(t *testing.T) {
	before, during, after := seal.New([][]byte{secretA}), seal.New([][]byte{secretB, secretA}), seal.New([][]byte{secretB})
	old := before.Keys("answer", "ann")[0]
	assert.Equal(t, old, during.Keys("answer", "ann")[1])
	text, ok := during.Open(1, old, before.Seal(0, old, []byte("ann")))
	assert.True(t, ok)
	assert.Equal(t, "ann", string(text))
	now := during.Keys("answer", "ann")[0]
	text, ok = after.Open(0, after.Keys("answer", "ann")[0], during.Seal(0, now, []byte("ann")))
	assert.True(t, ok)
	assert.Equal(t, "ann", string(text))
}

func TestASealerPrintsNoSecret(t *testing.T) {
	s := seal.New([][]byte{[]byte("canary-canary-canary-canary-canary")})
	printed := fmt.Sprintf("%v %+v %#v", s, s, s)
	assert.NotContains(t, printed, "canary")
	assert.NotContains(t, printed, "99 97 110") // "can" as numbers
}

func FuzzOpen(f *testing.F) {
	s := seal.New([][]byte{secretA})
	f.Add("k", s.Seal(0, "k", []byte("ann")))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		text, ok := s.Open(0, key, value)
		if ok && (key != "k" || string(text) != "ann") {
			t.Fatal("opened what was never sealed")
		}
	})
}

func FuzzKeys(f *testing.F) {
	s := seal.New([][]byte{secretA})
	f.Add("a", "b", "a", "b")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		same := s.Keys("p", a, b)[0] == s.Keys("p", c, d)[0]
		if same != (a == c && b == d) {
			t.Fatal(binary.Size(same), a, b, c, d)
		}
	})
}
