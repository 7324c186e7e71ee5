// Package seal makes data unreadable before it leaves the process. Its keys reveal
// nothing, and its values open only under their own key.
//
// All keys and values are made from secrets that the replicas of an application share.
// The first one seals, and each of them opens, so that they can be replaced one by one.
//
// A key is HMAC-SHA-256 of a purpose and some parts, each after its length. A value is
// AES-256-GCM under a cipher key that HKDF makes of the secret and the value's own key,
// with that key and the version as additional data. So a value that was moved to
// another key does not open. Each cipher key seals few values: random nonces do not run
// out.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

const (
	// Version is the version of keys and values. Other versions are not read.
	Version = "dssauth 1"

	// KeyLength is the number of bytes of a key.
	KeyLength = 43

	// room hides the length of a value: a value is filled up to a multiple of it.
	room = 256
)

// Sealer makes keys and values. It is safe for concurrent use.
type Sealer struct {
	secrets func() []secret // a function, because fmt prints what is in fields
}

type secret struct{ keys, values []byte }

// New returns a Sealer with these secrets. It does not keep their memory.
func New(secrets [][]byte) *Sealer {
	all := make([]secret, len(secrets))
	for i, s := range secrets {
		all[i] = secret{derive(s, "keys"), derive(s, "values")}
	}
	return &Sealer{func() []secret { return all }}
}

func derive(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, Version+" "+purpose, sha256.Size)
	if err != nil { // FIPS 140 finds the secret too short; the caller has checked that
		panic(err)
	}
	return key
}

// Secrets returns the number of secrets.
func (s *Sealer) Secrets() int { return len(s.secrets()) }

// Keys returns the keys for a purpose and its parts, one for each secret. Each has
// [KeyLength] letters, digits, "-" and "_".
func (s *Sealer) Keys(purpose string, parts ...string) []string {
	message := appendText(nil, purpose)
	for _, p := range parts {
		message = appendText(message, p)
	}
	var keys []string
	for _, secret := range s.secrets() {
		mac := hmac.New(sha256.New, secret.keys)
		mac.Write(message)
		keys = append(keys, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	}
	return keys
}

func appendText(message []byte, text string) []byte {
	return append(binary.AppendUvarint(message, uint64(len(text))), text...)
}

// Seal returns text as the value of a key, with the secret of this number. Text
// has no zero byte at its end.
func (s *Sealer) Seal(number int, key string, text []byte) []byte {
	filled := make([]byte, (len(text)+room-1)/room*room)
	copy(filled, text)
	return s.cipher(number, key).Seal(nil, nil, filled, additional(key))
}

// Open returns the text that was sealed as the value of key with the secret of
// this number.
func (s *Sealer) Open(number int, key string, value []byte) ([]byte, bool) {
	filled, err := s.cipher(number, key).Open(nil, nil, value, additional(key))
	return bytes.TrimRight(filled, "\x00"), err == nil
}

func additional(key string) []byte { return []byte(Version + " " + key) }

func (s *Sealer) cipher(number int, key string) cipher.AEAD {
	cipherKey, err := hkdf.Expand(sha256.New, s.secrets()[number].values, key, sha256.Size)
	if err == nil {
		var block cipher.Block
		if block, err = aes.NewCipher(cipherKey); err == nil {
			var aead cipher.AEAD
			if aead, err = cipher.NewGCMWithRandomNonce(block); err == nil {
				return aead
			}
		}
	}
	panic(err) // none of them fails for these lengths
}
