package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/dssauth/dssauth/bench"
)

// loadResult is the result of one process that loads a server.
type loadResult struct {
	Requests  int // including those that warm up
	PerSecond float64
	P50, P99  time.Duration
}

// runLoad loads a server from a process of its own.
func runLoad(s server, connections int, each time.Duration) (l loadResult, err error) {
	cmd, err := self("-role", "load", "-address", s.address, "-connections", strconv.Itoa(connections), fmt.Sprint("-hot=", s.hot), "-time", each.String())
	if err != nil {
		return l, err
	}
	out, err := cmd.Output()
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(out, &l)
}

// load sends requests over several connections at once. Each connection sends
// the next request as soon as the last one is answered. load prints a
// loadResult.
func load(address string, connections int, hot bool, each time.Duration) error {
	visitors := make([]*visitor, connections)
	for i := range visitors {
		user := i
		if hot {
			user = 0
		}
		v, err := newVisitor(address, user)
		if err != nil {
			return err
		}
		defer v.conn.Close()
		visitors[i] = v
	}
	var running sync.WaitGroup
	failed := make(chan error, connections)
	began := time.Now()
	for _, v := range visitors {
		running.Go(func() {
			if err := v.run(began.Add(each)); err != nil {
				failed <- err
			}
		})
	}
	running.Wait()
	elapsed := time.Since(began)
	select {
	case err := <-failed:
		return err
	default:
	}
	var all bench.Histogram
	for _, v := range visitors {
		all.Merge(&v.took)
	}
	return json.NewEncoder(os.Stdout).Encode(loadResult{
		Requests:  int(all.Total()) + warmUp*connections,
		PerSecond: float64(all.Total()) / elapsed.Seconds(),
		P50:       all.Quantile(0.5), P99: all.Quantile(0.99),
	})
}

// warmUp is the number of requests that each visitor sends before it is
// measured.
const warmUp = 3

// visitor is one connection. It does little work: it sends the same bytes each
// time, and expects each answer to be as long as the first.
type visitor struct {
	conn    net.Conn
	request []byte
	answer  []byte
	took    bench.Histogram
}

// newVisitor connects, and warms up the server: after the second request a
// cache is complete.
func newVisitor(address string, user int) (*visitor, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	v := &visitor{conn: conn}
	var request bytes.Buffer
	r := bench.Request(bench.Session, user, 350)
	r.RequestURI = ""
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\n", r.URL.Path, r.Host)
	if err := r.Header.Write(&request); err != nil {
		return nil, err
	}
	request.WriteString("\r\n")
	v.request = request.Bytes()

	for range warmUp {
		length, err := v.first()
		if err != nil {
			conn.Close()
			return nil, err
		}
		v.answer = make([]byte, length)
	}
	return v, nil
}

// first sends a request, reads the answer with care, and returns its length.
func (v *visitor) first() (int, error) {
	if _, err := v.conn.Write(v.request); err != nil {
		return 0, err
	}
	counted := &counter{r: v.conn}
	buffered := bufio.NewReader(counted)
	res, err := http.ReadResponse(buffered, nil)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", res.StatusCode)
	}
	return counted.n, nil
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

var okay = []byte("HTTP/1.1 200 ")

func (v *visitor) run(until time.Time) error {
	for began := time.Now(); began.Before(until); {
		if _, err := v.conn.Write(v.request); err != nil {
			return err
		}
		if _, err := io.ReadFull(v.conn, v.answer); err != nil {
			return err
		}
		if !bytes.HasPrefix(v.answer, okay) {
			return errors.New("an answer that is not a 200, or is longer than the first: " + strconv.Quote(string(v.answer[:len(okay)])))
		}
		now := time.Now()
		v.took.Add(now.Sub(began))
		began = now
	}
	return nil
}
