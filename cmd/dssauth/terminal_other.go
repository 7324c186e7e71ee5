//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package main

import (
	"io"
	"os"
)

// We do not know how to switch off the echo of this terminal: its lines are read as
// from a pipe.

func isTerminal(any) bool { return false }

func marksPastes(io.Writer) bool { return false }

func hush(*os.File) (restore func(), ok bool) { return nil, false }
