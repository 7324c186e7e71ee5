//go:build !race

package dssauth_test

const raceEnabled = false
