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
			require.Contains(t, []string{"AsOf", "groups"}, field.Name, "a field that is not a string: add its own checks to this test")
		}
	}
	require.Greater(t, texts, 5)

	// Each text is in memory that changes afterwards.
	var borrowed [][]byte
	cut := whole
	for _, v := range reflect.ValueOf(&cut).Elem().Fields() {
		if v.Kind() == reflect.String {
			memory := []byte(v.String())
			v.SetString(unsafe.String(&memory[0], len(memory)))
			borrowed = append(borrowed, memory)
		}
	}
	kept := cut.own()
	for _, memory := range borrowed {
		memory[0] = 'X'
	}
	for field, v := range reflect.ValueOf(kept).Fields() {
		if field.Type.Kind() == reflect.String {
			assert.Equal(t, "the "+field.Name, v.String(), "%s is in borrowed memory: copy it in own, in identity.go", field.Name)
		}
	}
	assert.Equal(t, whole.Groups(), kept.Groups(), "own")
	assert.Equal(t, whole.AsOf, kept.AsOf, "own")

	for field := range reflect.TypeFor[Identity]().Fields() {
		if field.Type.Kind() == reflect.String {
			large := NewIdentity("")
			reflect.ValueOf(&large).Elem().FieldByIndex(field.Index).SetString(strings.Repeat("x", maxAnswerBytes+1))
			assert.False(t, large.fits(), "%s can be of any length: count it in fits, in identity.go", field.Name)
		}
	}

	text, err := json.Marshal(newSharedAnswer(&whole))
	require.NoError(t, err)
	var shared sharedAnswer
	require.NoError(t, json.Unmarshal(text, &shared))
	other := shared.identity()
	for field, v := range reflect.ValueOf(other).Fields() {
		if field.Type.Kind() == reflect.String {
			assert.Equal(t, "the "+field.Name, v.String(), "another replica does not read %s: see newSharedAnswer and identity, in sharing.go", field.Name)
		}
	}
	assert.Equal(t, whole.AsOf.UnixNano(), other.AsOf.UnixNano())
	whole.AsOf, other.AsOf = time.Time{}, time.Time{}
	assert.Equal(t, whole, other, "the identity that another replica reads")
}
