package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The known names in DSS's replies and our questions. Other names can be values
// themselves, such as those of connections.
var knownMembers = strings.Fields(`
	associatedDSSUser associatedDSSUSer authIdentifier authSource groups secrets userForImpersonation userProfile via
	key name secret value errorType message detailedMessage stackTrace msg
	login displayName email enabled sourceType credentials userProperties codeAllowed adminProperties
	type user password refreshToken
	projectKey ownerLogin ownerDisplayName projectStatus shortDesc tags contributors versionTag creationTag checklists
	Cookie Authorization User-Agent Accept Accept-Language Referer Origin Host X-Requested-With X-Forwarded-For
	X-DKU-ProxyUser X-DKU-APITicket`)

// Values that are DSS's own words anywhere in their member.
var knownValues = map[string][]string{
	"authSource": {"USER_FROM_UI", "PERSONAL_API_KEY", "GLOBAL_API_KEY", "PROJECT_API_KEY"},
	"errorType": {
		"com.dataiku.dip.exceptions.NotAuthenticatedException", "com.dataiku.dip.exceptions.UnauthorizedException",
		"com.dataiku.dip.server.controllers.NotFoundException", "java.lang.IllegalArgumentException",
	},
}

const (
	maxShapes = 3 // different elements of a list that are shown
	maxDepth  = 8
)

// shapeOf returns a body without its values, or nil if there is none.
func shapeOf(body []byte) any {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil || dec.More() {
		kind := "text"
		if body[0] == '<' {
			kind = "page"
		}
		return fmt.Sprintf("not JSON, but a %s of %d bytes", kind, len(body))
	}
	return shape("", value, 0)
}

func shape(member string, value any, depth int) any {
	if depth == maxDepth {
		return "more"
	}
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		if slices.Contains(knownValues[member], v) {
			return kindOf(v) + ": " + v
		}
		return kindOf(v)
	case []any:
		shapes := []any{fmt.Sprintf("list of %d", len(v))}
		var seen []string
		for _, element := range v {
			s := shape("", element, depth+1)
			text := fmt.Sprint(s)
			if len(seen) < maxShapes && !slices.Contains(seen, text) {
				shapes, seen = append(shapes, s), append(seen, text)
			}
		}
		return shapes
	}
	object := value.(map[string]any)
	shapes, hidden := map[string]any{}, []string{}
	for name, v := range object {
		if slices.Contains(knownMembers, name) {
			shapes[name] = shape(name, v, depth+1)
			continue
		}
		text, _ := json.Marshal(shape("", v, depth+1))
		hidden = append(hidden, fmt.Sprintf("a name of %d characters: %s", utf8.RuneCountInString(name), text))
	}
	if len(hidden) > 0 {
		slices.Sort(hidden)
		shapes["(other members)"] = hidden
	}
	return shapes
}

var classPattern = regexp.MustCompile(`^([a-z0-9_]+\.)+[A-Za-z0-9_$]+$`)

// kindOf describes only the kind and the length of a string.
func kindOf(s string) string {
	kind := "text"
	switch {
	case s == "":
		return "empty string"
	case classPattern.MatchString(s):
		kind = "class name"
	case !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || '9' < r }):
		kind = "string of digits"
	case strings.Contains(s, "@"):
		kind = "string with an @"
	case !strings.ContainsAny(s, " \t\r\n;"):
		kind = "word"
	}
	return fmt.Sprintf("%s, %d characters", kind, utf8.RuneCountInString(s))
}
