package chromium_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/examples/internal/chromium"
)

const (
	htmxTarball   = "htmx.org/-/htmx.org-2.0.8.tgz"
	htmxIntegrity = "sha512-fm297iru0iWsNJlBrjvtN7V9zjaxd+69Oqjh4F/Vq9Wwi2kFisLcrLCiv5oBX0KLfOX/zG8AUo9ROMU5XUB44Q=="
)

// htmx returns the script, from npm's configured registry.
func htmx(t *testing.T) []byte {
	registry := os.Getenv("NPM_CONFIG_REGISTRY")
	if out, err := exec.CommandContext(t.Context(), "npm", "config", "get", "registry").Output(); registry == "" && err == nil {
		registry = strings.TrimSpace(string(out))
	}
	if !strings.HasPrefix(registry, "http") {
		registry = "https://registry.npmjs.org"
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", strings.TrimSuffix(registry, "/")+"/"+htmxTarball, nil)
	require.NoError(t, err)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		chromium.Missing(t, "htmx is missing: the npm registry cannot be reached: "+err.Error())
	}
	defer reply.Body.Close()
	tarball, err := io.ReadAll(io.LimitReader(reply.Body, 16<<20))
	if err != nil || reply.StatusCode != http.StatusOK {
		chromium.Missing(t, "htmx is missing: the npm registry answered "+reply.Status)
	}
	sum := sha512.Sum512(tarball)
	require.Equal(t, htmxIntegrity, "sha512-"+base64.StdEncoding.EncodeToString(sum[:]), "this is not the tested htmx")

	unzipped, err := gzip.NewReader(bytes.NewReader(tarball))
	require.NoError(t, err)
	files := tar.NewReader(unzipped)
	for {
		file, err := files.Next()
		require.NoError(t, err, "the tarball has no script")
		if file.Name == "package/dist/htmx.min.js" {
			script, err := io.ReadAll(files)
			require.NoError(t, err)
			return script
		}
	}
}
