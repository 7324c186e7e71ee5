//go:build race

package dssauth_test

// raceEnabled is whether the race detector runs, which allocates on its own.
const raceEnabled = true
