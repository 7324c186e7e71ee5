//go:build race

package promises

// raceEnabled is whether the race detector runs, which allocates on its own.
const raceEnabled = true
