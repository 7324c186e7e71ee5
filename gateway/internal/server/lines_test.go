package server

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestBusyLinesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logs{}
		l := NewLines(out)
		say := func(line string) {
			n, err := l.Write([]byte(line))
			assert.NoError(t, err)
			assert.Equal(t, len(line), n)
		}
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		say("1\n")
		assert.Equal(t, "1\n", out.String(), "after a quiet time")
		say("2\n")
		say("3\n")
		pass(together - 1)
		assert.Equal(t, "1\n", out.String())
		pass(1)
		assert.Equal(t, "1\n2\n3\n", out.String())
		say("4\n")
		assert.NoError(t, l.Flush())
		assert.Equal(t, "1\n2\n3\n4\n", out.String(), "at the end")
		pass(2 * together)
		say("5\n")
		assert.Equal(t, "1\n2\n3\n4\n5\n", out.String(), "quiet again")
		many := strings.Repeat("x", maxKept-1) + "\n"
		say(many)
		assert.Equal(t, 10+maxKept, len(out.String()), "no more than so much is kept")
		pass(2 * together)
	})
}

func TestFailedWriteOfLinesIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLines(broken{})
		for range 2 {
			_, err := l.Write(make([]byte, maxKept))
			assert.ErrorIs(t, err, errBroken)
		}
		_, err := l.Write([]byte("x"))
		assert.NoError(t, err)
		assert.ErrorIs(t, l.Flush(), errBroken)
		<-time.After(2 * together)
	})
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
