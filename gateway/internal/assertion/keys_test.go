package assertion

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/gateway/internal/upstreams"
)

func TestKeyFileErrorsNameTheFileAndNoKey(t *testing.T) {
	key := newKey(t)
	good := marshal(t, key)
	require.Contains(t, string(good), printed(key)[0])
	block, _ := pem.Decode(good)
	as := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: block.Bytes}) }
	for name, row := range map[string]struct {
		text []byte
		want string
	}{
		"empty":                 {[]byte(" \n"), "is empty"},
		"not PEM":               {block.Bytes, "is not PEM"},
		"hex":                   {[]byte(hex.EncodeToString(key.Seed())), "is not PEM"},
		"cut":                   {good[:len(good)/2], "not well-formed"},
		"two keys":              {append(good, good...), "several PEM blocks"},
		"text before":           {append([]byte("sales key\n"), good...), "outside of its PEM block"},
		"text after":            {append(bytes.Clone(good), "sales key"...), "outside of its PEM block"},
		"encrypted":             {as("ENCRYPTED PRIVATE KEY"), "no passphrase"},
		"encrypted the old way": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: block.Bytes}), "no passphrase"},
		"a public key":          {as("PUBLIC KEY"), "the private one signs"},
		"an SSH key":            {as("OPENSSH PRIVATE KEY"), "not PKCS #8"},
		"a name with a key":     {as(base64.StdEncoding.EncodeToString(key.Seed())), "not PKCS #8"},
		"too short":             {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:len(block.Bytes)-1]}), "not a readable PKCS #8"},
		"ECDSA":                 {marshal(t, newECDSA(t)), "holds a key of type *ecdsa.PrivateKey: only Ed25519"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key of ann.pem")
			require.NoError(t, os.WriteFile(file, row.text, 0o600))
			_, err := New(Config{upstreams.Issuer, upstreams.Audience, []string{file}})
			require.ErrorContains(t, err, row.want)
			assert.ErrorContains(t, err, fmt.Sprintf("assertion: Config.KeyFiles[0]: %q ", file))
			assert.ErrorContains(t, err, "openssl genpkey -algorithm ed25519 -out ")
			assertHidden(t, key, err.Error())
		})
	}
}

func TestKeyFilesThatOthersMayOpen(t *testing.T) {
	for mode, exposed := range map[os.FileMode]bool{0o400: false, 0o600: false, 0o640: false, 0o644: true, 0o660: true, 0o602: true} {
		file := writeKey(t, newKey(t))
		require.NoError(t, os.Chmod(file, mode))
		s := newSigner(t, writeKey(t, newKey(t)), file)
		if exposed {
			assert.Equal(t, []string{file}, s.Exposed(), mode)
		} else {
			assert.Empty(t, s.Exposed(), mode)
		}
	}
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return key
}

func writeKey(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, marshal(t, key), 0o600))
	return file
}

func marshal(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// assertHidden looks for the key in the forms in which programs print bytes.
func assertHidden(t *testing.T, key ed25519.PrivateKey, text string) {
	t.Helper()
	for _, form := range printed(key) {
		assert.NotContains(t, text, form)
	}
}

func printed(key ed25519.PrivateKey) []string {
	seed := key.Seed()
	list := strings.Trim(fmt.Sprint(seed), "[]")
	golang := fmt.Sprintf("%#v", seed)
	return []string{
		base64.StdEncoding.EncodeToString(seed[2:29]), // a part of the text in the file
		string(seed), hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed)),
		base64.RawStdEncoding.EncodeToString(seed), base64.RawURLEncoding.EncodeToString(seed),
		list, strings.ReplaceAll(list, " ", ","), golang[strings.IndexByte(golang, '{')+1 : len(golang)-1],
	}
}
