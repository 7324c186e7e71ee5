package main

import "github.com/dssauth/dssauth/bench/cmd/pair/program/side"

// sides are the versions to compare, the older one first. This file compares
// this version with itself; the command pair replaces it by two commits.
var sides = [2]opener{side.Open, side.Open}
