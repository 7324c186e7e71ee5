package main

// survivor is an error that no test can notice, since it changes nothing.
type survivor struct {
	file, in string
	old, new string // as the command prints them
	why      string
}

func (h survivor) isFor(s site) bool {
	return h.file == s.file && h.in == s.in && h.old == s.old && h.new == s.new
}

var survivors = []survivor{}
