package dssauth

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The page's table has each field in its order, and the default that New sets.
func TestSettingsPageHasEachDefault(t *testing.T) {
	page, err := os.ReadFile("docs/settings.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.+?) \\| .+ \\|$").FindAllStringSubmatch(string(page), -1)
	var c Config
	c.setDefaults()
	set := reflect.ValueOf(c)
	require.Len(t, rows, set.NumField())
	for i, row := range rows {
		field := set.Type().Field(i).Name
		require.Equal(t, field, row[1])
		assert.Equal(t, defaultShown(field, set.Field(i)), row[2], field)
	}
}

// defaultShown is the default of a field as the page has it.
func defaultShown(field string, v reflect.Value) string {
	switch field {
	case "Headers":
		return "`" + strings.Join(defaultHeaders, "`, `") + "`"
	case "Cookies":
		return "all, except cookies of well-known analytics tools and load balancers"
	case "OnError":
		return "`WriteRefusal`"
	case "Logger":
		return "`slog.Default()`"
	}
	switch d, isDuration := v.Interface().(time.Duration); {
	case v.IsZero() && (v.CanInt() || v.Kind() == reflect.Bool):
		return "off"
	case v.IsZero():
		return "none"
	case isDuration:
		return d.String()
	case v.CanInt() && v.Int() >= 1000:
		return fmt.Sprintf("%d,%03d", v.Int()/1000, v.Int()%1000)
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	}
	return "a default that this test does not know"
}
