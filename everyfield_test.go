package dssauth

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/internal/seal"
)

// Front ends get each field but these.
func TestEachFieldOfIdentityIsInItsJSON(t *testing.T) {
	left := []string{"Source", "APIKeyID", "AsOf"} // how and when DSS was asked, and not about the user
	whole := NewIdentity("", "the groups")
	for field, v := range reflect.ValueOf(&whole).Elem().Fields() {
		if field.Type.Kind() == reflect.String {
			v.SetString("the " + field.Name)
		}
	}
	text, err := json.Marshal(whole)
	require.NoError(t, err)
	for field := range reflect.TypeFor[Identity]().Fields() {
		if slices.Contains(left, field.Name) {
			assert.NotContains(t, string(text), `"the `+field.Name+`"`, "%s is in the JSON: take it off the list of this test", field.Name)
			continue
		}
		assert.Contains(t, string(text), `"the `+field.Name+`"`, "%s is not in the JSON: add it to MarshalJSON, in identity.go, or to the list of this test", field.Name)
	}
}

// An older replica would read a newer answer without its new field, and a newer one an
// older answer with the field empty: a check of it could then admit a visitor. So
// replicas read only answers of their own version.
func TestOtherFieldsAreAnotherVersion(t *testing.T) {
	var fields []string
	for field := range reflect.TypeFor[sharedAnswer]().Fields() {
		fields = append(fields, field.Name+" "+field.Type.String())
	}
	const version, held = "dssauth 1", "AsOf int64, Login string, Profile string, Source string, APIKeyID string, DisplayName string, Email string, Groups []string"
	assert.True(t, seal.Version == version && strings.Join(fields, ", ") == held,
		"sharedAnswer, in sharing.go, has the fields %q, and seal.Version is %q; this test has %q and %q. "+
			"Replicas of two versions run side by side during a deployment, and a field that the other one did not store is read as empty. "+
			"Raise Version, in internal/seal/seal.go, with each change of the fields; say so in CHANGELOG.md; then write both into this test.",
		strings.Join(fields, ", "), seal.Version, held, version)

	changes, err := os.ReadFile("CHANGELOG.md")
	require.NoError(t, err)
	assert.True(t, strings.Contains(string(changes), "`"+seal.Version+"`"), "CHANGELOG.md does not name the version %q of what replicas store", seal.Version)
}
