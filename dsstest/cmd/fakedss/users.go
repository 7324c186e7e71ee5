package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"unicode"

	"github.com/dssauth/dssauth/dsstest"
)

// readUsers reads the file of -users. Its errors name the user and the field.
// Of the file, they quote only logins and the names of fields.
func readUsers(file string) ([]dsstest.User, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-users: %w", err)
	}
	users, err := parseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("-users %q: %w", file, err)
	}
	return users, nil
}

func parseUsers(text []byte) ([]dsstest.User, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, explain(err, "the file", "a list of objects")
	}
	if len(entries) == 0 {
		return nil, errors.New(`no users: want a list such as [{"login": "ann"}]`)
	}
	var users []dsstest.User
	seen := map[string]bool{}
	for i, entry := range entries {
		u, err := parseUser(entry)
		if err == nil && seen[u.Login] {
			err = errors.New("login: is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("user %d %q: %w", i+1, u.Login, err)
		}
		seen[u.Login] = true
		users = append(users, u)
	}
	return users, nil
}

// userEntry is a dsstest.User in the file.
type userEntry struct {
	Login       string   `json:"login"`
	DisplayName string   `json:"displayName"`
	Email       string   `json:"email"`
	Groups      []string `json:"groups"`
	Profile     string   `json:"profile"`
	Admin       bool     `json:"admin"`
	Disabled    bool     `json:"disabled"`
}

// knownFields names the fields of userEntry.
func knownFields() string {
	var names []string
	for field := range reflect.TypeFor[userEntry]().Fields() {
		names = append(names, field.Tag.Get("json"))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func parseUser(entry []byte) (dsstest.User, error) {
	var u userEntry
	dec := json.NewDecoder(bytes.NewReader(entry))
	dec.DisallowUnknownFields()
	err := dec.Decode(&u)
	user := dsstest.User(u)
	switch {
	case err != nil:
		return user, explain(err, "the entry", "an object")
	case u.Login == "":
		return user, errors.New("login: is required")
	case u.Login != strings.TrimSpace(u.Login) || strings.ContainsFunc(u.Login, unicode.IsControl):
		return user, errors.New("login: has spaces at its ends, or control characters")
	}
	for i, g := range u.Groups {
		if strings.TrimSpace(g) == "" {
			return user, fmt.Errorf("groups: number %d is blank", i+1)
		}
	}
	return user, nil
}

// explain describes an error of JSON without quoting its values. whole is the
// text that was read, as a value of want.
func explain(err error, whole, want string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("%s is not %s", whole, want)
	case errors.As(err, &kind) && kind.Field == "groups":
		return errors.New("groups: want a list of strings")
	case errors.As(err, &kind):
		return fmt.Errorf("%s: want %s", kind.Field, map[string]string{
			"string": "a string", "bool": "true or false",
		}[kind.Type.String()])
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: it ends too early")
	}
	field, _ := strings.CutPrefix(err.Error(), "json: unknown field ")
	return fmt.Errorf("unknown field %s: known are %s", field, knownFields())
}
