package main

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	var modes uint32
	return ok && windows.GetConsoleMode(windows.Handle(file.Fd()), &modes) == nil
}

// marksPastes is false: a console shows sequences that it does not understand.
func marksPastes(io.Writer) bool { return false }

// hush makes a console show no typed text, and pass on all of it unchanged. Unread
// input is discarded, at the beginning and by restore.
func hush(file *os.File) (restore func(), ok bool) {
	console := windows.Handle(file.Fd())
	var before uint32
	if err := windows.GetConsoleMode(console, &before); err != nil {
		return nil, false
	}
	hushed := before &^ (windows.ENABLE_ECHO_INPUT | windows.ENABLE_LINE_INPUT | windows.ENABLE_PROCESSED_INPUT)
	if err := windows.SetConsoleMode(console, hushed); err != nil {
		return nil, false
	}
	_ = windows.FlushConsoleInputBuffer(console)
	return func() {
		_ = windows.FlushConsoleInputBuffer(console)
		_ = windows.SetConsoleMode(console, before)
	}, true
}
