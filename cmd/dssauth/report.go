package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// report is what the doctor prints. Nothing else prints what DSS said.
type report struct {
	out      io.Writer
	muted    func() bool
	secrets  []string
	problems int
}

// minSecret is the length from which a value is taken for a credential. Shorter
// ones, as of a cookie "lang", would hide the words of the report.
const minSecret = 8

// hide keeps values out of everything printed from now on. DSS, or what answers
// in its place, may repeat what it was sent where a name is expected.
func (r *report) hide(values ...string) {
	for _, v := range values {
		if v = strings.Trim(v, " \t"); len(v) < minSecret {
			continue
		}
		quoted := strconv.Quote(v)
		r.secrets = append(r.secrets, v, "[hidden]", quoted[1:len(quoted)-1], "[hidden]")
	}
}

func (r *report) ok(check, text string, notes ...string) { r.print("ok", check, text, notes) }

// problem prints what is wrong and, in its paragraphs, why and what to do.
func (r *report) problem(check, text string, fix ...string) {
	r.problems++
	r.print("problem", check, text, fix)
}

func (r *report) skipped(check, why string) { r.print("skipped", check, why, nil) }

func (r *report) print(status, check, text string, paragraphs []string) {
	if r.muted() {
		return
	}
	show := strings.NewReplacer(r.secrets...).Replace
	fmt.Fprintf(r.out, "%-8s %s: %s\n", status, check, show(text))
	for _, p := range paragraphs {
		wrap(r.out, show(p))
	}
}

// code prints lines as they stand, to be copied.
func (r *report) code(lines []string) {
	if r.muted() {
		return
	}
	show := strings.NewReplacer(r.secrets...).Replace
	for _, line := range lines {
		fmt.Fprintf(r.out, "\t%s\n", show(line))
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

// list quotes names, for people and as Go code has them.
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
