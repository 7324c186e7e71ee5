package dsstest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dssauth/dssauth/dsstest"
)

// newProjects returns newFake with four projects: one that ann owns, one that
// readers may read, one with dashboards for readers, and one that everybody may
// find. It also has the users zed, without a group, and uma, whom a project's
// permissions name.
func newProjects(t *testing.T) *dsstest.Server {
	fake := newFake(t)
	for _, u := range []dsstest.User{{Login: "zed"}, {Login: "uma"}, {Login: "rob", Groups: []string{"readers"}}} {
		fake.AddUser(u)
		fake.AddAPIKey(u.Login+"-key", u.Login)
	}
	rights := func(names ...string) map[string]bool {
		all := map[string]bool{}
		for _, name := range names {
			all[name] = true
		}
		return all
	}
	for _, p := range []dsstest.Project{
		{Key: "OWNED", Owner: "ann"},
		{Key: "READ", Permissions: []dsstest.Permission{
			{Group: "readers", Rights: rights("readProjectContent")}, {User: "uma", Rights: rights("admin")},
		}},
		{Key: "BOARDS", Permissions: []dsstest.Permission{{Group: "readers", Rights: rights("readDashboards", "someFutureRight")}}},
		{Key: "FOUND", Discoverable: true, Permissions: []dsstest.Permission{{Group: "readers", Rights: map[string]bool{"readProjectContent": false}}}},
	} {
		fake.AddProject(p)
	}
	return fake
}

func TestProjectRights(t *testing.T) {
	fake := newProjects(t)
	for _, tc := range []struct {
		by, key                    string
		jobs, summary, permissions int
	}{
		{"zed-key", "OWNED", 403, 403, 403},
		{"rob-key", "OWNED", 403, 403, 403},
		{"ann-key", "OWNED", 200, 200, 200},
		{"root-key", "OWNED", 200, 200, 200},
		{"ops-key", "OWNED", 200, 200, 200},

		{"zed-key", "READ", 403, 403, 403},
		{"rob-key", "READ", 200, 200, 403},
		{"uma-key", "READ", 200, 200, 200},

		{"zed-key", "BOARDS", 403, 403, 403},
		{"rob-key", "BOARDS", 403, 200, 403},

		{"zed-key", "FOUND", 403, 200, 403},
		{"rob-key", "FOUND", 403, 200, 403},

		{"zed-key", "NONE", 403, 403, 403},
		{"root-key", "NONE", 404, 404, 404},
		{"root-key", "a%2Fb", 404, 404, 404},
		{"zed-key", "a%2Fb", 403, 403, 403},
	} {
		for path, want := range map[string]int{"/jobs/?limit=1": tc.jobs, "": tc.summary, "/permissions": tc.permissions} {
			status, reply := call(t, fake, keyOf(tc.by), "GET", "/projects/"+tc.key+path, "")
			assert.Equal(t, want, status, "%s asks for %s%s", tc.by, tc.key, path)
			switch want {
			case 403:
				assertError(t, "UnauthorizedException", reply)
			case 404:
				assertError(t, "NotFoundException", reply)
			}
		}
	}
	status, _ := call(t, fake, creds(keyOf("root-key")).as("zed"), "GET", "/projects/READ/jobs/?limit=1", "")
	assert.Equal(t, 403, status, "the rights of the user that DSS acts as")
	status, _ = call(t, fake, keyOf("old-key"), "GET", "/projects/READ/jobs/?limit=1", "")
	assert.Equal(t, 401, status)
}

// keysOf returns the keys in by's list of projects.
func keysOf(t *testing.T, fake *dsstest.Server, by string) (keys []string) {
	status, reply := call(t, fake, keyOf(by), "GET", "/projects/", "")
	require.Equal(t, 200, status)
	for _, p := range decode(t, reply).([]any) {
		keys = append(keys, p.(map[string]any)["projectKey"].(string))
	}
	return keys
}

func TestProjectsAreListedForReaders(t *testing.T) {
	fake := newProjects(t)
	for by, want := range map[string][]string{
		"zed-key": nil, "rob-key": {"READ"}, "uma-key": {"READ"}, "ann-key": {"OWNED", "READ"},
		"root-key": {"BOARDS", "FOUND", "OWNED", "READ"}, fake.AdminKey(): {"BOARDS", "FOUND", "OWNED", "READ"},
	} {
		assert.Equal(t, want, keysOf(t, fake, by), by)
	}
}

func TestProjectsChange(t *testing.T) {
	fake := newProjects(t)
	jobs := func(by, key string) int {
		status, _ := call(t, fake, keyOf(by), "GET", "/projects/"+key+"/jobs/", "")
		return status
	}
	require.Equal(t, 200, jobs("rob-key", "READ"))
	fake.AddUser(dsstest.User{Login: "rob"})
	assert.Equal(t, 403, jobs("rob-key", "READ"), "a user left the group")
	fake.AddProject(dsstest.Project{Key: "READ", Owner: "rob"})
	assert.Equal(t, 200, jobs("rob-key", "READ"), "a project has another owner")
	fake.RemoveProject("READ")
	assert.Equal(t, 403, jobs("rob-key", "READ"), "a project was deleted")
	assert.Equal(t, 404, jobs("root-key", "READ"))
}

func TestDefaultProjects(t *testing.T) {
	fake := newFake(t)
	assert.Equal(t, []string{"CHURN", "SALES"}, keysOf(t, fake, "ann-key"))
	for by, want := range map[string]int{"ann-key": 403, "root-key": 200} {
		status, _ := call(t, fake, keyOf(by), "GET", "/projects/CHURN/permissions", "")
		assert.Equal(t, want, status, by)
	}
	status, _ := call(t, fake, keyOf("ann-key"), "GET", "/projects/NONE/jobs/", "")
	assert.Equal(t, 403, status)

	fake.RemoveProject("CHURN")
	assert.Equal(t, []string{"SALES"}, keysOf(t, fake, "root-key"))
	fake = newFake(t)
	fake.AddProject(dsstest.Project{Key: "MINE", Owner: "ann"})
	assert.Equal(t, []string{"MINE"}, keysOf(t, fake, "root-key"))
}

func TestHiddenProjectsAnswerWithTheSetStatus(t *testing.T) {
	fake := newProjects(t)
	for _, status := range []int{401, 403} {
		fake.Configure(dsstest.Options{HiddenProjects: status})
		for _, target := range []string{"/projects/READ", "/projects/READ/jobs/?limit=1", "/projects/NONE", "/projects/NONE/jobs/?limit=1"} {
			got, reply := call(t, fake, keyOf("zed-key"), "GET", target, "")
			assert.Equal(t, status, got, target)
			assert.JSONEq(t, `{"errorType":"com.dataiku.dip.exceptions.UnauthorizedException","message":"Failed to read project permissions"}`, reply)
		}
		got, reply := call(t, fake, keyOf("zed-key"), "GET", "/projects/FOUND/jobs/?limit=1", "")
		assert.Equal(t, 403, got, "it can be found")
		assert.Contains(t, reply, "may not read this project")
	}
}

func TestWrongProjects(t *testing.T) {
	fake := dsstest.New()
	for name, p := range map[string]dsstest.Project{
		"no key":                     {},
		"a key with a slash":         {Key: "a/b"},
		"a key with a dot":           {Key: ".."},
		"a key with an umlaut":       {Key: "Ä"},
		"a permission for nobody":    {Key: "A", Permissions: []dsstest.Permission{{}}},
		"a permission for two kinds": {Key: "A", Permissions: []dsstest.Permission{{Group: "a", User: "b"}}},
	} {
		assert.Panics(t, func() { fake.AddProject(p) }, name)
	}
}

// The fake does not change the values of a test.
func TestProjectsAreCopies(t *testing.T) {
	fake := newProjects(t)
	rights := map[string]bool{}
	permissions := []dsstest.Permission{{User: "zed", Rights: rights}}
	fake.AddProject(dsstest.Project{Key: "READ", Permissions: permissions})
	rights["admin"] = true
	permissions[0].Rights = rights
	status, _ := call(t, fake, keyOf("zed-key"), "GET", "/projects/READ/jobs/", "")
	assert.Equal(t, 403, status)
}

func TestVersionHeaders(t *testing.T) {
	fake := newFake(t)
	versions := func(target, key string) [2]string {
		req, err := http.NewRequest("GET", fake.URL()+"/dip/publicapi"+target, nil)
		require.NoError(t, err)
		req.SetBasicAuth(key, "")
		resp, err := direct.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		return [2]string{resp.Header.Get("DSS-Version"), resp.Header.Get("DSS-API-Version")}
	}
	for _, target := range []string{authInfo, "/projects/", "/users/nobody", "/nothing"} {
		for _, key := range []string{"ann-key", "wrong"} {
			assert.Equal(t, [2]string{"14.3.3", "1"}, versions(target, key), target)
		}
	}
	fake.Configure(dsstest.Options{Version: "15.0.0"})
	assert.Equal(t, "15.0.0", versions(authInfo, "ann-key")[0])
	fake.SetDown(true)
	assert.Empty(t, versions(authInfo, "ann-key")[0], "a proxy's answer has no DSS header")
}
