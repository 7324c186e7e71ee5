package main

import "golang.org/x/sys/unix"

const (
	getModes           = unix.TCGETS
	setModesAndDiscard = unix.TCSETSF
)
