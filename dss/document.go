package dss

import (
	"bytes"
	"fmt"
	"slices"
)

// parseDocument reads a settings object. Its three changeable members may be
// absent, null, or of their own type. Other members may be anything.
func parseDocument(body []byte) (*document, error) {
	members, err := parseObject(body)
	if err != nil {
		return nil, fmt.Errorf("the body %w", err)
	}
	r := newReader(members, memberProperties, memberSecrets, memberCredentials)
	for _, name := range []string{memberProperties, memberCredentials} {
		if r.has(name) {
			if _, err := r.parser.object(r.value(name)); err != nil {
				r.fail(name, err)
			}
		}
	}
	if r.has(memberSecrets) {
		r.secretElements()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &document{members: members}, nil
}

func (r *reader) secretElements() {
	elements, err := r.parser.array(r.value(memberSecrets))
	if err != nil {
		r.fail(memberSecrets, err)
		return
	}
	for _, element := range elements {
		if _, err := r.parser.object(element); err != nil {
			r.fail(memberSecrets, fmt.Errorf("has an element that %w", err))
			return
		}
	}
}

// value returns a member of the document, or nil where it is absent.
func (d *document) value(name string) []byte {
	for _, m := range d.members {
		if string(m.name) == name {
			return m.value
		}
	}
	return nil
}

// text returns a member that is a string, or "".
func (d *document) text(name string) string {
	s, _ := unquote(d.value(name))
	return string(s)
}

// section returns the members of an object in the document.
func (d *document) section(name string) []member {
	members, _ := parseObject(d.value(name)) // null, or parseDocument has checked it
	return members
}

func (d *document) put(name string, value []byte) { d.members = put(d.members, name, value) }

// set sets a member of an object in the document, if the fields are valid.
func (d *document) set(section, name string, value any, fields ...field) {
	if d.check(fields...) {
		d.put(section, joinObject(put(d.section(section), name, mustEncode(value))))
	}
}

// remove removes a member of an object in the document, if the fields are
// sound. If there is none, no byte of the document changes.
func (d *document) remove(section, name string, fields ...field) {
	if !d.check(fields...) {
		return
	}
	members := d.section(section)
	kept := slices.DeleteFunc(slices.Clone(members), func(m member) bool { return string(m.name) == name })
	if len(kept) < len(members) {
		d.put(section, joinObject(kept))
	}
}

func (d *document) secrets() [][]byte {
	elements, _ := parseArray(d.value(memberSecrets)) // null, or parseDocument has checked it
	return elements
}

func (d *document) putSecrets(elements [][]byte) {
	d.put(memberSecrets, slices.Concat([]byte("["), join(elements), []byte("]")))
}

func (d *document) removeSecret(name string) {
	elements := d.secrets()
	kept := slices.DeleteFunc(slices.Clone(elements), func(element []byte) bool { return secretIsNamed(element, name) })
	if len(kept) < len(elements) {
		d.putSecrets(kept)
	}
}

func secretIsNamed(element []byte, name string) bool {
	members, _ := parseObject(element)
	for _, m := range members {
		if string(m.name) == "name" {
			// Not parseString, which refuses U+FFFD: a name may have it.
			found, ok := unquote(m.value)
			return ok && string(found) == name
		}
	}
	return false
}

// put sets a member in its place, or adds it at the end.
func put(members []member, name string, value []byte) []member {
	for i := range members {
		if string(members[i].name) == name {
			members[i].value = value
			return members
		}
	}
	return append(members, member{[]byte(name), mustEncode(name), value})
}

func joinObject(members []member) []byte {
	parts := make([][]byte, len(members))
	for i, m := range members {
		parts[i] = slices.Concat(m.rawName, []byte(":"), m.value)
	}
	return slices.Concat([]byte("{"), join(parts), []byte("}"))
}

func join(parts [][]byte) []byte { return bytes.Join(parts, []byte(",")) }

// mustEncode encodes values that JSON always can hold: strings, and structs of
// them.
func mustEncode(v any) []byte {
	data, err := encode(v)
	if err != nil {
		panic("dss: " + err.Error())
	}
	return data
}
