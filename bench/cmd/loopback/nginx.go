package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

var errNoNginx = errors.New("nginx is not installed")

// nginx runs in the foreground, on files of its own.
type nginx struct {
	app, alone string // addresses
	process    *program
	dir        string
}

// nginxConf is a usual auth_request with a cache. The authorizer gets the
// visitor's cookies; keys are whole Cookie headers. The settings favour nginx:
// connections kept alive, no logs, as many workers as cores, answers kept for
// as long as ours.
const nginxConf = `
daemon off;
%[6]s
worker_processes auto;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 10000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	proxy_cache_path %[1]s/cache keys_zone=auth:10m;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	upstream authorizer { server %[2]s; keepalive 64; keepalive_requests 10000000; }
	upstream application { server %[3]s; keepalive 64; keepalive_requests 10000000; }
	proxy_cache_key $http_cookie$http_authorization;
	proxy_cache_valid 200 10s;
	proxy_cache_lock on;
	proxy_cache_use_stale updating;
	proxy_cache_background_update on;
	proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
	server {
		listen %[4]s;
		location = /auth { internal; proxy_cache auth; proxy_pass http://authorizer; }
		location / { auth_request /auth; proxy_pass http://application; }
	}
	server {
		listen %[5]s;
		location = /auth { internal; proxy_cache auth; proxy_pass http://authorizer; }
		location / { auth_request /auth; root %[1]s/root; open_file_cache max=10; }
	}
}
`

func startNginx(authorizer, application string) (*nginx, error) {
	file, err := exec.LookPath("nginx")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/nginx"); err != nil {
			return nil, errNoNginx
		}
		file = "/usr/sbin/nginx"
	}
	n := &nginx{}
	if n.dir, err = os.MkdirTemp("", "dssauth-nginx-*"); err != nil {
		return nil, err
	}
	if n.app, err = freeAddress(); err != nil {
		return nil, err
	}
	if n.alone, err = freeAddress(); err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the files below belong to us alone
	}
	conf := filepath.Join(n.dir, "nginx.conf")
	if err := os.Mkdir(filepath.Join(n.dir, "root"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "root", "report"), nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, n.dir, authorizer, application, n.app, n.alone, user), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(file, "-p", n.dir, "-c", conf, "-e", filepath.Join(n.dir, "error.log"))
	cmd.Stderr = os.Stderr
	n.process, err = startProgram(cmd, n.alone)
	return n, err
}

func (n *nginx) stop() {
	n.process.stop()
	_ = os.RemoveAll(n.dir)
}

// program is one that is not this one.
type program struct{ cmd *exec.Cmd }

// startProgram returns when it listens at an address.
func startProgram(cmd *exec.Cmd, address string) (*program, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &program{cmd}
	for range 250 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return p, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.stop()
	return nil, errors.New(filepath.Base(cmd.Path) + " does not listen")
}

func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
