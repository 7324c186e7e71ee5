package dsstest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dssauth/dssauth/dsstest"
)

func TestLookupNeeds(t *testing.T) {
	fake := newFake(t)
	c := fake.SignIn("ann")
	fake.Configure(dsstest.Options{LookupNeeds: "User-Agent"})
	assert.Empty(t, whoIs(t, fake, cookieOf(c)))
	assert.Empty(t, whoIs(t, fake, `{"Cookie": "`+c.Name+"="+c.Value+`", "User-Agent": ""}`))
	assert.Equal(t, "ann", whoIs(t, fake, `{"Cookie": "`+c.Name+"="+c.Value+`", "user-agent": "x"}`))
}

func TestIgnoreLoginCase(t *testing.T) {
	fake := newFake(t)
	admin := keyOf(fake.AdminKey())
	status, _ := call(t, fake, admin, "GET", "/users/ANN", "")
	assert.Equal(t, 404, status)

	fake.Configure(dsstest.Options{IgnoreLoginCase: true})
	status, reply := call(t, fake, admin, "GET", "/users/ANN", "")
	assert.Equal(t, 200, status)
	assert.Equal(t, "ann", decode(t, reply).(map[string]any)["login"])
	assert.Equal(t, "ann", whoAmI(t, fake, admin.as("ANN")))
	fake.AddUser(dsstest.User{Login: "ANN"})
	assert.Equal(t, "ANN", whoAmI(t, fake, admin.as("ANN")), "the same spelling goes first")
	status, _ = call(t, fake, admin, "GET", "/users/anna", "")
	assert.Equal(t, 404, status)
}

func TestLatin1ProxyUser(t *testing.T) {
	fake := newFake(t)
	fake.AddUser(dsstest.User{Login: "é"})
	admin := keyOf(fake.AdminKey())
	assert.Equal(t, "é", whoAmI(t, fake, admin.as("é")))

	fake.Configure(dsstest.Options{Latin1ProxyUser: true})
	status, reply := call(t, fake, admin.as("é"), "GET", authInfo, "")
	assert.Equal(t, 404, status)
	assert.Contains(t, reply, "Ã©")
	assert.Equal(t, "é", whoAmI(t, fake, admin.as("\xe9")))
}

func TestDiscoverableJobs(t *testing.T) {
	fake := newFake(t)
	fake.AddProject(dsstest.Project{Key: "FOUND", Discoverable: true})
	fake.AddProject(dsstest.Project{Key: "HIDDEN"})
	for _, option := range []bool{false, true} {
		fake.Configure(dsstest.Options{DiscoverableJobs: option})
		status, _ := call(t, fake, keyOf("ann-key"), "GET", "/projects/FOUND/jobs/", "")
		assert.Equal(t, map[bool]int{false: 403, true: 200}[option], status)
		status, _ = call(t, fake, keyOf("ann-key"), "GET", "/projects/HIDDEN/jobs/", "")
		assert.Equal(t, 403, status)
	}
}
