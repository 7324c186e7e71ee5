package assertion

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxKeyFile is far more than a key needs. With this limit, a path to a device
// or to a log causes an error, and does not fill the memory.
const maxKeyFile = 16 << 10

// readKey reads a private key, and reports whether users outside the file's
// group may read the file, or users other than the owner may change it.
func readKey(file string) (key ed25519.PrivateKey, exposed bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, false, err
	}
	if key, err = parseKey(text); err != nil {
		return nil, false, fmt.Errorf("%q %w; to make a key: openssl genpkey -algorithm ed25519 -out FILE", file, err)
	}
	return key, info.Mode().Perm()&0o026 != 0, nil
}

// parseKey's errors repeat nothing of the text. The errors of the parsers
// could, so they are left out.
func parseKey(text []byte) (ed25519.PrivateKey, error) {
	text = bytes.TrimSpace(text)
	begins := bytes.Count(text, []byte("-----BEGIN "))
	switch {
	case len(text) == 0:
		return nil, errors.New("is empty")
	case len(text) > maxKeyFile:
		return nil, errors.New("is too large for a key")
	case begins == 0:
		return nil, errors.New("is not PEM text")
	case begins > 1:
		return nil, errors.New("has several PEM blocks: a file holds one key")
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("is not well-formed PEM text")
	case !bytes.HasPrefix(text, []byte("-----BEGIN ")) || len(rest) != 0:
		return nil, errors.New("has text outside of its PEM block")
	case block.Type == "ENCRYPTED PRIVATE KEY" || len(block.Headers) != 0:
		return nil, errors.New("is encrypted: the gateway has no passphrase for it")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("holds a public key: the private one signs")
	case block.Type != "PRIVATE KEY":
		return nil, errors.New("is not PKCS #8, which begins with BEGIN PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a readable PKCS #8 key")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a key of type %T: only Ed25519 signs", parsed)
	}
	return key, nil
}
