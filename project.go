package dssauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/ownkey"
	"github.com/dssauth/dssauth/internal/shown"
)

// projectQuestion is the call that decides a project gate. It is made as the visitor.
// DSS's REST reference requires READ_CONF ("Read project content") for it: the right
// that a DSS user needs to open a webapp. Not GET /projects/{key}: everybody may be
// able to find a project, and DSS may then show its summary, too.
const projectQuestion = "/projects/%s/jobs/?limit=1"

// RequireProject returns a gate that admits the visitors who may read the content of
// the DSS project key. DSS decides: it is asked as the visitor, so that owners,
// administrators and every right in DSS count. If this Middleware has not identified
// the visitor yet, the gate does, as Handler would.
//
// Others get a 403, and everybody does if the project does not exist. DSS cannot be
// asked as an API key without a user: that is a 403 too. If DSS does not answer, or
// does not let the application act as the visitor, it is a 503.
//
// A verdict belongs to DSS's answer about the visitor, and ends with it: after a right
// was taken away, the visitor keeps access for up to [Config.TTL]. Verdicts are never
// shared between visitors. At most 32 are remembered for each visitor.
//
// RequireProject panics if key is not a project's key (letters, digits and
// underscores), and without [Config.Impersonation].
//
// DSS: GET /projects/{key}/jobs/
func (m *Middleware) RequireProject(key string) func(http.Handler) http.Handler {
	if !isProjectKey(key) {
		panic(fmt.Sprintf("dssauth: RequireProject: %s is not a project's key: give it as in \"CHURN\", letters, digits and underscores only; "+
			"dss.CurrentProject is empty outside DSS", shown.Quote(key)))
	}
	return m.requireProject("RequireProject", func(*http.Request) string { return key })
}

// RequireProjectOf is [Middleware.RequireProject] for applications with many
// projects: key returns the project's key from the request, as in
//
//	auth.RequireProjectOf(func(r *http.Request) string { return r.PathValue("project") })
//
// A request without a valid key is a 400, and DSS is not asked. Key runs on each
// request, and again for the connections that [Middleware.Require] describes.
// RequireProjectOf panics if key is nil, and without [Config.Impersonation].
func (m *Middleware) RequireProjectOf(key func(*http.Request) string) func(http.Handler) http.Handler {
	if key == nil {
		panic("dssauth: RequireProjectOf(nil): give a function that returns the project's key, or use RequireProject")
	}
	return m.requireProject("RequireProjectOf", key)
}

func (m *Middleware) requireProject(name string, key func(*http.Request) string) func(http.Handler) http.Handler {
	if m.impersonation == 0 {
		panic("dssauth: " + name + " asks DSS as the visitor: set Config.Impersonation to ByTicket, or to ByProxyUser with an administrator's key")
	}
	return m.gate(func(r *http.Request, v *visit) error {
		project := key(r)
		if !isProjectKey(project) {
			return errProjectKey
		}
		return m.mayRead(r, v, project)
	})
}

// isProjectKey reports whether s can be a project's key. Such a text is one segment of
// a path, and no program reads it differently.
func isProjectKey(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || '9' < c) && (c < 'A' || 'Z' < c) && (c < 'a' || 'z' < c) {
			return false
		}
	}
	return s != ""
}

// mayRead returns nil if v's visitor may read the content of project. It uses a
// remembered verdict, or else asks DSS.
func (m *Middleware) mayRead(r *http.Request, v *visit, project string) error {
	switch {
	case v.m == nil:
		return errMadeUp
	case v.entry.identity.Login == "":
		return errKeyCannotAct
	}
	if known := v.entry.session.verdictOn(project); known != nil && m.stands(v, known) {
		return known.err
	}
	f, err := m.askProject(r.Context(), v, project)
	if err != errSignedOut {
		return err
	}
	// The session may have ended since DSS named the visitor: identify the visitor
	// again.
	m.forgetOnce(f, v.entry)
	e, _, err := m.identify(r, false)
	switch {
	case err != nil:
		return err
	case e.identity.owner() != v.entry.identity.owner():
		return errOtherUser
	}
	again := newVisit(r, m, e)
	if _, err = m.askProject(again, again, project); err == errSignedOut {
		return unavailable("DSS knows the session, but gives no ticket for it", nil, 0)
	}
	return err
}

// forgetOnce forgets the bytes of e, once for all requests that wait for f. These then
// share the lookup that identifies the visitor.
func (m *Middleware) forgetOnce(f *projectFlight, e *entry) {
	f.ended.Do(func() { m.answers.forget(e.key) })
}

// stands reports whether a verdict may be used for v. A verdict belongs to an answer
// about the visitor, and holds as long as that answer. When a newer answer replaces it,
// DSS is asked for the verdict again. Meanwhile the old verdict lasts until the older
// answer would have ended.
func (m *Middleware) stands(v *visit, known *projectVerdict) bool {
	switch {
	case known.basis == v.entry.asked: // Handler has just accepted that answer, in an outage too
		return true
	case m.answers.now() >= known.expires:
		return false
	}
	if known.basis < v.entry.asked && known.renewing.CompareAndSwap(false, true) {
		_, _ = m.joinProject(v, known.project, known.expires)
	}
	return true
}

// askProject returns DSS's verdict. All requests of the visitor share the question.
func (m *Middleware) askProject(ctx context.Context, v *visit, project string) (*projectFlight, error) {
	f, err := m.joinProject(v, project, 0)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f, f.err
	case <-ctx.Done():
		return f, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), 0)
	case <-f.ctx.Done():
	}
	select {
	case <-f.done: // cancel runs after done
		return f, f.err
	default:
		return f, unavailable("a question about a project ignored its deadline", f.ctx.Err(), 0)
	}
}

// joinProject returns the question about project that is under way for the visitor, or
// starts one. Until is the end of the verdict to renew, or zero if there is none.
func (m *Middleware) joinProject(v *visit, project string, until int64) (*projectFlight, error) {
	// Read the visitor's bytes now, since the question outlives the request.
	c, err := v.credentials()
	if err != nil {
		return nil, err
	}
	if err := m.answers.refusal(); err != nil {
		return nil, err
	}
	project = strings.Clone(project) // a server may reuse its memory
	entry := v.entry
	return entry.session.joinProject(project, func(f *projectFlight) error {
		f.ctx, f.cancel = context.WithTimeout(m.answers.life.ctx, m.answers.timeout+grace)
		if m.answers.life.run(func() { m.flyProject(f, entry, c, project, until) }) {
			return nil
		}
		f.cancel()
		return errClosed
	})
}

// flyProject asks DSS, and remembers its verdict with e, the answer about the visitor.
func (m *Middleware) flyProject(f *projectFlight, e *entry, c credentials, project string, until int64) {
	// The answer if plugged-in code panics, or calls Goexit.
	err := unavailable("the question about a project ended without an answer", nil, 0)
	defer func() {
		_ = recover()
		verdict := &projectVerdict{project: project, err: err, basis: e.asked, expires: e.expires}
		e.session.landProject(f, verdict, err == nil || errors.Is(err, ErrForbidden))
		f.cancel()
	}()
	err = m.projectAnswer(f.ctx, e, c, project, until)
	if err == errSignedOut && until != 0 { // no request waits that would identify the visitor again
		m.forgetOnce(f, e)
	}
}

// projectAnswer returns DSS's answer, one of: nil, ErrForbidden, ErrUnavailable, and
// errSignedOut.
func (m *Middleware) projectAnswer(ctx context.Context, e *entry, c credentials, project string, until int64) error {
	ctx, cancel := context.WithTimeout(ctx, m.answers.timeout)
	defer cancel()
	visitor, err := m.clientOf(e, c.header)
	if err != nil {
		return unavailable("DSS cannot be asked as the visitor", unquoted(err), 0)
	}
	turn, err := m.projectTurn(ctx, e, until)
	if err != nil {
		return err
	}
	// Its result opens and closes no place: only lookups do.
	defer m.answers.places.giveBack(turn)
	var jobs json.RawMessage // any JSON: the content does not matter
	err = visitor.Do(ctx, http.MethodGet, fmt.Sprintf(projectQuestion, project), nil, &jobs)
	var reply *dss.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dss.ErrNoCredentials):
		return m.cannotAct(err)
	case errors.As(err, &reply) && (isClass(reply, "UnauthorizedException") || isClass(reply, "NotFoundException")):
		if err := m.stillActs(ctx, visitor, e); err != nil {
			return err
		}
		return refuse(ErrForbidden, "DSS does not let the visitor read the content of the project")
	}
	return unavailable("DSS did not say whether the visitor may read the project", unquoted(err), 0)
}

// stillActs returns an error if a refusal may not be about e's visitor. DSS uses the
// same words to refuse an application that may no longer act by X-DKU-ProxyUser.
func (m *Middleware) stillActs(ctx context.Context, visitor *dss.Client, e *entry) error {
	if m.impersonation != ByProxyUser {
		return nil
	}
	switch info, err := visitor.AuthInfo(ctx); {
	case err != nil:
		return m.cannotAct(err)
	case info.Login() != e.identity.Login:
		m.faults.actsAsOther()
		return unavailable("DSS lets calls for the visitor act as another user", nil, 0)
	}
	return nil
}

// projectTurn waits for a place towards DSS. If a verdict lasts until some time, all
// others go first, except in its last moment.
func (m *Middleware) projectTurn(ctx context.Context, e *entry, until int64) (*turn, error) {
	places, owner := m.answers.places, e.identity.owner()
	if patience := time.Duration(until-m.answers.now()) - lastMoment; patience > 0 {
		if t := newTurn(owner); places.ahead(t, patience) && places.wait(ctx, t) {
			return t, nil
		}
	}
	t := newTurn(owner)
	return t, places.enter(ctx, t, nil)
}

// isClass reports whether DSS named an error of this class, in any package.
func isClass(reply *dss.Error, class string) bool {
	return strings.HasSuffix(reply.Type, "."+class)
}

// errSignedOut means that DSS gave no ticket. Either it knows no session for the
// visitor's bytes, or it rejects our own credentials: a lookup tells the two apart.
var errSignedOut = errors.New("dssauth: DSS gave no ticket: it knows no session")

// cannotAct returns the answer when DSS could not be asked as the visitor.
func (m *Middleware) cannotAct(err error) error {
	var reply *dss.Error
	switch {
	case errors.Is(err, ownkey.ErrOtherUser):
		m.faults.actsAsOther()
	case errors.Is(err, ErrUnauthenticated):
		return errSignedOut
	case errors.Is(err, ErrUnavailable):
		return err
	case errors.As(err, &reply) && !reply.NotAuthenticated() && !isFailure(reply):
		return m.faults.mayNotAct(err)
	}
	return unavailable("DSS cannot be asked as the visitor", unquoted(err), 0)
}
