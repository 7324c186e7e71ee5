package dssauth

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

type countedContext struct {
	context.Context
	looks int
}

func (c *countedContext) Value(k any) any {
	c.looks++
	return c.Context.Value(k)
}

// In a program without an access log, the Middleware does not search contexts
// for one.
func TestContextIsNotSearchedWithoutAnAccessLog(t *testing.T) {
	before := hasAccess.Swap(false)
	defer hasAccess.Store(before)
	ctx := &countedContext{Context: t.Context()}
	tellVisitor(ctx, nil)
	tellRefusal(ctx, nil)
	assert.Zero(t, ctx.looks)

	logged, access := WithAccess(ctx)
	assert.Same(t, access, accessOf(logged))
	tellVisitor(ctx, nil)
	assert.Equal(t, 1, ctx.looks)
}
