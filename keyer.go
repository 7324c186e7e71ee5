package dssauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"net/http"
)

// key stands for one set of identifying bytes. It never leaves the process.
type key [2]uint64

// keyer hashes identifying bytes under random secrets of this process. No
// assumption about a cipher is behind it: both its steps are universal hashes
// with a proof.
//
// The first is NH of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway, 1999)
// over 64-bit words, two lanes wide: lane 0 adds up (m[2i]+k[2i]) *
// (m[2i+1]+k[2i+1]) modulo 2^128, lane 1 the same with the secret two words
// further on. Two different messages of the same number of words agree in one
// lane with probability at most 2^-64, in both with at most 2^-128. The second
// is multiply-shift (Dietzfelbinger, 1996) of each lane and the number of
// words onto 64 bits, which is strongly universal: what differed agrees with
// probability 2^-64 a lane. So two messages that are chosen without knowledge
// of the secrets have the same key with probability at most 2^-126, however
// long they are, and q tries against n entries succeed with at most
// q * n * 2^-126.
//
// Like every universal hash this is no authenticator: whoever sees keys can
// solve for the secrets. Here no key is ever shown: not stored, sent, logged
// or printed, and placement in the cache's table uses a second, independent
// hash of it. All an adversary learns of a try is whether it collided.
//
// Keys that must leave the process need another function (HMAC-SHA-256).
type keyer struct {
	secret []uint64 // for the longest message, and two words more
	lanes  [2]multiplyShift
	rare   []byte // see rareKey
}

// newKeyer makes secrets for messages of up to maxBytes in so many headers.
func newKeyer(maxBytes, headers int) keyer {
	return keyer{
		secret: randomWords(2*(maxBytes/16+headers+64) + 2),
		lanes:  [2]multiplyShift{newMultiplyShift(), newMultiplyShift()},
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

// key covers the named headers of h in an injective encoding: for every name
// the number of its values, and each value behind its length. Shifting a byte
// from one value to the next changes it, and absent is not empty.
func (s *selector) key(h http.Header, maxBytes int) (key, error) {
	var sum nh
	secret, size := s.keyer.secret, 0
	for _, name := range s.names {
		values := h[name]
		count := uint64(len(values))
		if count == 0 {
			sum.pair(secret, 0, 0)
			secret = secret[2:]
		}
		for _, v := range values {
			if size += len(v); size > maxBytes {
				return key{}, s.tooLarge()
			}
			if len(v)+64+16*len(s.names) > 8*len(secret) {
				return s.rareKey(h, maxBytes)
			}
			sum.pair(secret, count, uint64(len(v)))
			secret = sum.text(secret[2:], v)
		}
	}
	if size == 0 {
		return key{}, errNoCredentials
	}
	left := uint64(len(secret))
	return key{s.keyer.lanes[0].of(sum.hi0, sum.lo0, left), s.keyer.lanes[1].of(sum.hi1, sum.lo1, left)}, nil
}

// rareKey is key for what the secret is too short for, such as a thousand
// empty headers of one name.
func (s *selector) rareKey(h http.Header, maxBytes int) (key, error) {
	var msg []byte
	size := 0
	for _, name := range s.names {
		msg = binary.AppendUvarint(msg, uint64(len(h[name])))
		for _, v := range h[name] {
			if size += len(v); size > maxBytes {
				return key{}, s.tooLarge()
			}
			msg = binary.AppendUvarint(msg, uint64(len(v)))
			msg = append(msg, v...)
		}
	}
	if size == 0 {
		return key{}, errNoCredentials
	}
	mac := hmac.New(sha256.New, s.keyer.rare)
	mac.Write(msg)
	sum := mac.Sum(nil)
	return key{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}, nil
}

// nh is a sum in the making: two lanes of 128 bits.
type nh struct{ hi0, lo0, hi1, lo1 uint64 }

func (n *nh) pair(k []uint64, a, b uint64) {
	h0, l0 := bits.Mul64(a+k[0], b+k[1])
	h1, l1 := bits.Mul64(a+k[2], b+k[3])
	var carry uint64
	n.lo0, carry = bits.Add64(n.lo0, l0, 0)
	n.hi0, _ = bits.Add64(n.hi0, h0, carry)
	n.lo1, carry = bits.Add64(n.lo1, l1, 0)
	n.hi1, _ = bits.Add64(n.hi1, h1, carry)
}

// text adds s, filled up with zeros to whole pairs, and returns the rest of k.
// It works on two pairs a turn, and on copies: both twice as fast.
func (n *nh) text(k []uint64, s string) []uint64 {
	sum := *n
	for ; len(s) >= 32 && len(k) >= 6; s, k = s[32:], k[4:] {
		var carry uint64
		a, b := word(s), word(s[8:])
		k0, k1, k2, k3, k4, k5 := k[0], k[1], k[2], k[3], k[4], k[5]
		h0, l0 := bits.Mul64(a+k0, b+k1)
		h1, l1 := bits.Mul64(a+k2, b+k3)
		a, b = word(s[16:]), word(s[24:])
		sum.lo0, carry = bits.Add64(sum.lo0, l0, 0)
		sum.hi0, _ = bits.Add64(sum.hi0, h0, carry)
		sum.lo1, carry = bits.Add64(sum.lo1, l1, 0)
		sum.hi1, _ = bits.Add64(sum.hi1, h1, carry)
		h0, l0 = bits.Mul64(a+k2, b+k3)
		h1, l1 = bits.Mul64(a+k4, b+k5)
		sum.lo0, carry = bits.Add64(sum.lo0, l0, 0)
		sum.hi0, _ = bits.Add64(sum.hi0, h0, carry)
		sum.lo1, carry = bits.Add64(sum.lo1, l1, 0)
		sum.hi1, _ = bits.Add64(sum.hi1, h1, carry)
	}
	*n = sum
	for len(s) > 0 {
		var last [16]byte
		s = s[copy(last[:], s):]
		n.pair(k, binary.LittleEndian.Uint64(last[:]), binary.LittleEndian.Uint64(last[8:]))
		k = k[2:]
	}
	return k
}

// word reads eight bytes; the compiler makes one load of it.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// multiplyShift hashes three words onto one: the high half of x·a + y·b + z·c
// + d modulo 2^128.
type multiplyShift [4]uint128

func newMultiplyShift() (m multiplyShift) {
	w := randomWords(2 * len(m))
	for i := range m {
		m[i] = uint128{w[2*i], w[2*i+1]}
	}
	return m
}

type uint128 struct{ hi, lo uint64 }

func (m *multiplyShift) of(x, y, z uint64) uint64 {
	return m[3].plus(m[0], x).plus(m[1], y).plus(m[2], z).hi
}

func (u uint128) plus(a uint128, x uint64) uint128 {
	hi, lo := bits.Mul64(a.lo, x)
	lo, carry := bits.Add64(u.lo, lo, 0)
	hi, _ = bits.Add64(u.hi, hi+a.hi*x, carry)
	return uint128{hi, lo}
}
