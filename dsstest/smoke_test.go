package dsstest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

func TestSmoke(t *testing.T) {
	fake := dsstest.NewServer(t)
	fake.AddUser(dsstest.User{Login: "ann", Groups: []string{"analysts"}})
	c := fake.SignIn("ann")
	req, err := http.NewRequest("POST", fake.URL()+"/dip/publicapi/auth/info-from-browser-headers", strings.NewReader(`{"Cookie":"a=1; `+c.Name+"="+c.Value+`"}`))
	require.NoError(t, err)
	req.SetBasicAuth(fake.AdminKey(), "")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	assert.Equal(t, 200, res.StatusCode, string(b))
	t.Log(string(b), fake.Log(""))
}
