//go:build unix

package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a bad network between a program and a server.
type Proxy struct {
	// Address is its address.
	Address string

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil after the test's end
	delay time.Duration
	// passing is closed while bytes pass.
	passing chan struct{}
}

// StartProxy starts a proxy to an address. It ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), target: target, listener: l, conns: map[net.Conn]bool{}, passing: make(chan struct{})}
	close(p.passing)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Delay delays everything by this time, in each direction.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// CutOff drops all bytes, and neither side gets an error, as with a cut cable.
func (p *Proxy) CutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passing = make(chan struct{})
}

// Connect ends [Proxy.CutOff].
func (p *Proxy) Connect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.passing)
}

// Open returns the number of connections to it that are open.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2
}

func (p *Proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(from) })
	}
}

func (p *Proxy) serve(from net.Conn) {
	to, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = from.Close()
		return
	}
	p.mu.Lock()
	if p.conns == nil {
		p.mu.Unlock()
		_, _ = from.Close(), to.Close()
		return
	}
	p.conns[from], p.conns[to] = true, true
	p.mu.Unlock()
	over := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(over)
		_, _ = from.Close(), to.Close()
	})
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			p.copy(way[1], way[0], over)
			end()
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
	delete(p.conns, to)
}

// copy passes bytes on, with the delay, until the connection is over. Bytes
// that arrive during a delay have a delay of their own, as in a long cable.
func (p *Proxy) copy(to io.Writer, from io.Reader, over <-chan struct{}) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1000)
	p.running.Go(func() {
		for {
			select {
			case piece := <-pieces:
				select {
				case <-time.After(time.Until(piece.due)):
				case <-over:
					return
				}
				p.mu.Lock()
				passing := p.passing
				p.mu.Unlock()
				select {
				case <-passing:
					_, _ = to.Write(piece.data)
				case <-over:
					return
				}
			case <-over:
				return
			}
		}
	})
	for {
		data := make([]byte, 64<<10)
		n, err := from.Read(data)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		select {
		case pieces <- piece{data[:n], time.Now().Add(delay)}:
		case <-over:
			return
		}
	}
}
