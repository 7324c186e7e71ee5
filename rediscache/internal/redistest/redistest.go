//go:build unix

// Package redistest starts real Redis and Valkey servers for tests, and can
// stop, kill, fill and restart them.
//
//	server := redistest.Start(t, "redis-server")
//	store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{server.Address}})
//	...
//	server.Stop() // it answers nothing until Continue
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// starting is the time that a server, a cluster or a failover may take.
const starting = 20 * time.Second

// Programs returns the servers of this machine: redis-server, and valkey-server
// if it is installed. Without redis-server it skips the test on a laptop, and
// fails it in CI.
func Programs(t testing.TB) []string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI has redis-server: ", err)
		}
		t.Skip(err)
	}
	if _, err := exec.LookPath("valkey-server"); err == nil {
		return []string{"redis-server", "valkey-server"}
	}
	return []string{"redis-server"}
}

// Server is a process that ends with the test. It keeps nothing on disk.
type Server struct {
	// Address is its address, also after a Restart.
	Address string

	t       testing.TB
	program string
	args    []string
	process *exec.Cmd
	log     *bytes.Buffer
}

// Start starts one of [Programs] on a free port, with further arguments as in
// "--maxmemory", "10mb". With "--tls-port", "PORT" among them it listens there.
func Start(t testing.TB, program string, args ...string) *Server {
	t.Helper()
	Programs(t)
	port := freePort(t)
	s := &Server{Address: "127.0.0.1:" + port, t: t, program: program}
	// A configuration file comes first.
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		s.args, args = append(s.args, args[0]), args[1:]
	}
	plain := port
	for i, arg := range args {
		if arg == "PORT" {
			args[i], plain = port, "0"
		}
	}
	s.args = append(s.args, "--port", plain, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--loglevel", "notice")
	s.args = append(s.args, args...)
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// Restart starts it again, after Kill, without any data.
func (s *Server) Restart() {
	s.t.Helper()
	s.log = new(bytes.Buffer)
	s.process = exec.Command(s.program, s.args...)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	if !Eventually(func() bool {
		c, err := net.Dial("tcp", s.Address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}) {
		s.Kill() // afterwards nothing is written to the log
		s.t.Fatalf("%s %v does not listen:\n%s", s.program, s.args, s.log)
	}
}

// Kill ends it at once.
func (s *Server) Kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

// Stop makes it keep its connections and answer nothing, until
// [Server.Continue].
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends [Server.Stop].
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// FillUp makes it refuse every write for lack of memory.
func (s *Server) FillUp() {
	s.t.Helper()
	s.CLI("config", "set", "maxmemory-policy", "noeviction")
	s.CLI("config", "set", "maxmemory", "1")
}

// CLI runs redis-cli with it, and returns the output.
func (s *Server) CLI(args ...string) string {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command("redis-cli", append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// StartCluster starts a cluster of three or more masters. It goes on while one
// of them is out.
func StartCluster(t testing.TB, program string, masters int, args ...string) []*Server {
	t.Helper()
	var nodes []*Server
	create := []string{"--cluster", "create"}
	for range masters {
		s := Start(t, program, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", freePort(t), "--cluster-node-timeout", "1000",
			"--cluster-require-full-coverage", "no",
		}, args...)...)
		nodes = append(nodes, s)
		create = append(create, s.Address)
	}
	nodes[0].CLI(append(create, "--cluster-yes")...)
	for _, s := range nodes {
		if !Eventually(func() bool { return strings.Contains(s.CLI("cluster", "info"), "cluster_state:ok") }) {
			t.Fatal("the cluster is not ready:\n", s.CLI("cluster", "info"))
		}
	}
	return nodes
}

// MasterSet is the master's name for the sentinel of [StartSentinel].
const MasterSet = "main"

// StartSentinel starts a master, a replica of it, and a sentinel. The sentinel
// promotes the replica about a second after the master is out. Master and
// replica get the arguments.
func StartSentinel(t testing.TB, program string, args ...string) (sentinel, master, replica *Server) {
	t.Helper()
	master = Start(t, program, slices.Clone(args)...)
	host, port, _ := net.SplitHostPort(master.Address)
	replica = Start(t, program, append([]string{"--replicaof", host + " " + port, "--repl-diskless-sync-delay", "0"}, args...)...)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	config := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 2000\n",
		MasterSet, host, port)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel = Start(t, program, file, "--sentinel")
	if !Eventually(func() bool {
		return strings.Contains(replica.CLI("info", "replication"), "master_link_status:up") &&
			strings.Contains(sentinel.CLI("info", "sentinel"), "slaves=1")
	}) {
		t.Fatal("the sentinel is not ready:\n", sentinel.CLI("info", "sentinel"))
	}
	return sentinel, master, replica
}

// Eventually asks until the answer is true, and reports whether it became true.
func Eventually(ask func() bool) bool {
	timeout := time.After(starting)
	for tick := time.Tick(10 * time.Millisecond); ; {
		if ask() {
			return true
		}
		select {
		case <-tick:
		case <-timeout:
			return false
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
