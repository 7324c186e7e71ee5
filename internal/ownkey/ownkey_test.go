package ownkey_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/internal/ownkey"
)

func TestUsed(t *testing.T) {
	ownkey.Note(context.Background(), 1) // nobody asks

	var outer, inner ownkey.Used
	ctx := outer.Context(context.Background())
	assert.Zero(t, outer.Number())
	ownkey.Note(ctx, 1)
	ownkey.Note(inner.Context(ctx), 2)
	assert.EqualValues(t, 1, outer.Number())
	assert.EqualValues(t, 2, inner.Number())
}
