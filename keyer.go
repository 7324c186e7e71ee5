package dssauth

import (
	"encoding/binary"
	"fmt"
	"net/http"

	"github.com/dssauth/dssauth/internal/keyhash"
)

// key stands for one set of identifying bytes. It never leaves the process.
type key = keyhash.Key

// spareParts is the number of headers beyond the names up to which a key is quick to
// make, see rareKey.
const spareParts = 64

// rawShare times the size of a pick is the most with which headers may arrive: most of
// them may be dropped cookies.
const rawShare = 4

// keyer makes keys of the values of some headers.
type keyer struct {
	names    []string // canonical, in the order in which they are keyed
	maxBytes int      // of a pick
	hash     keyhash.Hash
}

// newKeyer makes secrets for picks of up to maxBytes, and for the raw headers of such
// picks.
func newKeyer(names []string, maxBytes int) keyer {
	return keyer{names: names, maxBytes: maxBytes, hash: keyhash.New(rawShare*maxBytes, len(names)+spareParts)}
}

func (s *keyer) tooLarge() error {
	return refuse(ErrTooLarge, fmt.Sprintf("the headers to send to DSS have more than Config.MaxHeaderBytes (%d) bytes, without the cookies that are dropped", s.maxBytes))
}

func (s *keyer) rawTooLarge() error {
	return refuse(ErrTooLarge, fmt.Sprintf("the identifying headers arrived with more than %d times Config.MaxHeaderBytes (%d) bytes, with the cookies that are dropped", rawShare, s.maxBytes))
}

// raw returns the key of h's identifying headers exactly as they arrived. Equal raw
// headers yield equal picks, so an answer under the raw key is found without parsing
// the cookies.
//
// A key covers an injective encoding: for every name the number of its values, and each
// value after its length. Shifting a byte from one value to the next changes the key,
// and an absent header differs from an empty one.
func (s *keyer) raw(h http.Header) (key, error) {
	var room [4][]string // for the usual number of names
	all, size := room[:0], 0
	for _, name := range s.names {
		values := h[name]
		for _, v := range values {
			size += len(v)
		}
		all = append(all, values)
	}
	if size > rawShare*s.maxBytes { // before anything is hashed
		return key{}, s.rawTooLarge()
	}
	if size == 0 {
		return key{}, errNoCredentials
	}
	sum := s.hash.Start()
	for _, values := range all {
		count := uint64(len(values))
		if count == 0 {
			sum.Pair(0, 0)
		}
		for _, v := range values {
			if !sum.Fits(len(v), 1+len(s.names)) { // this one, and all names, since they may be absent
				return s.rareKey(all), nil
			}
			sum.Text(count, []byte(v))
		}
	}
	return s.hash.Key(&sum), nil
}

// rareKey is raw for headers for which the secret is too short, such as a thousand
// empty headers of one name.
func (s *keyer) rareKey(all [][]string) key {
	var msg []byte
	for _, values := range all {
		msg = binary.AppendUvarint(msg, uint64(len(values)))
		for _, v := range values {
			msg = binary.AppendUvarint(msg, uint64(len(v)))
			msg = append(msg, v...)
		}
	}
	return s.hash.Rare(msg)
}

// picked are the bytes that identify a visitor: for each name of a selector, in order,
// one value after its length, or none. Both the headers for DSS and the key are read
// from them.
type picked []byte

// lengthBytes stand before each value: its length and one more, or zero for none.
const lengthBytes = 4

// next returns the first value, whether there is one, and the rest.
func (p picked) next() (value []byte, ok bool, rest picked) {
	n := int(binary.LittleEndian.Uint32(p))
	p = p[lengthBytes:]
	if n == 0 {
		return nil, false, p
	}
	return p[:n-1], true, p[n-1:]
}

// key returns the key of p: the raw key of headers with these values. The secret is
// long enough for every pick.
func (s *keyer) key(p picked) key {
	sum := s.hash.Start()
	for len(p) > 0 {
		value, ok, rest := p.next()
		if ok {
			sum.Text(1, value)
		} else {
			sum.Pair(0, 0)
		}
		p = rest
	}
	return s.hash.Key(&sum)
}

// header returns p as a header for DSS, in memory of its own.
func (s *keyer) header(p picked) http.Header {
	h := make(http.Header, len(s.names))
	for _, name := range s.names {
		value, ok, rest := p.next()
		if ok {
			h[name] = []string{string(value)}
		}
		p = rest
	}
	return h
}
