package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
)

const cookieName = "session="

// rawKept remembers a thousand visitors whose cookies hold a mark. It returns
// the number of such cookies in memory after their requests have ended. It fails if
// it could not find a cookie that is there.
func rawKept() (int, error) {
	// Apart from the cookies, this program holds name and mark together only with each
	// byte changed. Copies of the mark alone, which it makes, are not counted: they may
	// stay on stacks.
	hidden := []byte(cookieName + rand.Text())
	for i := range hidden {
		hidden[i]++
	}
	auth, err := dssauth.New(dssauth.Config{TTL: time.Hour, Resolver: markedResolver{hidden}})
	if err != nil {
		return 0, err
	}
	defer auth.Close()
	for range 2 {
		if err := bench.VisitAll(auth.Handler, marked(hidden), 1000, 1536, func(int, *http.Request) {}); err != nil {
			return 0, err
		}
	}
	kept, err := countInHeap(hidden)
	if err != nil {
		return 0, err
	}
	planted := bench.Request(marked(hidden), 0, 1536)
	found, err := countInHeap(hidden)
	if err == nil && found <= kept {
		err = errors.New("a cookie kept on purpose was not found in the dump of the heap")
	}
	runtime.KeepAlive(planted)
	runtime.KeepAlive(auth)
	return kept, err
}

// marked returns cookies whose value begins with the mark.
func marked(hidden []byte) bench.Credential {
	return func(user int) string { return fmt.Sprintf(cookieName+"%s%08d", unhide(hidden), user) }
}

// unhide returns the mark without the cookie's name.
func unhide(hidden []byte) []byte {
	mark := bytes.Clone(hidden[len(cookieName):])
	for i := range mark {
		mark[i]--
	}
	return mark
}

// markedResolver knows each visitor with the mark.
type markedResolver struct{ hidden []byte }

func (m markedResolver) Resolve(_ context.Context, h http.Header) (dssauth.Identity, error) {
	cookies := h.Get("Cookie")
	mark := unhide(m.hidden)
	at := bytes.Index([]byte(cookies), mark)
	if at < 0 {
		return dssauth.Identity{}, dssauth.ErrUnauthenticated
	}
	at += len(mark)
	return dssauth.NewIdentity("user"+string([]byte(cookies[at:at+8])), "readers"), nil
}

// countInHeap dumps the used heap, and counts the cookies in it.
func countInHeap(hidden []byte) (int, error) {
	for range 3 {
		runtime.GC()
	}
	f, err := os.CreateTemp("", "dssauth-heap-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	debug.WriteHeapDump(f.Fd())
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return count(bufio.NewReaderSize(f, 1<<20), hidden)
}

// count counts the cookies in r. It holds none whole outside r's buffer.
func count(r *bufio.Reader, hidden []byte) (int, error) {
	n, matched := 0, 0
	for {
		b, err := r.ReadByte()
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return 0, err
		}
		switch {
		case b == hidden[matched]-1:
			matched++
		case b == hidden[0]-1:
			matched = 1
		default:
			matched = 0
		}
		if matched == len(hidden) {
			n, matched = n+1, 0
		}
	}
}
