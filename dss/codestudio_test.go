package dss_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
)

// codeStudio returns the variables of a Code Studio that exposes port 8080,
// with the values that a test changes. An empty value removes a variable.
func codeStudio(t *testing.T, changed ...string) {
	env := map[string]string{
		"DKU_CODE_STUDIO_BROWSER_PATH":      "/code-studios/CHURN/a1b2c3",
		"DKU_CODE_STUDIO_BROWSER_PATH_8080": "/code-studios/CHURN/a1b2c3/8080",
	}
	for i := 0; i < len(changed); i += 2 {
		env[changed[i]] = changed[i+1]
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}

func TestCodeStudioRefuses(t *testing.T) {
	const (
		base   = "DKU_CODE_STUDIO_BROWSER_PATH"
		path   = "DKU_CODE_STUDIO_BROWSER_PATH_8080"
		public = "DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080"
		pod    = "K8S_POD_NAME"
		begin  = `: it must begin with a slash, as in /code-studios/CHURN/a1b2c3/8080`
		parts  = `: between its slashes it must have letters, digits, dots, hyphens and underscores, as in /code-studios/CHURN/a1b2c3/8080`
	)
	for name, row := range map[string]struct {
		changed []string
		want    string
	}{
		"a port that is not exposed": {[]string{path, ""},
			`dss: DKU_CODE_STUDIO_BROWSER_PATH_8080 is not set and DKU_CODE_STUDIO_BROWSER_PATH is; expose port 8080 in an entry point of the Code Studio's template, or listen on the port that it exposes`},
		"a public port without a path": {[]string{path, "", base, "", public, "1"},
			`dss: DKU_CODE_STUDIO_BROWSER_PATH_8080 is not set and DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080 is; expose port 8080 in an entry point of the Code Studio's template, or listen on the port that it exposes`},
		"neither public nor not": {[]string{public, "yes"},
			`dss: DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080 "yes": it must be 1 or 0`},
		"a relative path":             {[]string{path, "code-studios/CHURN"}, `dss: ` + path + ` "code-studios/CHURN"` + begin},
		"a whole URL":                 {[]string{path, "https://evil.example/"}, `dss: ` + path + ` "https://evil.example/"` + begin},
		"another host for a browser":  {[]string{path, "//evil.example/a"}, `dss: ` + path + ` "//evil.example/a"` + parts},
		"the same by a backslash":     {[]string{path, `/\evil.example`}, `dss: ` + path + ` "/\\evil.example"` + parts},
		"a path that climbs":          {[]string{path, "/a/../b"}, `dss: ` + path + ` "/a/../b"` + parts},
		"two slashes at the end":      {[]string{path, "/a//"}, `dss: ` + path + ` "/a//"` + parts},
		"only a slash":                {[]string{path, "/"}, `dss: ` + path + ` "/"` + parts},
		"an escaped character":        {[]string{path, "/a%2fb"}, `dss: ` + path + ` "/a%2fb"` + parts},
		"a query":                     {[]string{path, "/a?b"}, `dss: ` + path + ` "/a?b"` + parts},
		"a pattern of net/http":       {[]string{path, "/{a}"}, `dss: ` + path + ` "/{a}"` + parts},
		"a line end":                  {[]string{path, "/a\n"}, `dss: ` + path + ` "/a\n"` + parts},
		"a variable without braces":   {[]string{path, "/a_$K8S_POD_NAME", pod, "p"}, `dss: ` + path + ` "/a_$K8S_POD_NAME"` + parts},
		"a pod whose name is missing": {[]string{path, "/a_${K8S_POD_NAME}", pod, ""}, `dss: ` + path + ` "/a_${K8S_POD_NAME}": K8S_POD_NAME must be set, to letters, digits, dots, hyphens and underscores`},
		"a pod whose name is a path":  {[]string{path, "/a_${K8S_POD_NAME}", pod, "canary/.."}, `dss: ` + path + ` "/a_${K8S_POD_NAME}": K8S_POD_NAME must be set, to letters, digits, dots, hyphens and underscores`},
		"a variable in a variable":    {[]string{path, "/a_${K8S_POD_NAME}", pod, "${HOME}"}, `dss: ` + path + ` "/a_${K8S_POD_NAME}": K8S_POD_NAME must be set, to letters, digits, dots, hyphens and underscores`},
	} {
		t.Run(name, func(t *testing.T) {
			codeStudio(t, row.changed...)
			addr, prefix, err := dss.CodeStudio(8080)
			require.EqualError(t, err, row.want)
			assert.Empty(t, addr)
			assert.Empty(t, prefix)
		})
	}
	for _, port := range []int{-1, 0, 65536} {
		_, _, err := dss.CodeStudio(port)
		require.ErrorContains(t, err, "it must be between 1 and 65535")
	}
}

func TestCodeStudio(t *testing.T) {
	const (
		path   = "DKU_CODE_STUDIO_BROWSER_PATH_8080"
		public = "DKU_CODE_STUDIO_IS_PUBLIC_PORT_8080"
	)
	for name, row := range map[string]struct {
		changed      []string
		addr, prefix string
	}{
		"a laptop":                        {[]string{path, "", "DKU_CODE_STUDIO_BROWSER_PATH", ""}, "127.0.0.1:8080", ""},
		"a Code Studio":                   {nil, "127.0.0.1:8080", "/code-studios/CHURN/a1b2c3/8080"},
		"a slash at the end":              {[]string{path, "/code-studios/CHURN/a1b2c3/8080/"}, "127.0.0.1:8080", "/code-studios/CHURN/a1b2c3/8080"},
		"a port that others may reach":    {[]string{public, "1"}, "0.0.0.0:8080", "/code-studios/CHURN/a1b2c3/8080"},
		"a port that others may not":      {[]string{public, "0"}, "127.0.0.1:8080", "/code-studios/CHURN/a1b2c3/8080"},
		"another port is for others":      {[]string{"DKU_CODE_STUDIO_IS_PUBLIC_PORT_8081", "1"}, "127.0.0.1:8080", "/code-studios/CHURN/a1b2c3/8080"},
		"a webapp of several pods":        {[]string{path, "/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/8080", "K8S_POD_NAME", "app-7d4b.x"}, "127.0.0.1:8080", "/web-apps-backends/CHURN/Xy_app-7d4b.x/8080"},
		"two variables, one of them last": {[]string{path, "/${K8S_POD_NAMESPACE}/${K8S_POD_NAME}", "K8S_POD_NAMESPACE", "dss", "K8S_POD_NAME", "p"}, "127.0.0.1:8080", "/dss/p"},
	} {
		t.Run(name, func(t *testing.T) {
			codeStudio(t, row.changed...)
			addr, prefix, err := dss.CodeStudio(8080)
			require.NoError(t, err)
			assert.Equal(t, row.addr, addr)
			assert.Equal(t, row.prefix, prefix)
		})
	}
}

// FuzzCodeStudio checks that a prefix is one path on the same host, and works
// as a pattern of net/http, for any values of the variables.
func FuzzCodeStudio(f *testing.F) {
	f.Add("/code-studios/CHURN/a1b2c3/8080", "")
	f.Add("/web-apps-backends/CHURN/Xy_${K8S_POD_NAME}/8080", "app-7d4b.x")
	for _, seed := range []string{"//evil.example", `/\evil.example`, "/a/..", "/${K8S_POD_NAME}/..", "/%2e", "/{a...}", "/$", "/é", "/a b", "/\x7f"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, value, pod string) {
		if strings.ContainsRune(value+pod, 0) {
			return // no variable can hold it
		}
		t.Setenv("DKU_CODE_STUDIO_BROWSER_PATH_8080", value)
		t.Setenv("K8S_POD_NAME", pod)
		addr, prefix, err := dss.CodeStudio(8080)
		if err != nil {
			require.Empty(t, addr+prefix)
			require.Contains(t, err.Error(), "DKU_CODE_STUDIO_BROWSER_PATH_8080")
			return
		}
		require.Equal(t, "127.0.0.1:8080", addr)
		if value == "" {
			require.Empty(t, prefix)
			return
		}
		want := strings.TrimSuffix(os.ExpandEnv(value), "/")
		require.Equal(t, want, prefix)
		require.Equal(t, path.Clean(prefix), prefix)
		u, err := url.Parse(prefix)
		require.NoError(t, err)
		require.Equal(t, url.URL{Path: prefix}, *u)

		mux := http.NewServeMux()
		mux.Handle(prefix+"/", http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, "/page", r.URL.Path)
			w.WriteHeader(http.StatusTeapot)
		})))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", prefix+"/page", nil))
		require.Equal(t, http.StatusTeapot, w.Code)
	})
}
