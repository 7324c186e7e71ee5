//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package main

import (
	"io"
	"os"
)

// Where we do not know how to keep a terminal quiet, lines are read from it as
// from a pipe.

func isTerminal(any) bool { return false }

func marksPastes(io.Writer) bool { return false }

func hush(*os.File) (restore func(), ok bool) { return nil, false }
