package main

import (
	"testing"

	"github.com/dssauth/dssauth/examples/internal/routertest"
)

func TestRouter(t *testing.T) { routertest.Run(t, newRouter) }
