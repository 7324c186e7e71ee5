package dss

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Replies are read by jsontext, and not by encoding/json. It refuses names that
// occur twice, at any depth. It gives the bytes of each value, so that settings
// go back as they came. And a reply needs a tenth of the allocations. The
// module has no dependencies. With GOEXPERIMENT=jsonv2 it is another name for
// Go's own package.
//
// This file refuses some texts that jsontext accepts: member names in another
// case or with U+FFFD, null for an object or in a list, and anything after the
// end.

// ErrUnexpectedReply is wrapped by errors about a 2xx reply that is not a valid
// answer to the call: a proxy's login page, a body cut short, a login with a
// line end in it.
var ErrUnexpectedReply = errors.New("unexpected reply")

// member is one name and value of a JSON object.
type member struct {
	name    []byte
	rawName []byte // as it came, in quotes
	value   []byte // as it came
}

// parser reads JSON texts, one after the other. It returns parts of the text
// itself. Its errors quote no part of the text.
type parser struct {
	decoder jsontext.Decoder
	source  bytes.Buffer
}

// parsers are kept and used again: a new one would grow its state for each
// reply.
var parsers = sync.Pool{New: func() any { return new(parser) }}

// release gives a parser back. The parser keeps only the names of members from
// a text.
func (p *parser) release() {
	p.reset(nil)
	parsers.Put(p)
}

// halfPairs accepts half a surrogate pair, as in \ud800: settings may contain
// it, and must go back as they came. Other bytes that are not UTF-8 are refused
// earlier.
var halfPairs = jsontext.AllowInvalidUTF8(true)

func (p *parser) reset(data []byte) {
	p.source = *bytes.NewBuffer(data)
	p.decoder.Reset(&p.source, halfPairs)
}

func (p *parser) start(data []byte, kind jsontext.Kind) bool {
	p.reset(data)
	if p.decoder.PeekKind() != kind {
		return false
	}
	_, err := p.decoder.ReadToken()
	return err == nil
}

// next returns the bytes of the next name or value.
func (p *parser) next(data []byte) ([]byte, error) {
	value, err := p.decoder.ReadValue()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return nil, errors.New("has a name twice")
	case err != nil:
		return nil, errors.New("is not valid JSON")
	}
	// Not value: it is valid only until the next call.
	end := int(p.decoder.InputOffset())
	return data[end-len(value) : end : end], nil
}

// end checks that the text has ended and that nothing follows it.
func (p *parser) end() error {
	if _, err := p.decoder.ReadToken(); errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is cut short")
	} else if err != nil {
		return errors.New("is not valid JSON")
	}
	if _, err := p.decoder.ReadToken(); err != io.EOF {
		return errors.New("has something after its end")
	}
	return nil
}

// object returns the members of a JSON object in their order.
func (p *parser) object(data []byte) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not valid UTF-8")
	}
	if !p.start(data, '{') {
		return nil, errors.New("is not a JSON object")
	}
	members := make([]member, 0, 8)
	for p.decoder.PeekKind() == '"' {
		name, err := p.next(data)
		if err != nil {
			return nil, err
		}
		value, err := p.next(data)
		if err != nil {
			return nil, err
		}
		text, _ := unquote(name)
		members = append(members, member{text, name, value})
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return members, nil
}

// array returns the elements of a JSON array.
func (p *parser) array(data []byte) ([][]byte, error) {
	if !p.start(data, '[') {
		return nil, errors.New("is not a list")
	}
	elements := make([][]byte, 0, 4)
	for k := p.decoder.PeekKind(); k != ']' && k != 0; k = p.decoder.PeekKind() {
		element, err := p.next(data)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return elements, nil
}

// text returns the string of a JSON text that is one string.
func (p *parser) text(data []byte) (string, error) {
	p.reset(data)
	value, err := p.next(data)
	if err != nil {
		return "", errors.New("is not a string")
	}
	if _, err := p.decoder.ReadToken(); err != io.EOF {
		return "", errors.New("has something after its end")
	}
	return parseString(value)
}

func parseObject(data []byte) ([]member, error) { return new(parser).object(data) }

func parseArray(data []byte) ([][]byte, error) { return new(parser).array(data) }

// unquote returns the string of a parser's value, if the value is a string.
// Half a surrogate pair becomes U+FFFD.
func unquote(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	if inside := value[1 : len(value)-1]; bytes.IndexByte(inside, '\\') < 0 {
		return inside, true
	}
	text, _ := jsontext.AppendUnquote(nil, value)
	return text, true
}

// parseString returns the string of a parser's value. Half a surrogate pair
// becomes U+FFFD, so two strings can become the same one: checkName refuses
// such a string if it identifies somebody.
func parseString(value []byte) (string, error) {
	text, ok := unquote(value)
	if !ok {
		return "", errors.New("is not a string")
	}
	return string(text), nil
}

// reader reads the named members of an object. The first fault stays in err. A
// member that is absent or null changes nothing.
type reader struct {
	members []member
	names   []string
	parser  *parser // for lists and objects among the values
	err     error
}

// newReader refuses a member that differs from one of names only in upper and
// lower case, or by the character U+FFFD: some JSON libraries, and so some
// proxies and logs, do not tell the two apart.
func newReader(members []member, names ...string) *reader {
	r := &reader{members: members, names: names, parser: new(parser)}
	for _, m := range members {
		if slices.Contains(names, string(m.name)) {
			continue
		}
		whole := m.name
		if bytes.ContainsRune(whole, utf8.RuneError) {
			whole = bytes.ReplaceAll(whole, []byte("\ufffd"), nil)
		}
		for _, name := range names {
			switch {
			case strings.EqualFold(string(m.name), name):
				r.fail(name, errors.New("is spelled in another case"))
			case strings.EqualFold(string(whole), name):
				r.fail(name, errors.New("is spelled with the character U+FFFD, or half a surrogate pair"))
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

// raw returns a member's value, or nil where it is absent. It panics on a name
// that newReader did not get: its other spellings would be taken for absent.
func (r *reader) raw(name string) []byte {
	if !slices.Contains(r.names, name) {
		panic("dss: newReader's names lack " + name)
	}
	for _, m := range r.members {
		if string(m.name) == name {
			return m.value
		}
	}
	return nil
}

// value returns a member's value, or nil where it is absent or null.
func (r *reader) value(name string) []byte {
	if value := r.raw(name); string(value) != "null" {
		return value
	}
	return nil
}

// has reports whether the member is there and not null.
func (r *reader) has(name string) bool { return r.value(name) != nil }

func (r *reader) text(name string, to *string) {
	if !r.has(name) {
		return
	}
	s, err := parseString(r.value(name))
	if err != nil {
		r.fail(name, err)
		return
	}
	*to = s
}

func (r *reader) flag(name string, to *bool) {
	switch value := string(r.value(name)); value {
	case "":
	case "true", "false":
		*to = value == "true"
	default:
		r.fail(name, errors.New("is neither true nor false"))
	}
}

// texts reads a list of strings. If there is a list, *to is not nil afterwards.
func (r *reader) texts(name string, to *[]string) {
	if !r.has(name) {
		return
	}
	elements, err := r.parser.array(r.value(name))
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
