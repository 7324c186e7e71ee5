// Package withoutdss runs the examples with the commands of their comments,
// without a DSS.
package withoutdss

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// visit visits an example at an address, with a Cookie header or without one.
// It returns the status and the answer.
type visit func(t *testing.T, addr, cookie string) (status int, body string)

// examples has, for each one, the way to visit it and its answer to ann.
var examples = map[string]struct {
	visit visit
	says  string
}{
	"chi":           {get("/me"), `"login":"ann"`},
	"deploy":        {get("/me"), `"login":"ann"`},
	"gorilla":       {get("/me"), `"login":"ann"`},
	"echo":          {get("/me"), `"login":"ann"`},
	"echov4":        {get("/me"), `"login":"ann"`},
	"gin":           {get("/me"), `"login":"ann"`},
	"fiber":         {get("/me"), `"login":"ann"`},
	"nethttp":       {get("/me"), `"login":"ann"`},
	"impersonation": {get("/me"), `"login":"ann"`},
	"accesslog":     {get("/report"), "the report"},
	"traces":        {get("/hello"), "hello"},
	"sse":           {get("/events"), "data: ann"},
	"spa":           {get("/api/me"), `"login":"ann"`},
	"websocket":     {talk, "ann said: hi"},
	"connect":       {post("/visitors.v1.Visitors/Me"), `"ann"`},
	"grpc":          {callGRPC, "ann"},
}

// The comment of each example has the commands.
func TestCommentsHaveTheStartCommands(t *testing.T) {
	files, err := filepath.Glob("../../*/main.go")
	require.NoError(t, err)
	require.Greater(t, len(files), len(examples))
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		name := filepath.Base(filepath.Dir(file))
		if name == "quickstart" || name == "replicas" { // these have a fake DSS of their own
			continue
		}
		if name != "metrics" { // which listens at a second address, too: its own test starts it
			_, visited := examples[name]
			assert.True(t, visited, "examples/internal/withoutdss/withoutdss_test.go: the table examples has no line for %q", name)
		}
		comment, _, _ := strings.Cut(string(source), "\npackage main")
		commands := "//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev\n" +
			"//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/" + name
		assert.True(t, strings.Contains(comment+"\n", "\n"+commands+"\n"), "the comment of examples/%s/main.go lacks these lines:\n%s", name, commands)
	}
}

// Each example starts like that, on other ports, with an empty home. It knows
// the user that signed in on the page of fakedss.
func TestExamplesKnowTheSignedInUser(t *testing.T) {
	programs := build(t)
	fakedss := exec.CommandContext(t.Context(), filepath.Join(programs, "fakedss"), "-addr", "127.0.0.1:0", "-admin-key", "dev")
	stdout, err := fakedss.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, fakedss.Start())
	t.Cleanup(func() { fakedss.Process.Kill(); fakedss.Wait() })
	var fake struct{ URL string }
	require.NoError(t, json.NewDecoder(bufio.NewReader(stdout)).Decode(&fake))
	ann := signIn(t, fake.URL)

	for name, example := range examples {
		t.Run(name, func(t *testing.T) {
			addr := start(t, filepath.Join(programs, name), "DKU_DSS_URL="+fake.URL, "DKU_API_KEY=dev")
			code, _ := example.visit(t, addr, "")
			assert.Equal(t, http.StatusUnauthorized, code)
			code, body := example.visit(t, addr, ann)
			assert.Equal(t, http.StatusOK, code)
			assert.Contains(t, body, example.says)
		})
	}
}

// build builds all examples at once, and returns their folder.
func build(t *testing.T) string {
	folder := t.TempDir()
	args := []string{"build", "-ldflags=-s -w", "-o", folder, "github.com/dssauth/dssauth/dsstest/cmd/fakedss"}
	for name := range examples {
		args = append(args, "github.com/dssauth/dssauth/examples/"+name)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return folder
}

// signIn returns a session as a Cookie header.
func signIn(t *testing.T, fake string) string {
	direct := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := direct.PostForm(fake+"/sign-in", url.Values{"login": {"ann"}})
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	c := resp.Cookies()[0]
	return c.Name + "=" + c.Value
}

// start runs a program until the test ends, and returns its address.
func start(t *testing.T, program string, env ...string) (addr string) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = free.Addr().String()
	require.NoError(t, free.Close())
	cmd := exec.CommandContext(t.Context(), program, "-addr", addr)
	cmd.Env = append(env, "HOME="+t.TempDir(), "PATH="+os.Getenv("PATH"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-ended:
			require.Fail(t, "it has ended", "%s", &said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func get(path string) visit {
	return func(t *testing.T, addr, cookie string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
		require.NoError(t, err)
		return send(t, r, cookie)
	}
}

func post(path string) visit {
	return func(t *testing.T, addr, cookie string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader("{}"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		return send(t, r, cookie)
	}
}

// send returns the beginning of the answer: a stream has no end.
func send(t *testing.T, r *http.Request, cookie string) (int, string) {
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	first := make([]byte, 4<<10)
	n, err := resp.Body.Read(first)
	if err != io.EOF {
		require.NoError(t, err)
	}
	return resp.StatusCode, string(first[:n])
}

func talk(t *testing.T, addr, cookie string) (int, string) {
	header := http.Header{}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	conn, resp, err := websocket.Dial(t.Context(), "ws://"+addr+"/chat", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		require.NotNil(t, resp, err)
		return resp.StatusCode, ""
	}
	defer conn.CloseNow()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hi")))
	_, said, err := conn.Read(t.Context())
	require.NoError(t, err)
	return http.StatusOK, string(said)
}

func callGRPC(t *testing.T, addr, cookie string) (int, string) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ctx := context.Context(t.Context())
	if cookie != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "cookie", cookie)
	}
	var login wrapperspb.StringValue
	err = conn.Invoke(ctx, "/visitors.v1.Visitors/Me", &emptypb.Empty{}, &login)
	if status.Code(err) == codes.Unauthenticated {
		return http.StatusUnauthorized, ""
	}
	require.NoError(t, err)
	return http.StatusOK, login.GetValue()
}
