package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dssauth/dssauth/internal/diagnose"
)

// report prints the doctor's results. No other code prints DSS's answers.
type report struct {
	diagnose.Secrets
	out      io.Writer
	muted    func() bool
	problems int
}

func (r *report) ok(check, text string, notes ...string) {
	r.finding(diagnose.Finding{Check: check, Status: diagnose.OK, Found: text, Advice: notes})
}

// problem prints a mistake and, in paragraphs, its cause and remedy.
func (r *report) problem(check, text string, fix ...string) {
	r.finding(diagnose.Finding{Check: check, Status: diagnose.Problem, Found: text, Advice: fix})
}

func (r *report) skipped(check, why string) {
	r.finding(diagnose.Finding{Check: check, Status: diagnose.Skipped, Found: why})
}

func (r *report) finding(f diagnose.Finding) {
	if f.Status == diagnose.Problem {
		r.problems++
	}
	if r.muted() {
		return
	}
	fmt.Fprintf(r.out, "%-8s %s: %s\n", f.Status, f.Check, r.Without(f.Found))
	for _, p := range f.Advice {
		wrap(r.out, r.Without(p))
	}
}

// code prints lines unchanged, for copying.
func (r *report) code(lines []string) {
	if r.muted() {
		return
	}
	for _, line := range lines {
		fmt.Fprintf(r.out, "\t%s\n", r.Without(line))
	}
}

// wrap prints a paragraph in lines that fit a terminal, indented.
func wrap(out io.Writer, paragraph string) {
	const indent, width = "           ", 80
	line := indent
	for word := range strings.FieldsSeq(paragraph) {
		if line != indent && len(line)+len(word) > width {
			fmt.Fprintln(out, strings.TrimRight(line, " "))
			line = indent
		}
		line += word + " "
	}
	if line != indent {
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
}

// list quotes names, for people and as in Go code.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return strings.Join(quoted, ", ")
}
