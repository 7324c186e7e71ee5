package main

import (
	"bufio"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dssauth/dssauth/dsstest"
)

// asCommand makes the test binary run as the command.
const asCommand = "DSSAUTH_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// desk is a person at a terminal. The terminal is a real one, with its two
// ends.
type desk struct {
	*testing.T
	keyboard *os.File // and screen
	terminal *os.File // what programs have

	mu     sync.Mutex
	screen strings.Builder
	more   chan struct{} // there is more on the screen
	seen   int           // how much of it
}

func newDesk(t *testing.T) *desk {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	require.NoError(t, err)
	name := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	d := &desk{T: t, keyboard: os.NewFile(uintptr(master), "keyboard"), terminal: os.NewFile(uintptr(slave), name), more: make(chan struct{}, 1)}
	go d.watch()
	t.Cleanup(func() { _ = d.terminal.Close() }) // which ends watch
	return d
}

func (d *desk) watch() {
	defer d.keyboard.Close()
	chunk := make([]byte, 4096)
	for {
		n, err := d.keyboard.Read(chunk)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.screen.Write(chunk[:n])
		d.mu.Unlock()
		select {
		case d.more <- struct{}{}:
		default:
		}
	}
}

func (d *desk) shown() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.screen.String()
}

// sees waits until a text appears on the screen, below the texts of earlier
// calls.
func (d *desk) sees(text string) {
	d.Helper()
	for late := time.After(time.Minute); ; {
		if i := strings.Index(d.shown()[d.seen:], text); i >= 0 {
			d.seen += i + len(text)
			return
		}
		select {
		case <-d.more:
		case <-late:
			require.FailNow(d, "it does not appear on the screen", "%q in:\n%s", text, d.shown())
		}
	}
}

// types sends keys, or a paste. A terminal accepts little more than programs have
// read.
func (d *desk) types(text string) {
	d.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := d.keyboard.WriteString(text)
		done <- err
	}()
	select {
	case err := <-done:
		require.NoError(d, err)
	case <-time.After(time.Minute):
		require.FailNow(d, "the doctor does not read the paste", d.shown())
	}
}

func (d *desk) modes() unix.Termios {
	modes, err := unix.IoctlGetTermios(int(d.terminal.Fd()), unix.TCGETS)
	require.NoError(d, err)
	return *modes
}

// ends waits until a command has ended.
func (d *desk) ends(cmd *exec.Cmd) {
	d.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	require.True(d, late.Stop(), "it does not end, and shows:\n%s", d.shown())
}

// leavesNothing checks the terminal that a shell finds after the doctor: its
// settings are as before, and it has only text that is typed from now on.
func (d *desk) leavesNothing(before unix.Termios) {
	d.Helper()
	require.Equal(d, before, d.modes(), "the modes of the terminal")
	d.types("the next command\n")
	line, err := bufio.NewReader(d.terminal).ReadString('\n')
	require.NoError(d, err)
	assert.Equal(d, "the next command\n", line)
	d.sees("the next command") // which is shown, and so all before it
	assert.Equal(d, strings.LastIndex(d.shown(), pastesMarked) < 0, strings.LastIndex(d.shown(), pastesUnmarked) < 0)
	assert.LessOrEqual(d, strings.LastIndex(d.shown(), pastesMarked), strings.LastIndex(d.shown(), pastesUnmarked), "pastes are marked for ever")
	assert.NotContains(d, d.shown(), "canary", "a paste is shown")
}

// patient is a deployment where all is well, and ann is signed in.
type patient struct {
	fake   *dsstest.Server
	cookie string
	env    []string
}

func newPatient(t *testing.T) *patient {
	p := &patient{fake: dsstest.NewServer(t)}
	p.fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	session := p.fake.SignIn("ann")
	p.cookie = session.Name + "=" + session.Value
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "DKU_") {
			p.env = append(p.env, pair)
		}
	}
	p.env = append(p.env, asCommand+"=yes", "HOME="+t.TempDir(), "DKU_DSS_URL="+p.fake.URL(), "DKU_API_KEY="+p.fake.AdminKey())
	return p
}

// doctor is the command at the terminal.
func (p *patient) doctor(d *desk, term string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.Context(), os.Args[0], append([]string{"doctor"}, args...)...)
	cmd.Env = append(p.env, "TERM="+cmp.Or(term, "xterm"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.terminal, d.terminal, d.terminal
	return cmd
}

const (
	question = "Enter alone skips this, Ctrl-C ends.\r\n> "
	// canary is a part of a paste, beside the cookies, that a shell would
	// execute.
	canary = "touch pasted-canary"
)

func marked(text string) string { return pasteBegins + text + pasteEnds }

func TestPasteLeavesNothingForTheShell(t *testing.T) {
	signal := func(s os.Signal) func(*desk, *exec.Cmd) {
		return func(d *desk, cmd *exec.Cmd) { require.NoError(d, cmd.Process.Signal(s)) }
	}
	for name, row := range map[string]struct {
		term  string
		args  []string
		text  string // COOKIE stands for the cookie of ann's browser
		then  func(*desk, *exec.Cmd)
		again bool // a second question comes, which Enter skips
		code  int
		shows string
	}{
		"a header that the terminal marks as pasted": {
			text: marked("Cookie: COOKIE") + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a header that it does not mark": {
			term: "dumb", text: "Cookie: COOKIE\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a request with an empty line within": {
			text: marked("GET / HTTP/1.1\rCookie: COOKIE\r\r"+canary+"\r") + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a request with an empty line within, not marked": {
			term: "dumb", text: "GET / HTTP/1.1\rCookie: COOKIE\r\r" + canary + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a line longer than a terminal's": {
			text: marked("Cookie: COOKIE; a="+strings.Repeat("x", 9000)) + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a line longer than a terminal's, and more behind it": {
			term: "dumb", text: "Cookie: COOKIE; a=" + strings.Repeat("x", 9000) + "\r\r" + canary + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a command of many lines": {
			text: marked("curl 'https://dss.example/' \\\r  -b 'COOKIE' \\\r  --compressed\r"+canary+"\r") + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a paste to -cookie-file -, which the terminal is": {
			args: []string{"-cookie-file", "-"}, text: marked("Cookie: COOKIE\r\r"+canary+"\r") + "\r", again: true, code: exitWell, shows: `the user "ann"`},
		"a paste that is too long": {
			text: marked(strings.Repeat(canary+"\r", maxPaste/len(canary)+10)) + "\r", code: exitProblem, shows: "the paste is too long"},
		"a paste that is too long, not marked": {
			term: "dumb", text: strings.Repeat(canary+"\r", maxPaste/len(canary)+10), code: exitProblem, shows: "the paste is too long"},
		"a paste without cookies": {
			term: "dumb", text: canary + "\r\r" + canary + "\r", code: exitProblem, shows: "it has no Cookie header"},
		"nothing": {
			text: "\r", code: exitWell, shows: "skipped  cookies: none were given"},
		"nothing, by the end of input": {
			text: "\x04", code: exitWell, shows: "skipped  cookies: none were given"},
		"Ctrl-C, and then a paste": {
			term: "dumb", text: "\x03" + canary + "\r\r" + canary + "\r", code: exitInterrupted, shows: "interrupted"},
		"Ctrl-C, and then a paste longer than what a terminal holds": {
			term: "dumb", text: "\x03" + strings.Repeat(canary+"\r", 20_000), code: exitInterrupted, shows: "interrupted"},
		"Ctrl-C within a paste": {
			text: pasteBegins + canary + "\r\x03" + canary + pasteEnds + canary + "\r", code: exitInterrupted, shows: "interrupted"},
		"Ctrl-C in a paste whose end does not come": {
			text: pasteBegins + canary + "\r" + canary + "\r\x03", code: exitInterrupted, shows: "interrupted"},
		"Ctrl-backslash": {
			text: canary + "\r\x1c" + canary + "\r", code: exitInterrupted, shows: "interrupted"},
		"Ctrl-Z, which does not end it": {
			text: canary + "\x1a\r", code: exitProblem, shows: "it has no Cookie header"},
		"SIGINT":  {text: marked(canary + "\r" + canary), then: signal(syscall.SIGINT), code: exitInterrupted, shows: "interrupted"},
		"SIGTERM": {text: marked(canary + "\r" + canary), then: signal(syscall.SIGTERM), code: exitInterrupted, shows: "interrupted"},
		"SIGHUP":  {text: marked(canary + "\r" + canary), then: signal(syscall.SIGHUP), code: exitInterrupted, shows: "interrupted"},
		"SIGQUIT": {text: marked(canary + "\r" + canary), then: signal(syscall.SIGQUIT), code: exitInterrupted, shows: "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, d := newPatient(t), newDesk(t)
			before := d.modes()
			cmd := p.doctor(d, row.term, row.args...)
			require.NoError(t, cmd.Start())
			d.sees(question)
			d.types(strings.ReplaceAll(row.text, "COOKIE", p.cookie))
			if row.then != nil {
				row.then(d, cmd)
			}
			if row.again {
				d.sees("Load the page again")
				d.sees(question)
				d.types("\r")
			}
			d.ends(cmd)
			assert.Equal(t, row.code, cmd.ProcessState.ExitCode())
			d.leavesNothing(before)
			assert.Contains(t, d.shown(), row.shows)
			assert.NotContains(t, d.shown(), p.cookie)
		})
	}
}

func TestEarlyExitLeavesNothingForTheShell(t *testing.T) {
	t.Run("the settings are wrong, and a paste came before", func(t *testing.T) {
		p, d := newPatient(t), newDesk(t)
		before := d.modes()
		cmd := p.doctor(d, "")
		cmd.Env = append(cmd.Env, "DKU_DSS_URL=nonsense")
		d.types("\rrm typed-ahead\rrm typed") // before the doctor keeps it from the screen
		require.NoError(t, cmd.Start())
		d.ends(cmd)
		assert.Equal(t, exitProblem, cmd.ProcessState.ExitCode())
		d.leavesNothing(before)
		assert.Contains(t, d.shown(), "problem  settings")
	})
	t.Run("Ctrl-C while DSS does not answer", func(t *testing.T) {
		p, d := newPatient(t), newDesk(t)
		asked, answer := make(chan struct{}), make(chan struct{})
		defer close(answer)
		p.fake.Intercept("/auth/info", 1, func(http.ResponseWriter, *http.Request, http.Handler) {
			close(asked)
			<-answer
		})
		before := d.modes()
		cmd := p.doctor(d, "", "-timeout", "1h")
		require.NoError(t, cmd.Start())
		<-asked
		d.types(canary + "\r\x03" + canary + "\r")
		d.ends(cmd)
		assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
		d.leavesNothing(before)
		assert.NotContains(t, d.shown(), "connection", "nothing is said about DSS")
	})
	t.Run("the pager that the report goes to is left", func(t *testing.T) {
		p, d := newPatient(t), newDesk(t)
		report, stdout, err := os.Pipe()
		require.NoError(t, err)
		before := d.modes()
		cmd := p.doctor(d, "")
		cmd.Stdout = stdout
		require.NoError(t, cmd.Start())
		require.NoError(t, stdout.Close())
		d.sees(question)
		require.NoError(t, report.Close())
		d.types(marked("Cookie: "+p.cookie+"\r"+canary+"\r") + "\r" + canary + "\r")
		d.ends(cmd)
		assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
		d.leavesNothing(before)
	})
}

// A shell would execute the rest of a paste, so this test runs one.
func TestShellExecutesNoPastedText(t *testing.T) {
	p, d := newPatient(t), newDesk(t)
	shell := exec.CommandContext(t.Context(), "sh", "-i")
	shell.Dir = t.TempDir()
	shell.Env = append(p.env, "PS1=ready$ ", "TERM=dumb", "DOCTOR="+os.Args[0])
	shell.Stdin, shell.Stdout, shell.Stderr = d.terminal, d.terminal, d.terminal
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, shell.Start())
	d.sees("ready$ ")
	for _, paste := range []string{
		"Cookie: " + p.cookie + "\r\r" + canary + "\r",
		canary + "\r\r" + canary + "\r",
		"\r" + canary + "\r",
		strings.Repeat(canary+"\r", maxPaste/len(canary)+10),
		"\x03" + canary + "\r\r" + canary + "\r",
	} {
		d.types("$DOCTOR doctor\r")
		d.sees(question)
		d.types(paste)
		if strings.Contains(paste, p.cookie) {
			d.sees(question)
			d.types("\r")
		}
		d.sees("ready$ ")
	}
	d.types("echo $((6*7)) is the end; exit\r")
	d.sees("42 is the end")
	assert.NoError(t, shell.Wait())
	left, err := os.ReadDir(shell.Dir)
	require.NoError(t, err)
	assert.Empty(t, left, "the shell has executed pasted text")
	assert.NotContains(t, d.shown(), "canary")
}

func TestTerminalIsNotACookieFile(t *testing.T) {
	p, d := newPatient(t), newDesk(t)
	cmd := p.doctor(d, "", "-cookie-file", d.terminal.Name())
	_ = cmd.Run()
	assert.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
	d.sees("-cookie-file: this is a terminal: leave it out, or use -")
}
