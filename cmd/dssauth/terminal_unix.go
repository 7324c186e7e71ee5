//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), getModes)
	return err == nil
}

// marksPastes reports whether we may tell the terminal of a screen to mark the
// beginning and end of a paste. Terminals that cannot do that ignore it.
func marksPastes(screen io.Writer) bool {
	name := os.Getenv("TERM")
	return name != "" && name != "dumb" && isTerminal(screen)
}

// hush makes a terminal show no typed text, and pass on all of it unchanged: lines of
// any length, and Ctrl-C. Unread input is discarded, at the beginning and by restore.
func hush(file *os.File) (restore func(), ok bool) {
	fd := int(file.Fd())
	before, err := unix.IoctlGetTermios(fd, getModes)
	if err != nil {
		return nil, false
	}
	hushed := *before
	hushed.Iflag &^= unix.IXON | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL
	hushed.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	hushed.Cc[unix.VMIN], hushed.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setModesAndDiscard, &hushed); err != nil {
		return nil, false
	}
	return func() { _ = unix.IoctlSetTermios(fd, setModesAndDiscard, before) }, true
}
