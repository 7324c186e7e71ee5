package dssauth

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A handler may return while its connection's visitor is looked up. The data
// that a gate reads may be gone then.
func TestEndedConnectionAsksNoGate(t *testing.T) {
	m, _ := newCounted(t)
	r, err := m.Authenticate(&http.Request{Header: http.Header{"Cookie": {"session=ann"}}})
	require.NoError(t, err)
	v, _ := m.attached(r.Context())
	asked := 0
	c := &connection{
		m: m, answers: m.answers, owner: "ann", every: time.Second, asking: make(chan struct{}, 1), request: r,
		gates: []*gate{{func(*http.Request, *visit) error {
			asked++
			return nil
		}}},
	}
	c.credentials, err = m.selector.pick(r.Header)
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	c.ctx = ctx
	_, err = c.look(v.entry)
	require.NoError(t, err)
	require.Equal(t, 1, asked)
	end()
	_, err = c.look(v.entry)
	assert.ErrorIs(t, err, context.Canceled)
	c.asking <- struct{}{} // after a gate that may have started has returned
	assert.Equal(t, 1, asked)
}
