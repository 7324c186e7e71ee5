package main

import "github.com/dssauth/dssauth/bench/cmd/pair/program/side"

// sides are the versions to compare, the older one first. As it stands here, the
// program compares this version with itself; the command pair puts two commits
// in its place.
var sides = [2]opener{side.Open, side.Open}
