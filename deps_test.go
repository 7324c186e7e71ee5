package dssauth_test

import (
	_ "github.com/go-chi/chi/v5"
	_ "go.uber.org/goleak"
)
