// Command pair compares two commits: it links both into one program, each under
// a module path of its own, and measures a hit and a lookup in turn.
//
//	go run ./cmd/pair                            # the working tree against its last commit
//	go run ./cmd/pair -old main -new topic       # two commits
//	go run ./cmd/pair -old HEAD~1 -new ../other  # a commit against another working tree
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dssauth/dssauth/bench"
)

func main() {
	older := flag.String("old", "HEAD", "the older commit, or a folder of a working tree")
	newer := flag.String("new", ".", "the newer commit, or a folder of a working tree")
	rounds := flag.Int("rounds", 40, "rounds, each of which is a program of its own")
	cookies := flag.Int("cookies", 350, "bytes of the Cookie header")
	turns := flag.Int("turns", 150, "turns of each side in a round")
	limit := flag.Float64("limit", 1.03, "the ratio that -enforce allows")
	enforce := flag.Bool("enforce", false, "exit with status 1 unless all ratios are within the limit with certainty")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("pair: ")

	started := time.Now()
	names, all, err := compare(*older, *newer, *rounds, []string{"-cookies", strconv.Itoa(*cookies), "-turns", strconv.Itoa(*turns)}, os.Stderr)
	if err != nil {
		log.Fatal(err)
	}
	t := table{cookies: *cookies, limit: *limit, rounds: all}
	within := t.print(os.Stdout)
	fmt.Printf("\n%s · old %s, new %s · %d rounds in %s · `%s`\n", bench.Machine(), names[0], names[1], *rounds,
		time.Since(started).Round(time.Second), strings.Join(append([]string{"go run ./cmd/pair"}, os.Args[1:]...), " "))
	if *enforce && !within {
		os.Exit(1)
	}
}

// compare returns the names of the two versions, and the result of each round.
func compare(older, newer string, rounds int, args []string, progress io.Writer) (names [2]string, all []round, err error) {
	top, err := git(".", "rev-parse", "--show-toplevel")
	if err != nil {
		return names, nil, err
	}
	var trees [2]tree
	for i, of := range []string{older, newer} {
		if trees[i], err = readTree(strings.TrimSpace(string(top)), of); err != nil {
			return names, nil, err
		}
		names[i] = trees[i].name
	}
	folder, err := os.MkdirTemp("", "pair")
	if err != nil {
		return names, nil, err
	}
	defer os.RemoveAll(folder)
	p, err := newPair(folder, trees[0], trees[1])
	if err != nil {
		return names, nil, err
	}
	url, end, err := serveDSS()
	if err != nil {
		return names, nil, err
	}
	defer end()
	args = append([]string{"-dss", url}, args...)
	for i := range rounds {
		fmt.Fprintf(progress, "\rround %d of %d", i+1, rounds)
		r, err := p.measure(i+1, args)
		if err != nil {
			return names, nil, err
		}
		all = append(all, r)
	}
	fmt.Fprint(progress, "\r                    \r")
	return names, all, nil
}
