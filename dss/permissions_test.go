//go:build !windows

package dss_test

import (
	"bytes"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// Windows has no such permissions of files.
func TestWarningIfOthersCanOpenFile(t *testing.T) {
	for mode, warned := range map[os.FileMode]bool{
		0o600: false, 0o400: false, 0o700: false, 0o611: false,
		0o640: true, 0o604: true, 0o644: true, 0o660: true, 0o620: true, 0o602: true, 0o777: true,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			file := surroundings{file: `{"dss_instances": {"prod": {"url": "https://dss.example", "api_key": "canary"}}, "default_instance": "prod"}`}.apply(t)
			require.NoError(t, os.Chmod(file, mode))
			var log bytes.Buffer
			before := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			defer slog.SetDefault(before)

			_, err := dss.FromEnv()
			require.NoError(t, err, "it is a warning")
			if !warned {
				assert.Empty(t, log.String())
				return
			}
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("\n")), "lines")
			assert.Contains(t, log.String(), "level=WARN")
			assert.Contains(t, log.String(), "chmod 600")
			assert.Contains(t, log.String(), file)
			assert.NotContains(t, log.String(), "canary")
		})
	}
}
