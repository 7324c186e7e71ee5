package dsstest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Project is a project of the fake DSS. Administrators and its owner have all
// rights on it. Other users have the rights of Permissions. The zero value of
// every field but Key is fine.
type Project struct {
	Key   string // letters, digits and underscores
	Name  string // "" is Key
	Owner string // a login

	// Permissions are the rights of groups and users, in the order in which GET
	// /projects/{key}/permissions lists them.
	Permissions []Permission

	// Discoverable lets every user find the project, but not read it. The fake
	// then shows its summary to everybody.
	Discoverable bool
}

// Permission is the rights of a group, or of a user, on a project.
type Permission struct {
	Group string // or
	User  string // a login, as since DSS 15

	// Rights are named as in DSS. The fake knows three: "admin" is all rights,
	// "readProjectContent" is READ_CONF in DSS's REST reference, and
	// "readDashboards" alone shows only the project's summary. Any other appears
	// in the list of permissions, and gives no rights.
	Rights map[string]bool
}

// AddProject adds a project, or replaces the one with that key. Before the
// first call there are two projects, CHURN and SALES, and every caller may read
// them. It panics on a key that DSS does not allow, and on a permission that
// does not name exactly one of a group and a user.
func (d *DSS) AddProject(p Project) {
	if p.Key == "" || strings.ContainsFunc(p.Key, func(r rune) bool {
		return r != '_' && (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r)
	}) {
		panic(fmt.Sprintf("dsstest: AddProject: Key %q: use letters, digits and underscores", p.Key))
	}
	p.Name = cmp.Or(p.Name, p.Key)
	p.Permissions = slices.Clone(p.Permissions)
	for i, each := range p.Permissions {
		if (each.Group == "") == (each.User == "") {
			panic(fmt.Sprintf("dsstest: AddProject(%q): permission %d: set one of Group and User", p.Key, i+1))
		}
		p.Permissions[i].Rights = maps.Clone(each.Rights)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.projects == nil {
		d.projects = map[string]Project{}
	}
	d.projects[p.Key] = p
}

// RemoveProject deletes a project. It does not bring CHURN and SALES back.
func (d *DSS) RemoveProject(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.projects == nil {
		d.projects = maps.Clone(firstProjects)
	}
	delete(d.projects, key)
}

// firstProjects are the projects before AddProject: any caller may read them.
var firstProjects = map[string]Project{
	"CHURN": {Key: "CHURN", Name: "Churn"},
	"SALES": {Key: "SALES", Name: "Sales"},
}

// access is the part of a project that a caller may see.
type access int

const (
	noAccess     access = iota
	seesSummary         // by its dashboards, or because everybody may find it
	readsContent        // READ_CONF
	administers
)

// project returns a project and caller's access to it.
func (d *DSS) project(key string, caller principal) (Project, access) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.projectOf(key, caller)
}

// projectOf is project for callers that hold d.mu.
func (d *DSS) projectOf(key string, caller principal) (Project, access) {
	if d.projects == nil {
		p, found := firstProjects[key]
		if found && !caller.admin {
			return p, readsContent
		}
		return p, caller.accessTo(found)
	}
	p, found := d.projects[key]
	if !found || caller.admin || p.Owner != "" && caller.login == p.Owner {
		return p, caller.accessTo(found)
	}
	sees := noAccess
	if p.Discoverable {
		sees = seesSummary
	}
	for _, each := range p.Permissions {
		if each.isFor(d.users[caller.login]) {
			sees = max(sees, each.access())
		}
	}
	return p, sees
}

// accessTo is the access of a caller with all rights.
func (p principal) accessTo(found bool) access {
	if found {
		return administers
	}
	return noAccess
}

func (p Permission) isFor(u User) bool {
	return u.Login != "" && (p.User == u.Login || p.Group != "" && slices.Contains(u.Groups, p.Group))
}

func (p Permission) access() access {
	switch {
	case p.Rights["admin"]:
		return administers
	case p.Rights["readProjectContent"]:
		return readsContent
	case p.Rights["readDashboards"]:
		return seesSummary
	}
	return noAccess
}

// fields returns the rights beside the name, as in DSS's JSON.
func (p Permission) fields() map[string]any {
	fields := map[string]any{}
	for right, given := range p.Rights {
		fields[right] = given
	}
	if p.Group != "" {
		fields["group"] = p.Group
	} else {
		fields["user"] = p.User
	}
	return fields
}

// projectSummary is the answer of GET /projects/{key}.
type projectSummary struct {
	ProjectKey       string   `json:"projectKey"`
	Name             string   `json:"name"`
	OwnerLogin       string   `json:"ownerLogin"`
	OwnerDisplayName string   `json:"ownerDisplayName"`
	ProjectStatus    string   `json:"projectStatus"`
	ShortDesc        string   `json:"shortDesc"`
	Tags             []string `json:"tags"`
}

// summary returns the summary of p. The caller holds d.mu.
func (d *DSS) summary(p Project) projectSummary {
	return projectSummary{
		ProjectKey: p.Key, Name: p.Name, OwnerLogin: p.Owner, OwnerDisplayName: d.users[p.Owner].DisplayName,
		ProjectStatus: "Sandbox", Tags: []string{},
	}
}

// getProjects lists the projects whose content the caller may read.
func (d *DSS) getProjects(w http.ResponseWriter, _ *http.Request, caller principal) {
	d.mu.RLock()
	projects := d.projects
	if projects == nil {
		projects = firstProjects
	}
	list := []projectSummary{}
	for _, key := range slices.Sorted(maps.Keys(projects)) {
		if p, sees := d.projectOf(key, caller); sees >= readsContent {
			list = append(list, d.summary(p))
		}
	}
	d.mu.RUnlock()
	writeJSON(w, http.StatusOK, list)
}

func (d *DSS) getProject(w http.ResponseWriter, r *http.Request, caller principal) {
	p, ok := d.admitted(w, r, caller, seesSummary)
	if !ok {
		return
	}
	d.mu.RLock()
	summary := d.summary(p)
	d.mu.RUnlock()
	writeJSON(w, http.StatusOK, summary)
}

// getJobs answers with an empty list.
func (d *DSS) getJobs(w http.ResponseWriter, r *http.Request, caller principal) {
	least := readsContent
	if d.currentOptions().DiscoverableJobs {
		least = seesSummary
	}
	if _, ok := d.admitted(w, r, caller, least); ok {
		writeJSON(w, http.StatusOK, []string{})
	}
}

func (d *DSS) getPermissions(w http.ResponseWriter, r *http.Request, caller principal) {
	p, ok := d.admitted(w, r, caller, administers)
	if !ok {
		return
	}
	permissions := []map[string]any{} // never nil: DSS answers with a list, even an empty one
	for _, each := range p.Permissions {
		permissions = append(permissions, each.fields())
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"owner":                    p.Owner,
		"permissions":              permissions,
		"additionalDashboardUsers": map[string][]string{"users": {}},
	})
}

// admitted returns the project of a call, or refuses the call. Only
// administrators can tell a missing project from one that they may not see.
func (d *DSS) admitted(w http.ResponseWriter, r *http.Request, caller principal, least access) (Project, bool) {
	key := r.PathValue("key")
	p, sees := d.project(key, caller)
	status := d.currentOptions().HiddenProjects
	switch {
	case sees >= least:
		return p, true
	case sees == noAccess && status != 0:
		hidden := unauthorized("Failed to read project permissions")
		hidden.status = status
		hidden.write(w)
	case p.Key == "" && caller.admin:
		missing := notFound("")
		missing.Message = "Project " + key + " not found"
		missing.write(w)
	case least == administers:
		unauthorized("Action forbidden, you are not an administrator of this project").write(w)
	default:
		unauthorized("Action forbidden, you may not read this project").write(w)
	}
	return Project{}, false
}
