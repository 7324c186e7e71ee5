package dss

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ErrNotConfigured is the error of FromEnv if no setting names a DSS. Wrong
// settings are other errors.
var ErrNotConfigured = errors.New("dss: no DSS is configured: neither DKU_API_TICKET (inside DSS), nor DKU_DSS_URL and DKU_API_KEY, nor ~/.dataiku/config.json is there")

// FromEnv returns a client for the DSS that the surroundings name. It uses the
// first of these sources that exists. If that source is wrong, FromEnv returns
// an error: the next one might name another DSS, or give other rights. An empty
// variable counts as missing.
//
//  1. Inside DSS: DKU_API_TICKET, with DKU_BACKEND_PORT, DKU_BACKEND_HOST
//     (default: 127.0.0.1) and DKU_BACKEND_PROTOCOL (default: http). With
//     https, DKU_SERVER_CERT is the certificate to trust, in PEM or, after
//     "b64:", in base64. It is DSS's own certificate, for any host name, or
//     the certificate of its authority. Without it the system's authorities
//     are trusted.
//  2. DKU_DSS_URL with DKU_API_KEY, or with DKU_API_KEY_FILE: a file with the
//     key, such as a mounted secret. It is read at the start, and again when
//     DSS rejects the key, as [Config.APIKeySource] is. White space around the
//     key is left out. DKU_NO_CHECK_CERTIFICATE accepts any certificate, unless
//     it is blank, or false, f, no, n, off or 0 in upper or lower case. A key
//     without DKU_DSS_URL is an error, unless the file below exists: then the
//     file is used, and a warning is logged.
//  3. The file ~/.dataiku/config.json of the official clients, and in it the
//     instance that DKU_DEFAULT_INSTANCE or else default_instance names. If
//     others than its owner may read or write it, a warning is logged.
//
// DKU_CALL_ORIGIN, if set, is sent as the header X-DKU-CallOrigin.
func FromEnv() (*Client, error) {
	cfg, o, err := configFromEnv()
	if err != nil {
		return nil, err
	}
	o.callOrigin = os.Getenv("DKU_CALL_ORIGIN")
	if strings.ContainsFunc(o.callOrigin, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("dss: DKU_CALL_ORIGIN %q: a header cannot carry it", clip(o.callOrigin, 100))
	}
	return newClient(cfg, o)
}

// CurrentProject returns the key of the DSS project that this code belongs to.
// It is empty outside DSS. DSS gives it as DKU_CURRENT_PROJECT_KEY.
func CurrentProject() string { return os.Getenv("DKU_CURRENT_PROJECT_KEY") }

func configFromEnv() (Config, origin, error) {
	switch {
	case os.Getenv("DKU_API_TICKET") != "":
		return configInsideDSS()
	case os.Getenv("DKU_DSS_URL") != "":
		return configFromVariables()
	}
	cfg, o, err := configFromFile()
	// The key or the file may be left over from another use.
	if key := keyVariable(); key != "" && errors.Is(err, ErrNotConfigured) {
		err = fmt.Errorf("dss: %s is set and DKU_DSS_URL is not; set it to where DSS is, as in https://dss.example", key)
	} else if key != "" {
		slog.Default().Warn("dss: "+key+" has no effect, since DKU_DSS_URL is not set; the file of the official clients is used", "file", configFile())
	}
	return cfg, o, err
}

// keyVariable returns the name of the variable that gives an API key, or "".
func keyVariable() string {
	for _, name := range []string{"DKU_API_KEY", "DKU_API_KEY_FILE"} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

func configInsideDSS() (Config, origin, error) {
	o := origin{from: "DKU_API_TICKET", inside: true, fields: map[string]string{"URL": "DKU_BACKEND_HOST", "Ticket": "DKU_API_TICKET"}}
	protocol := getenv("DKU_BACKEND_PROTOCOL", "http")
	if protocol != "http" && protocol != "https" {
		return Config{}, o, fmt.Errorf("dss: DKU_BACKEND_PROTOCOL %q: it must be http or https", protocol)
	}
	port := os.Getenv("DKU_BACKEND_PORT")
	if port == "" {
		return Config{}, o, errors.New("dss: DKU_BACKEND_PORT is empty; DSS sets it together with DKU_API_TICKET")
	}
	if !isPort(port) {
		return Config{}, o, fmt.Errorf("dss: DKU_BACKEND_PORT %q: it must be between 1 and 65535", port)
	}
	host := getenv("DKU_BACKEND_HOST", "127.0.0.1")
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.ContainsAny(bare, `/\?#@[]`) || strings.Contains(bare, ":") && net.ParseIP(bare) == nil {
		return Config{}, o, fmt.Errorf("dss: DKU_BACKEND_HOST %s: it must be a host name or an address, as in 127.0.0.1", quoteURL(host))
	}
	if certificate := os.Getenv("DKU_SERVER_CERT"); certificate != "" && protocol == "https" {
		pinned, err := parseCertificates(certificate)
		if err != nil {
			return Config{}, o, fmt.Errorf("dss: DKU_SERVER_CERT: %w", err)
		}
		o.pinned = pinned
	}
	return Config{
		URL:    protocol + "://" + net.JoinHostPort(bare, port),
		Ticket: os.Getenv("DKU_API_TICKET"),
	}, o, nil
}

func configFromVariables() (Config, origin, error) {
	o := origin{from: "DKU_DSS_URL", fields: map[string]string{"URL": "DKU_DSS_URL", "APIKey": "DKU_API_KEY", "APIKeySource": "DKU_API_KEY_FILE"}}
	cfg := Config{URL: os.Getenv("DKU_DSS_URL"), APIKey: os.Getenv("DKU_API_KEY")}
	if file := os.Getenv("DKU_API_KEY_FILE"); file != "" {
		cfg.APIKeySource = keyOfFile(file)
	} else if cfg.APIKey == "" {
		return Config{}, o, errors.New("dss: DKU_DSS_URL is set and DKU_API_KEY is not; set it to an API key of that DSS")
	}
	cfg.InsecureSkipVerify = saysYes(os.Getenv("DKU_NO_CHECK_CERTIFICATE"))
	return cfg, o, nil
}

// saysYes reports whether a variable is set, and not to a word for no.
func saysYes(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "", "false", "f", "no", "n", "off", "0":
		return false
	}
	return true
}

const maxConfigFileBytes = 1 << 20

// configFile returns the name of the official clients' file, or "" if its
// folder is not known.
func configFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".dataiku", "config.json")
}

func configFromFile() (Config, origin, error) {
	file := configFile()
	if file == "" {
		return Config{}, origin{}, fmt.Errorf("%w, and its folder is not known, since HOME is not set", ErrNotConfigured)
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, origin{}, ErrNotConfigured
	}
	if err != nil {
		return Config{}, origin{}, fmt.Errorf("dss: %w", err)
	}
	defer f.Close()
	warnOfOthers(f)
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFileBytes+1))
	if err != nil {
		return Config{}, origin{}, fmt.Errorf("dss: %w", err)
	}
	if len(data) > maxConfigFileBytes {
		return Config{}, origin{}, fmt.Errorf("dss: %s: it is longer than 1 MiB", file)
	}
	name, cfg, err := parseConfigFile(data, os.Getenv("DKU_DEFAULT_INSTANCE"))
	if err != nil {
		return Config{}, origin{}, fmt.Errorf("dss: %s: %w", file, err)
	}
	at := fmt.Sprintf("%s: dss_instances %q: ", file, name)
	return cfg, origin{from: fmt.Sprintf("%s, instance %q", file, name), fields: map[string]string{"URL": at + "url", "APIKey": at + "api_key"}}, nil
}

// warnOfOthers warns if other users of this machine may read or write f.
func warnOfOthers(f *os.File) {
	if runtime.GOOS == "windows" {
		return // Windows has other permissions, and Go makes these up
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o066 != 0 {
		slog.Default().Warn("dss: other users of this machine can open the file with the API key; run chmod 600 on it",
			"file", f.Name(), "mode", fmt.Sprintf("%#o", info.Mode().Perm()))
	}
}

// parseConfigFile returns the settings of one instance, and its name: the given
// one, or the file's default if that is empty.
func parseConfigFile(data []byte, name string) (string, Config, error) {
	members, err := parseObject(data)
	if err != nil {
		return "", Config{}, fmt.Errorf("it %w", err)
	}
	r := newReader(members, "dss_instances", "default_instance")
	var fallback string
	r.text("default_instance", &fallback)
	if r.err != nil {
		return "", Config{}, r.err
	}
	by := "DKU_DEFAULT_INSTANCE"
	if name == "" {
		name, by = fallback, "default_instance"
	}
	if name == "" {
		return "", Config{}, errors.New("default_instance is missing; set it, or DKU_DEFAULT_INSTANCE, to the name of an instance")
	}
	instance, err := findInstance(r.raw("dss_instances"), name)
	if err != nil {
		return "", Config{}, fmt.Errorf("dss_instances %w", err)
	}
	if instance == nil {
		return "", Config{}, fmt.Errorf("dss_instances has no %q, which %s names", name, by)
	}
	cfg, err := parseInstance(instance)
	if err != nil {
		return "", Config{}, fmt.Errorf("dss_instances %q: %w", name, err)
	}
	return name, cfg, nil
}

func findInstance(instances []byte, name string) (json.RawMessage, error) {
	if instances == nil {
		return nil, errors.New("is missing")
	}
	members, err := parseObject(instances)
	for _, m := range members {
		if string(m.name) == name {
			return m.value, nil
		}
	}
	return nil, err
}

func parseInstance(instance []byte) (Config, error) {
	members, err := parseObject(instance)
	if err != nil {
		return Config{}, fmt.Errorf("it %w", err)
	}
	var cfg Config
	r := newReader(members, "url", "api_key", "no_check_certificate")
	r.text("url", &cfg.URL)
	r.text("api_key", &cfg.APIKey)
	r.flag("no_check_certificate", &cfg.InsecureSkipVerify)
	if r.err == nil && cfg.APIKey == "" {
		r.fail("api_key", errors.New("is missing"))
	}
	return cfg, r.err
}

// parseCertificates reads PEM, or base64 of PEM or DER after "b64:".
func parseCertificates(value string) ([]*x509.Certificate, error) {
	data := []byte(value)
	if encoded, ok := strings.CutPrefix(value, "b64:"); ok {
		var err error
		if data, err = base64.StdEncoding.DecodeString(strings.TrimSpace(encoded)); err != nil {
			return nil, errors.New("the text after b64: is not base64")
		}
		if certificates, err := x509.ParseCertificates(data); err == nil && len(certificates) > 0 {
			return certificates, nil
		}
	}
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate in it cannot be read: %w", err)
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("it has no certificate; give PEM, or b64: and its base64")
	}
	return certificates, nil
}

func getenv(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
