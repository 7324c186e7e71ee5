package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"
)

// ServeDSS is the work of a command that runs as its own child process: it
// starts a [DSS], prints its URL, and serves until the parent is done.
func ServeDSS(users int) error {
	d, err := StartDSS(users)
	if err != nil {
		return err
	}
	defer d.Close()
	fmt.Println(d.URL)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// StartChild starts the program itself with the flag -serve. With this flag it
// calls [ServeDSS], in a process of its own, so that this work is in no figure.
func StartChild() (url string, end func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(program, "-serve")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	if _, err := fmt.Fscanln(out, &url); err != nil {
		end()
		return "", nil, fmt.Errorf("the DSS did not start: %w", err)
	}
	return url, end, nil
}

// Redis is a redis-server on 127.0.0.1 that keeps nothing on disk.
type Redis struct {
	Address string
	Process *os.Process
	process *exec.Cmd
}

// StartRedis starts a redis-server on a free port, or on the port of an earlier
// server's address.
func StartRedis(address string) (*Redis, error) {
	if address == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		address = l.Addr().String()
		_ = l.Close()
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", os.TempDir())
	if err := server.Start(); err != nil {
		return nil, err
	}
	r := &Redis{address, server.Process, server}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return r, c.Close()
		}
		if ctx.Err() != nil {
			r.Kill()
			return nil, fmt.Errorf("redis-server does not listen: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Kill ends it at once.
func (r *Redis) Kill() {
	_ = r.Process.Kill()
	_ = r.process.Wait()
}
