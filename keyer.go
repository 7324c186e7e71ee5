package dssauth

import (
	"encoding/binary"
	"fmt"
	"net/http"

	"github.com/dssauth/dssauth/internal/keyhash"
)

// key stands for one set of identifying bytes. It never leaves the process.
type key = keyhash.Key

// spareParts is how many more headers than names there may be before a key takes
// longer to make, see rareKey.
const spareParts = 64

// keyer makes keys of the values of some headers.
type keyer struct {
	names    []string // canonical, in the order in which they are keyed
	maxBytes int
	hash     keyhash.Hash
}

// newKeyer makes secrets for headers of up to maxBytes.
func newKeyer(names []string, maxBytes int) keyer {
	return keyer{names: names, maxBytes: maxBytes, hash: keyhash.New(maxBytes, len(names)+spareParts)}
}

func (s *keyer) tooLarge() error {
	return refuse(ErrTooLarge, fmt.Sprintf("the identifying headers have more than Config.MaxHeaderBytes (%d) bytes", s.maxBytes))
}

// key covers the named headers of h in an injective encoding: for every name
// the number of its values, and each value behind its length. Shifting a byte
// from one value to the next changes it, and absent is not empty.
func (s *keyer) key(h http.Header, maxBytes int) (key, error) {
	sum, size := s.hash.Start(), 0
	for _, name := range s.names {
		values := h[name]
		count := uint64(len(values))
		if count == 0 {
			sum.Pair(0, 0)
		}
		for _, v := range values {
			if size += len(v); size > maxBytes {
				return key{}, s.tooLarge()
			}
			if !sum.Fits(len(v), 1+len(s.names)) { // this one, and all names that may be absent
				return s.rareKey(h, maxBytes)
			}
			sum.Text(count, v)
		}
	}
	if size == 0 {
		return key{}, errNoCredentials
	}
	return s.hash.Key(&sum), nil
}

// rareKey is key for what the secret is too short for, such as a thousand
// empty headers of one name.
func (s *keyer) rareKey(h http.Header, maxBytes int) (key, error) {
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
	return s.hash.Rare(msg), nil
}
