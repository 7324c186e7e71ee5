package diagnose

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Secrets keeps credentials out of texts. DSS, or a program in its place, may repeat a
// credential instead of a name.
type Secrets struct{ replaced []string }

// minSecret is the least length of a credential. Shorter values, as of a cookie "lang",
// would hide the words of the report.
const minSecret = 8

// Hide keeps values out of all texts from now on.
func (s *Secrets) Hide(values ...string) {
	for _, v := range values {
		if v = strings.Trim(v, " \t"); len(v) < minSecret {
			continue
		}
		quoted := strconv.Quote(v)
		s.replaced = append(s.replaced, v, "[hidden]", quoted[1:len(quoted)-1], "[hidden]")
	}
}

// HideHeader hides the value of a header, and the credentials within it.
func (s *Secrets) HideHeader(value string) {
	scheme, credentials, _ := strings.Cut(value, " ")
	s.Hide(value, credentials)
	if plain, err := base64.StdEncoding.DecodeString(credentials); err == nil && strings.EqualFold(scheme, "Basic") {
		user, password, _ := strings.Cut(string(plain), ":")
		s.Hide(string(plain), user, password)
	}
}

// Without returns a text without the hidden values.
func (s *Secrets) Without(text string) string {
	return strings.NewReplacer(s.replaced...).Replace(text)
}
