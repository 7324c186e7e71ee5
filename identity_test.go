package dssauth

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A new field of Identity must be copied, counted and shared with other
// replicas, like the others.
func TestEachFieldOfIdentityIsKept(t *testing.T) {
	whole := NewIdentity("", "analysts")
	texts := 0
	for field, v := range reflect.ValueOf(&whole).Elem().Fields() {
		switch field.Type.Kind() {
		case reflect.String:
			v.SetString("the " + field.Name)
			texts++
		default:
			require.Contains(t, []string{"AsOf", "groups"}, field.Name, "this test knows no such field")
		}
	}
	require.Greater(t, texts, 5)

	memory := []byte(whole.Login)
	cut := whole
	cut.Login = unsafe.String(&memory[0], len(memory))
	kept := cut.own()
	memory[0] = 'X'
	assert.Equal(t, whole, kept, "own")

	for field := range reflect.TypeFor[Identity]().Fields() {
		if field.Type.Kind() == reflect.String {
			large := NewIdentity("")
			reflect.ValueOf(&large).Elem().FieldByIndex(field.Index).SetString(strings.Repeat("x", maxAnswerBytes+1))
			assert.False(t, large.fits(), "fits does not count %s", field.Name)
		}
	}

	text, err := json.Marshal(newSharedAnswer(&whole))
	require.NoError(t, err)
	var shared sharedAnswer
	require.NoError(t, json.Unmarshal(text, &shared))
	other := shared.identity()
	assert.Equal(t, whole.AsOf.UnixNano(), other.AsOf.UnixNano())
	whole.AsOf, other.AsOf = time.Time{}, time.Time{}
	assert.Equal(t, whole, other, "the identity that another replica reads")
}
