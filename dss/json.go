package dss

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrUnexpectedReply is wrapped by errors about a 2xx reply that is not what was
// asked for: a proxy's login page, a body cut short, a login with a line end in
// it. DSS answered, and what it answered cannot be acted on.
var ErrUnexpectedReply = errors.New("unexpected reply")

// member is one name and value of a JSON object.
type member struct {
	name    string
	rawName []byte // as it came, in quotes
	value   json.RawMessage
}

// parseObject returns the members of a JSON object in their order. It refuses
// what encoding/json lets pass: invalid UTF-8, names that occur twice, and
// anything after the object. Its errors quote nothing of data.
func parseObject(data []byte) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	var members []member
	seen := map[string]bool{}
	for d.More() {
		start := d.InputOffset()
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("is not valid JSON")
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("is not valid JSON")
		}
		if seen[name] {
			return nil, errors.New("has a name twice")
		}
		seen[name] = true
		m := member{name: name, rawName: bytes.TrimLeft(data[start:d.InputOffset()], " \t\r\n,")}
		if err := d.Decode(&m.value); err != nil {
			return nil, errors.New("is not valid JSON")
		}
		m.value = bytes.TrimSpace(m.value)
		members = append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("is cut short")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has something after its end")
	}
	return members, nil
}

// parseArray returns the elements of a JSON array.
func parseArray(data []byte) ([]json.RawMessage, error) {
	elements := []json.RawMessage{}
	if isNull(data) || json.Unmarshal(data, &elements) != nil {
		return nil, errors.New("is not a list")
	}
	return elements, nil
}

// parseString returns the JSON string in data. U+FFFD is refused: encoding/json
// puts it where a string has half a surrogate pair, and so makes two strings one.
func parseString(data []byte) (string, error) {
	var s *string
	if json.Unmarshal(data, &s) != nil || s == nil {
		return "", errors.New("is not a string")
	}
	if strings.ContainsRune(*s, utf8.RuneError) {
		return "", errors.New("has the character U+FFFD, or half a surrogate pair")
	}
	return *s, nil
}

func isNull(data []byte) bool { return string(bytes.TrimSpace(data)) == "null" }

// reader reads the members of an object that it was told of. The first thing
// that is wrong stays in err. A member that is absent or null is left alone.
type reader struct {
	values map[string]json.RawMessage
	err    error
}

// newReader refuses members that are one of names but for upper and lower case:
// some JSON libraries, and so some proxies and logs, take one for the other.
func newReader(members []member, names ...string) *reader {
	r := &reader{values: make(map[string]json.RawMessage, len(names))}
	for _, m := range members {
		if slices.Contains(names, m.name) {
			r.values[m.name] = m.value
			continue
		}
		for _, name := range names {
			if strings.EqualFold(m.name, name) {
				r.fail(name, errors.New("is spelled in another case"))
			}
		}
	}
	return r
}

func (r *reader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s %w", name, err)
	}
}

// has reports whether the member is there and not null.
func (r *reader) has(name string) bool {
	value, ok := r.values[name]
	return ok && !isNull(value)
}

func (r *reader) text(name string, to *string) {
	if !r.has(name) {
		return
	}
	s, err := parseString(r.values[name])
	if err != nil {
		r.fail(name, err)
		return
	}
	*to = s
}

func (r *reader) flag(name string, to *bool) {
	if r.has(name) && json.Unmarshal(r.values[name], to) != nil {
		r.fail(name, errors.New("is neither true nor false"))
	}
}

// texts reads a list of strings. Where it is there, *to is not nil after it.
func (r *reader) texts(name string, to *[]string) {
	if !r.has(name) {
		return
	}
	elements, err := parseArray(r.values[name])
	if err != nil {
		r.fail(name, err)
		return
	}
	list := make([]string, len(elements))
	for i, element := range elements {
		if list[i], err = parseString(element); err != nil {
			r.fail(name, fmt.Errorf("has an element that %w", err))
			return
		}
	}
	*to = list
}

// encode writes v as JSON with the bytes of its strings as they are: without
// the HTML escapes that encoding/json adds.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
