package keyhash

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// part is a pair, or a text behind a number.
type part struct {
	a, b   uint64
	text   string
	isText bool
}

func sumOf(h *Hash, parts []part) Sum {
	s := h.Start()
	for _, p := range parts {
		if p.isText {
			s.Text(p.a, []byte(p.text))
		} else {
			s.Pair(p.a, p.b)
		}
	}
	return s
}

// wordsOf is the message that parts make.
func wordsOf(parts []part) (words []uint64) {
	for _, p := range parts {
		if !p.isText {
			words = append(words, p.a, p.b)
			continue
		}
		words = append(words, p.a, uint64(len(p.text)))
		padded := append([]byte(p.text), make([]byte, (16-len(p.text)%16)%16)...)
		for ; len(padded) > 0; padded = padded[8:] {
			words = append(words, binary.LittleEndian.Uint64(padded))
		}
	}
	return words
}

// plainKey computes the key as the package's comment describes it, with numbers
// without bounds.
func plainKey(h *Hash, words []uint64) (key Key) {
	whole := func(u uint64) *big.Int { return new(big.Int).SetUint64(u) }
	double := func(u uint128) *big.Int { return new(big.Int).Add(new(big.Int).Lsh(whole(u.hi), 64), whole(u.lo)) }
	mod64, mod128 := new(big.Int).Lsh(big.NewInt(1), 64), new(big.Int).Lsh(big.NewInt(1), 128)
	plus := func(a, b uint64) *big.Int { s := new(big.Int).Add(whole(a), whole(b)); return s.Mod(s, mod64) }
	for lane := range key {
		nh := new(big.Int)
		for i := 0; i < len(words); i += 2 {
			nh.Add(nh, new(big.Int).Mul(plus(words[i], h.secret[2*lane+i]), plus(words[i+1], h.secret[2*lane+i+1])))
		}
		nh.Mod(nh, mod128)
		hi, lo := new(big.Int).DivMod(nh, mod64, new(big.Int))
		sum := double(h.lanes[lane][3])
		for i, x := range []*big.Int{hi, lo, whole(uint64(len(h.secret) - len(words)))} {
			sum.Add(sum, new(big.Int).Mul(double(h.lanes[lane][i]), x))
		}
		key[lane] = sum.Mod(sum, mod128).Rsh(sum, 64).Uint64()
	}
	return key
}

func TestKeyIsNHAndMultiplyShift(t *testing.T) {
	h := New(2048, 64)
	for range 2000 {
		var parts []part
		for range rand.IntN(8) {
			p := part{a: rand.Uint64(), b: rand.Uint64(), isText: rand.IntN(3) > 0}
			if p.isText {
				text := make([]byte, rand.IntN(200))
				for i := range text {
					text[i] = byte(rand.Uint32())
				}
				p.text = string(text)
			}
			parts = append(parts, p)
		}
		s := sumOf(&h, parts)
		require.Equal(t, plainKey(&h, wordsOf(parts)), h.Key(&s))
	}
}

func FuzzKeyIsNHAndMultiplyShift(f *testing.F) {
	f.Add(uint64(1), "a cookie of more than a turn of the loop", "")
	f.Add(uint64(0), "", strings.Repeat("\xff", 47))
	h := New(512, 8)
	f.Fuzz(func(t *testing.T, n uint64, first, second string) {
		parts := []part{{a: n, text: first, isText: true}, {a: n, b: n}, {a: ^n, text: second, isText: true}}
		if s := h.Start(); !s.Fits(len(first)+len(second)+16, 3) {
			return
		}
		s := sumOf(&h, parts)
		require.Equal(t, plainKey(&h, wordsOf(parts)), h.Key(&s))
	})
}

// Lengths around every border of the words and the turns, and each bit of a text:
// no two messages share a key.
func TestDifferentMessagesHaveDifferentKeys(t *testing.T) {
	h := New(1024, 8)
	seen := map[Key]string{}
	add := func(what string, parts ...part) {
		s := sumOf(&h, parts)
		k := h.Key(&s)
		other, dup := seen[k]
		require.False(t, dup, "%s and %s", other, what)
		seen[k] = what
	}
	add("nothing")
	for length := range 200 {
		zeros := strings.Repeat("\x00", length)
		add(fmt.Sprintf("%d zeros", length), part{text: zeros, isText: true})
		add(fmt.Sprintf("%d zeros in two", length), part{text: zeros[:length/2], isText: true}, part{text: zeros[length/2:], isText: true})
	}
	for pairs := 7; pairs < 14; pairs++ { // more than 6 do not stand for a text of up to 200 zeros
		add(fmt.Sprintf("%d pairs", pairs), append(make([]part, pairs), part{a: 1})...)
	}
	text := []byte(strings.Repeat("v", 77))
	for i := range 8 * len(text) {
		text[i/8] ^= 1 << (i % 8)
		add(fmt.Sprintf("bit %d", i), part{a: 1, text: string(text), isText: true})
		text[i/8] ^= 1 << (i % 8)
	}
	add("another number", part{a: 2, text: string(text), isText: true})
	add("the same number", part{a: 1, text: string(text), isText: true})
}

// Everything that fits can be added, to the last word of the secret.
func TestFittingPartsCanBeAdded(t *testing.T) {
	h := New(256, 4)
	fits := 0
	for length := range 400 {
		for pairs := range 24 {
			s := h.Start()
			if !s.Fits(length, 1+pairs) { // a text begins with a pair
				continue
			}
			fits++
			assert.NotPanics(t, func() {
				s.Text(1, []byte(strings.Repeat("x", length)))
				for range pairs {
					s.Pair(0, 0)
				}
				h.Key(&s)
			}, "%d bytes and %d pairs", length, pairs)
		}
	}
	assert.Greater(t, fits, 1000)
	s := h.Start()
	assert.True(t, s.Fits(256, 3), "so many bytes were asked for")
}

func TestSecretsDiffer(t *testing.T) {
	a, b := New(256, 4), New(256, 4)
	x, y := a.Start(), b.Start()
	x.Text(1, []byte("the same"))
	y.Text(1, []byte("the same"))
	assert.NotEqual(t, a.Key(&x), b.Key(&y))
	assert.NotEqual(t, a.Rare([]byte("the same")), b.Rare([]byte("the same")))
	m, n := NewMultiplyShift(), NewMultiplyShift()
	assert.NotEqual(t, m.Of(1, 2, 3), n.Of(1, 2, 3))
}

func TestRareKeysDiffer(t *testing.T) {
	h := New(256, 4)
	assert.Equal(t, h.Rare([]byte("one")), h.Rare([]byte("one")))
	assert.NotEqual(t, h.Rare([]byte("one")), h.Rare([]byte("two")))
	assert.NotEqual(t, h.Rare(nil), h.Rare([]byte{0}))
}

func BenchmarkKey(b *testing.B) {
	for _, length := range []int{300, 1500} {
		b.Run(fmt.Sprintf("%dB", length), func(b *testing.B) {
			h := New(16<<10, 66)
			text := strings.Repeat("x", length)
			b.SetBytes(int64(length))
			b.ReportAllocs()
			for b.Loop() {
				s := h.Start()
				s.Text(1, []byte(text))
				s.Pair(0, 0)
				h.Key(&s)
			}
		})
	}
}
