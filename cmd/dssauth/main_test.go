package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/dsstest"
)

// scene is a deployment to examine: a DSS, and an environment that names it.
type scene struct {
	*testing.T
	fake    *dsstest.Server
	key     string // in DKU_API_KEY
	secrets []string
	connect func() (*dss.Client, error) // in place of the environment
}

// newScene is a deployment where all is well: an administrator's key, ann who
// is signed in, and bob.
func newScene(t *testing.T) *scene {
	s := &scene{T: t, fake: dsstest.NewServer(t)}
	s.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts", "readers"}})
	s.fake.AddUser(dsstest.User{Login: "bob", Groups: []string{"readers"}})
	s.fake.AddUser(dsstest.User{Login: "runner", Groups: []string{"run-as"}})
	s.fake.AddAPIKey("dkuaps-canary-of-runner", "runner")
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"DKU_API_TICKET", "DKU_DEFAULT_INSTANCE", "DKU_NO_CHECK_CERTIFICATE", "DKU_CALL_ORIGIN"} {
		t.Setenv(name, "")
	}
	s.at(s.fake.URL(), s.fake.AdminKey())
	return s
}

// at makes the environment name a DSS.
func (s *scene) at(url, key string) {
	s.Setenv("DKU_DSS_URL", url)
	s.Setenv("DKU_API_KEY", key)
	s.key = key
	s.secret(key, base64.StdEncoding.EncodeToString([]byte(key+":")))
}

// asRunner uses the key of a user who is not an administrator.
func (s *scene) asRunner() { s.at(s.fake.URL(), "dkuaps-canary-of-runner") }

// secret is something that must not be printed.
func (s *scene) secret(values ...string) { s.secrets = append(s.secrets, values...) }

// cookie signs ann in and returns her browser's Cookie header.
func (s *scene) cookie() string {
	c := s.fake.SignIn("ann")
	s.secret(c.Value)
	return c.Name + "=" + c.Value
}

// result has the output of a run, with one space between words, and its exit
// code.
type result struct {
	code        int
	out, stderr string
	lines       []string // of out
}

// run runs the doctor and checks that it prints no credential.
func (s *scene) run(stdin string, args ...string) result {
	s.Helper()
	return s.command(stdin, append([]string{"doctor"}, args...))
}

// contract tries the contract, without a pause between its calls.
func (s *scene) contract(stdin string, args ...string) result {
	s.Helper()
	return s.command(stdin, append([]string{"contract"}, args...))
}

func (s *scene) command(stdin string, args []string) result {
	s.Helper()
	var stdout, stderr bytes.Buffer
	d, err := parseArgs(args, strings.NewReader(stdin), &stderr)
	require.NoError(s, err)
	if s.connect != nil {
		d.connect = s.connect
	}
	if d.pause = 0; d.contract != nil {
		d.contract.journal.pause = 0
	}
	code := d.run(s.Context(), &stdout)
	for _, secret := range append(s.secrets, "ticket-") {
		assert.NotContains(s, stdout.String()+stderr.String(), secret, "a credential is printed")
	}
	return result{code, words(stdout.String()), words(stderr.String()), strings.Split(strings.TrimSpace(stdout.String()), "\n")}
}

// words removes the line breaks, which are not under test.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// shows checks one line of the report and the text below it.
func (s *scene) shows(r result, line string, advice ...string) {
	s.Helper()
	assert.Contains(s, r.out, line)
	for _, a := range advice {
		assert.Contains(s, r.out, a)
	}
}

func TestDoctorFindsNoProblemIfAllIsWell(t *testing.T) {
	s := newScene(t)
	cookie := s.cookie()
	r := s.run("Cookie: "+cookie+"; _ga=GA1.2.3\n\nCookie: "+cookie+"; _ga=GA1.2.4\n\n", "-app-url", "http://127.0.0.1:8080/report")

	assert.Equal(t, exitWell, r.code, r.out)
	assert.NotContains(t, r.out, "problem")
	assert.NotContains(t, r.out, "skipped")
	s.shows(r, "ok settings: "+s.fake.URL()+", API key, from DKU_DSS_URL")
	s.shows(r, "ok connection: DSS answers, version 14.3.3, API version 1 ok")
	s.shows(r, "ok own credentials: to DSS, we are an API key without a user")
	s.shows(r, "ok right to ask who a browser is: we have it")
	s.shows(r, "ok cookies: sent to DSS are", `identify nobody: "_ga".`)
	s.shows(r, `ok visitor: the cookies are those of the user "ann", profile "DESIGNER"`, `Groups: "analysts", "readers".`)
	s.shows(r, "ok acting as the visitor by ticket: allowed")
	s.shows(r, "ok acting as the visitor by proxy user: allowed: we have an administrator's rights")
	s.shows(r, "ok changing cookies: none of the cookies sent to DSS")
	assert.Contains(t, r.stderr, "or its Cookie header")
}

func TestCookiesComeFromEachSource(t *testing.T) {
	t.Run("a file", func(t *testing.T) {
		s := newScene(t)
		file := filepath.Join(t.TempDir(), "cookies")
		require.NoError(t, os.WriteFile(file, []byte("\n"+s.cookie()+"\n"), 0o600))
		r := s.run("", "-cookie-file", file)
		s.shows(r, `those of the user "ann"`)
		s.shows(r, "skipped changing cookies: this needs the Cookie header of a second request")
		assert.Equal(t, exitWell, r.code)
		assert.Empty(t, r.stderr, "there is nobody to ask")
	})
	t.Run("standard input, named as a file", func(t *testing.T) {
		s := newScene(t)
		cookie := s.cookie()
		r := s.run("curl 'https://dss.example/' \\\n  -b '"+cookie+"'\n\n"+cookie, "-cookie-file", "-")
		s.shows(r, `those of the user "ann"`)
		s.shows(r, "ok changing cookies: none")
		assert.Empty(t, r.stderr)
	})
	t.Run("a file of Windows, with empty lines in the body of the first request", func(t *testing.T) {
		s := newScene(t)
		cookie := s.cookie()
		command := "curl ^\"http://dss.example/^\" ^\r\n  -b ^\"" + cookie + "^\" ^\r\n  --data-raw ^\"a^\r\n\r\nb^\r\n\r\n^\r\n\r\n^\"\r\n"
		r := s.run(command+"\r\n"+cookie, "-cookie-file", "-")
		s.shows(r, `those of the user "ann"`)
		s.shows(r, "ok changing cookies: none")
	})
	t.Run("a file of Windows PowerShell, in UTF-16", func(t *testing.T) {
		s := newScene(t)
		text := []byte{0xff, 0xfe}
		for _, unit := range utf16.Encode([]rune("curl ^\"http://dss.example/^\" ^\r\n  -b ^\"a=é; " + s.cookie() + "^\"\r\n")) {
			text = binary.LittleEndian.AppendUint16(text, unit)
		}
		file := filepath.Join(t.TempDir(), "copied.txt")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		r := s.run("", "-cookie-file", file)
		s.shows(r, `those of the user "ann"`)
	})
	t.Run("nowhere", func(t *testing.T) {
		s := newScene(t)
		for _, stdin := range []string{"", "\n", " \n\n"} {
			r := s.run(stdin)
			s.shows(r, "skipped cookies: none were given skipped host names: to check", "skipped acting as the visitor: this needs the cookies")
			assert.Equal(t, exitWell, r.code)
		}
	})
	t.Run("a pipe, in a line as long as a terminal's longest", func(t *testing.T) {
		s := newScene(t)
		line := "Cookie: " + s.cookie() + "; a="
		r := s.run(line + strings.Repeat("x", 4095-len(line)) + "\n\n")
		s.shows(r, `those of the user "ann"`)
		assert.Equal(t, exitWell, r.code)
	})
	t.Run("a paste without end", func(t *testing.T) {
		s := newScene(t)
		r := s.run(strings.Repeat("x", maxPaste+1))
		s.shows(r, "problem cookies: the paste is too long")
	})
	for name, paste := range map[string]struct{ text, says string }{
		"a reply's cookie":             {"Set-Cookie: a=canary-value; Path=/", "Set-Cookie is from the reply"},
		"another header":               {"Authorization: Bearer canary-value=", "it has no Cookie header"},
		"prose":                        {"canary-value", "it has no Cookie header"},
		"a command cut short":          {"curl 'https://x' -b 'a=canary-value", "the paste is cut off"},
		"a command with a cookie file": {"curl https://x -b canary-value", "names a file of cookies"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.secret("canary-value")
			r := s.run(paste.text)
			s.shows(r, "problem cookies: ", paste.says, "Copy as cURL")
			assert.Equal(t, exitProblem, r.code)
		})
	}
}

func TestUsage(t *testing.T) {
	const cookies = "session=canary-value"
	for name, row := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no command is an error":                                {nil, exitUsage, "a command is missing: doctor or contract"},
		"another command is an error":                           {[]string{cookies}, exitUsage, "it is doctor or contract"},
		"an argument after the flags is an error":               {[]string{"doctor", cookies}, exitUsage, "cookies are read from standard input"},
		"cookies in place of a file's name are an error":        {[]string{"doctor", "-cookie-file", cookies}, exitUsage, "-cookie-file: no such file"},
		"an unknown flag is an error":                           {[]string{"doctor", "-cookie=" + cookies}, exitUsage, "flag provided but not defined: -cookie:"},
		"an unknown impersonation mode is an error":             {[]string{"doctor", "-impersonation", "x"}, exitUsage, "use none, ticket, proxy-user or either"},
		"an application's address without a host is an error":   {[]string{"doctor", "-app-url", "https:///" + cookies}, exitUsage, "-app-url: it is a whole address"},
		"an application's address without a scheme is an error": {[]string{"doctor", "-app-url", cookies}, exitUsage, "as https://apps.example.com/report"},
		"a timeout of zero is an error":                         {[]string{"doctor", "-timeout", "0s"}, exitUsage, "it must be positive"},
		"help is not an error":                                  {[]string{"help"}, exitWell, "Usage: dssauth doctor"},
		"-help is not an error":                                 {[]string{"-help"}, exitWell, "Usage: dssauth doctor"},
		"the command's -help describes its flags":               {[]string{"doctor", "-help"}, exitWell, "-cookie-file file"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, row.code, run(t.Context(), row.args, strings.NewReader(""), &stdout, &stderr))
			said := stdout
			if row.code != exitWell {
				assert.Empty(t, stdout.String())
				said = stderr
			}
			assert.Contains(t, said.String(), row.says)
			assert.NotContains(t, said.String(), "canary-value")
		})
	}
}

// No user would find a flag that is missing from the help, or a flag that is
// only there.
func TestHelpNamesEveryFlag(t *testing.T) {
	for _, name := range []string{"cookie-file", "app-url", "impersonation", "user", "timeout", "report", "project", "ended-cookie-file"} {
		assert.Contains(t, help, "\n  -"+name+" ")
	}
	assert.Equal(t, 8, strings.Count(help, "\n  -"))
}

// browserEcho answers with the Cookie header that it was asked about, as a
// careless server does in an error message.
func browserEcho(status int, pattern string) dsstest.Interceptor {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		_, cookie, _ := strings.Cut(body.String(), `"Cookie":"`)
		cookie, _, _ = strings.Cut(cookie, `"`)
		if strings.HasPrefix(cookie, "dssauth_doctor=") {
			r.Body = http.NoBody // nobody's
			dsstest.Respond(200, `{"authIdentifier": ""}`)(w, r, next)
			return
		}
		_, value, _ := strings.Cut(cookie, "=")
		dsstest.Respond(status, strings.NewReplacer("COOKIE", cookie, "VALUE", value).Replace(pattern))(w, r, next)
	}
}
