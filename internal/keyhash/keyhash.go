// Package keyhash hashes a message onto 128 bits under random secrets. Without the
// secrets, nobody can choose two messages with the same key.
//
// A message is a sequence of pairs of numbers, and of texts after a number and their
// length. A [Sum] takes them one by one. The hash is that of its words of 64 bits. So
// the caller must encode two different things as different words.
//
// # Why it holds
//
// It assumes nothing about a cipher: both its steps are universal hashes with a proof.
//
// The first is NH of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway, 1999) over 64-bit
// words, two lanes wide: lane 0 adds up (m[2i]+k[2i]) * (m[2i+1]+k[2i+1]) modulo 2^128,
// lane 1 the same with the secret two words further on. Two different messages of the
// same number of words agree in one lane with probability at most 2^-64, in both with
// at most 2^-128. The second is multiply-shift (Dietzfelbinger, 1996) of each lane and
// the number of words onto 64 bits. It is strongly universal: different inputs agree
// with probability 2^-64 a lane. So two messages of any length, chosen without the
// secrets, have the same key with probability at most 2^-126. Q tries against n entries
// succeed with at most q * n * 2^-126.
//
// # What its user must keep to
//
// Like every universal hash this is not an authenticator: an attacker who sees keys can
// compute the secrets. So no key is ever stored, sent, logged or printed. An adversary
// may be able to observe a place in a table: a [MultiplyShift] of the key with an
// independent secret chooses it, and not the bits of the key. From a try, an adversary
// may learn only whether it collided. Keys that leave the process need another function
// (HMAC-SHA-256).
//
// # Why by hand, and not a library
//
// HighwayHash takes three quarters of the time at 350 bytes (149 against 208 ns), but
// nothing is proved about it: its strength is a claim of its authors. The standard
// library's GMAC and SHA-256 are slower, and its maphash has 64 bits and gives no
// guarantee against an adversary. This hash has a theorem, and its code fits on one
// page; a test computes the same numbers with math/big.
package keyhash

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Key stands for one message. It must never leave the process.
type Key [2]uint64

// Hash holds the secrets. It is safe for concurrent use. Make it with [New].
type Hash struct {
	secret []uint64 // for the longest message, and two more words
	lanes  [2]MultiplyShift
	rare   []byte // see Rare
}

// New makes secrets for messages with up to this many bytes of text, and this many
// pairs and texts. [Sum.Fits] tells whether a message is longer.
func New(bytes, parts int) Hash {
	return Hash{
		secret: randomWords(2*(bytes/16+parts) + 2),
		lanes:  [2]MultiplyShift{NewMultiplyShift(), NewMultiplyShift()},
		rare:   randomBytes(sha256.Size),
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // it cannot fail
	return b
}

func randomWords(n int) []uint64 {
	words := make([]uint64, n)
	for i, b := 0, randomBytes(8*n); i < n; i++ {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words
}

// Sum is the unfinished key of a message: two lanes of 128 bits, and the secret for the
// rest of the message.
type Sum struct {
	hi0, lo0, hi1, lo1 uint64
	secret             []uint64
}

// Start returns the sum of the empty message.
func (h *Hash) Start() Sum { return Sum{secret: h.secret} }

// Fits reports whether the secret is long enough to add texts of this many bytes, in
// this many pairs and texts. Pair and Text panic if it is not: use [Hash.Rare] for
// such a rare message.
//
// A text is filled up to a multiple of 16 bytes, and the second lane reads the secret
// 16 bytes further on.
func (s *Sum) Fits(bytes, parts int) bool { return bytes+16*parts+32 <= 8*len(s.secret) }

// Pair adds two numbers to the message.
func (s *Sum) Pair(a, b uint64) {
	k := s.secret
	s.hi0, s.lo0 = plus(s.hi0, s.lo0, a+k[0], b+k[1])
	s.hi1, s.lo1 = plus(s.hi1, s.lo1, a+k[2], b+k[3])
	s.secret = k[2:]
}

// Text adds a number and a text to the message: the pair of the number and the text's
// length, and the text, filled up with zeros to whole pairs. Two pairs per turn, and
// local copies, each make it twice as fast. It only reads t, so that the conversion of
// a string copies nothing.
func (s *Sum) Text(n uint64, t []byte) {
	s.Pair(n, uint64(len(t)))
	k, hi0, lo0, hi1, lo1 := s.secret, s.hi0, s.lo0, s.hi1, s.lo1
	for ; len(t) >= 32 && len(k) >= 6; t, k = t[32:], k[4:] {
		a, b, k2, k3 := binary.LittleEndian.Uint64(t), binary.LittleEndian.Uint64(t[8:]), k[2], k[3]
		hi0, lo0 = plus(hi0, lo0, a+k[0], b+k[1])
		hi1, lo1 = plus(hi1, lo1, a+k2, b+k3)
		a, b = binary.LittleEndian.Uint64(t[16:]), binary.LittleEndian.Uint64(t[24:])
		hi0, lo0 = plus(hi0, lo0, a+k2, b+k3)
		hi1, lo1 = plus(hi1, lo1, a+k[4], b+k[5])
	}
	for len(t) > 0 {
		var last [16]byte
		t = t[copy(last[:], t):]
		a, b := binary.LittleEndian.Uint64(last[:]), binary.LittleEndian.Uint64(last[8:])
		hi0, lo0 = plus(hi0, lo0, a+k[0], b+k[1])
		hi1, lo1 = plus(hi1, lo1, a+k[2], b+k[3])
		k = k[2:]
	}
	s.secret, s.hi0, s.lo0, s.hi1, s.lo1 = k, hi0, lo0, hi1, lo1
}

// plus adds the product of a and b to hi and lo, modulo 2^128.
func plus(hi, lo, a, b uint64) (uint64, uint64) {
	h, l := bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, l, 0)
	hi, _ = bits.Add64(hi, h, carry)
	return hi, lo
}

// Key returns the key of the message. The length of the remaining secret tells how many
// words it had.
func (h *Hash) Key(s *Sum) Key {
	left := uint64(len(s.secret))
	return Key{h.lanes[0].Of(s.hi0, s.lo0, left), h.lanes[1].Of(s.hi1, s.lo1, left)}
}

// Rare returns a key for a message for which the secret is too short: half of its
// HMAC-SHA-256.
func (h *Hash) Rare(message []byte) Key {
	mac := hmac.New(sha256.New, h.rare)
	mac.Write(message)
	sum := mac.Sum(nil)
	return Key{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}

// MultiplyShift hashes three words onto one, under a secret of its own: the high
// half of x·a + y·b + z·c + d modulo 2^128.
type MultiplyShift [4]uint128

// NewMultiplyShift makes the secret.
func NewMultiplyShift() (m MultiplyShift) {
	w := randomWords(2 * len(m))
	for i := range m {
		m[i] = uint128{w[2*i], w[2*i+1]}
	}
	return m
}

type uint128 struct{ hi, lo uint64 }

// Of returns the hash of three words.
func (m *MultiplyShift) Of(x, y, z uint64) uint64 {
	return m[3].plus(m[0], x).plus(m[1], y).plus(m[2], z).hi
}

func (u uint128) plus(a uint128, x uint64) uint128 {
	hi, lo := bits.Mul64(a.lo, x)
	lo, carry := bits.Add64(u.lo, lo, 0)
	hi, _ = bits.Add64(u.hi, hi+a.hi*x, carry)
	return uint128{hi, lo}
}
