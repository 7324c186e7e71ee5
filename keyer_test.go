package dssauth

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Lengths around every border of the hash's words, turns and secret, spread
// over values and names in every way: no two share a key, and none panics.
func TestKeyBorders(t *testing.T) {
	s, err := newSelector(defaultHeaders, nil, 256)
	require.NoError(t, err)
	seen := map[key]string{}
	for total := 1; total <= 256; total++ {
		text := strings.Repeat("x", total)
		for _, cut := range []int{0, 1, 8, 15, 16, 17, 31, 32, 33, total - 1, total} {
			if cut < 0 || cut > total {
				continue
			}
			for what, h := range map[string]http.Header{
				"cookie":                   {"Cookie": {text}},
				"authorization":            {"Authorization": {text}},
				"cookie and authorization": {"Cookie": {text[:cut]}, "Authorization": {text[cut:]}},
				"two cookies":              {"Cookie": {text[:cut], text[cut:]}},
			} {
				k, err := s.raw(h)
				require.NoError(t, err)
				again, _ := s.raw(h)
				require.Equal(t, k, again)
				what := what + " " + strings.Join(h["Cookie"], "|") + "/" + strings.Join(h["Authorization"], "|")
				if other, ok := seen[k]; ok {
					require.Equal(t, other, what, "one key for two")
				}
				seen[k] = what
			}
		}
	}
	assert.Greater(t, len(seen), 2000)
}

// More empty headers than the secret has words for, and each bit of a value.
func TestKeyRare(t *testing.T) {
	s, err := newSelector(defaultHeaders, nil, 16<<10)
	require.NoError(t, err)
	seen := map[key]int{}
	for n := range 5000 {
		k, err := s.raw(http.Header{"Cookie": append(make([]string, n), "a=b"), "Authorization": {"c"}})
		require.NoError(t, err)
		other, dup := seen[k]
		require.False(t, dup, "%d and %d empty headers", other, n)
		seen[k] = n
	}
	value := []byte(strings.Repeat("v", 350))
	for i := range 350 * 8 {
		value[i/8] ^= 1 << (i % 8)
		k, err := s.raw(http.Header{"Cookie": {string(value)}})
		require.NoError(t, err)
		_, dup := seen[k]
		require.False(t, dup, "bit %d", i)
		seen[k] = i
		value[i/8] ^= 1 << (i % 8)
	}
}

// The key covers the encoding that key's comment describes, word by word.
func TestKeyCoversTheEncodedHeaders(t *testing.T) {
	s, err := newSelector(defaultHeaders, nil, 2048)
	require.NoError(t, err)
	for range 2000 {
		h := http.Header{}
		for _, name := range defaultHeaders {
			for range rand.IntN(3) {
				value := make([]byte, rand.IntN(200))
				for i := range value {
					value[i] = byte(rand.Uint32())
				}
				h[name] = append(h[name], string(value))
			}
		}
		k, err := s.raw(h)
		if err != nil {
			require.ErrorIs(t, err, ErrUnauthenticated)
			continue
		}
		sum := s.hash.Start()
		for words := wordsOf(h); len(words) > 0; words = words[2:] {
			sum.Pair(words[0], words[1])
		}
		require.Equal(t, s.hash.Key(&sum), k)
	}
}

// wordsOf is the encoding that the key covers.
func wordsOf(h http.Header) []uint64 {
	var words []uint64
	for _, name := range defaultHeaders {
		if len(h[name]) == 0 {
			words = append(words, 0, 0)
		}
		for _, v := range h[name] {
			words = append(words, uint64(len(h[name])), uint64(len(v)))
			padded := append([]byte(v), make([]byte, (16-len(v)%16)%16)...)
			for ; len(padded) > 0; padded = padded[8:] {
				words = append(words, binary.LittleEndian.Uint64(padded))
			}
		}
	}
	return words
}

// The secret is long enough for any number of configured header names.
func TestKeyOverManyNames(t *testing.T) {
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("X-%d", i))
	}
	s, err := newSelector(names, nil, 256)
	require.NoError(t, err)
	_, err = s.raw(http.Header{})
	require.ErrorIs(t, err, ErrUnauthenticated)
	first, err := s.raw(http.Header{"X-0": {strings.Repeat("v", 256)}})
	require.NoError(t, err)
	last, err := s.raw(http.Header{"X-499": {strings.Repeat("v", 256)}})
	require.NoError(t, err)
	assert.NotEqual(t, first, last)
}

func TestKeyAllocatesNothing(t *testing.T) {
	s, err := newSelector(defaultHeaders, nil, 16<<10)
	require.NoError(t, err)
	h := http.Header{"Cookie": {strings.Repeat("c", 1000)}, "Authorization": {"Bearer token"}}
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = s.raw(h) }))
}

// Empty headers move from one name to the next, few enough for the secret and
// too many for it.
func TestKeyChangesIfEmptyHeadersMove(t *testing.T) {
	s, err := newSelector(defaultHeaders, nil, 256)
	require.NoError(t, err)
	for _, total := range []int{4, 2000} {
		seen := map[key]int{}
		for cookies := range total + 1 {
			k, err := s.raw(http.Header{"Cookie": append([]string{"a"}, make([]string, cookies)...), "Authorization": make([]string, total-cookies)})
			require.NoError(t, err)
			other, dup := seen[k]
			require.False(t, dup, "%d and %d of %d", other, cookies, total)
			seen[k] = cookies
		}
	}
}
