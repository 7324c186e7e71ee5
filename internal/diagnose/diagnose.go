// Package diagnose finds out, without a browser's request, whether an application
// can ask DSS who its visitors are. It prints nothing: dssauth doctor shows what it
// finds, and programs log it when they start.
package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dssauth/dssauth/dss"
)

// Application is what asks DSS who its visitors are.
type Application struct {
	Client      *dss.Client
	Inside      bool          // DSS started it, and gave it a ticket
	ByProxyUser bool          // it acts as its visitors so: Start asks for the rights
	Flags       bool          // it has the doctor's flags, which advice may name
	Timeout     time.Duration // of each call
	Own         dss.AuthInfo  // who it is to DSS, once Start has found out

	version string // of the last reply, in words
	secrets Secrets
}

// Finding is what one check found out. It holds no credential of the application's.
type Finding struct {
	Check  string
	Status string
	Found  string
	Advice []string // why, and what to do; in paragraphs
}

// What a check comes to.
const (
	OK      = "ok"
	Problem = "problem"
	Skipped = "skipped"
)

func (a *Application) finding(check, status, found string, advice ...string) Finding {
	f := Finding{Check: check, Status: status, Found: a.secrets.Without(found)}
	for _, paragraph := range advice {
		f.Advice = append(f.Advice, a.secrets.Without(paragraph))
	}
	return f
}

// fails is what is found where a call brings no answer to what was asked.
func (a *Application) fails(check string, err error) Finding {
	f := Explain(err)
	if !a.Flags {
		f.Fix = strings.Replace(f.Fix, longer, "", 1)
	}
	return a.finding(check, Problem, f.What, f.Fix)
}

// Start finds out whether DSS answers and accepts the application's credentials,
// whether the application has the right to ask who a browser is and, where that is
// needed, an administrator's rights. Each check needs the one before it: a problem
// is the last finding. Once ctx has ended, there are no more, since a call that was
// cut short says nothing.
func (a *Application) Start(ctx context.Context) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		for _, check := range []func(context.Context) []Finding{a.connection, a.mayAsk, a.asNeeded} {
			for _, f := range check(ctx) {
				if ctx.Err() != nil || !yield(f) || f.Status == Problem {
					return
				}
			}
		}
	}
}

// connection finds out whether DSS answers, and whether it accepts us.
func (a *Application) connection(ctx context.Context) []Finding {
	const check, own = "connection", "own credentials"
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	info, err := a.client().AuthInfo(ctx)
	rejected := IsAnonymous(info, err)
	if err != nil && !rejected {
		return []Finding{a.fails(check, err)}
	}
	answers := a.finding(check, OK, "DSS answers, "+a.version)
	if rejected {
		return []Finding{answers, a.finding(own, Problem, "DSS rejects them", a.newCredentials())}
	}
	a.Own = info
	return []Finding{answers, a.finding(own, OK, "to DSS, we are "+Who(info))}
}

func (a *Application) newCredentials() string {
	if a.Inside {
		return "The ticket in DKU_API_TICKET has expired, or DSS was restarted: restart the webapp or Code Studio, so that DSS gives it a new one."
	}
	return "The API key is wrong, expired or revoked, or belongs to another DSS. Create a new one (of a user: Profile > API keys; global: " +
		"Administration > Security > Global API keys), set it as DKU_API_KEY, or as api_key in ~/.dataiku/config.json, and restart the application. " +
		"Until then, no visitor can be identified."
}

// mayAsk finds out whether we have the right to ask who a browser is, by asking
// for one that nobody has.
func (a *Application) mayAsk(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	info, err := a.client().AuthInfoFromBrowserHeaders(ctx, http.Header{"Cookie": {"dssauth_doctor=" + rand.Text()}})
	return []Finding{a.rightToAsk(info, err)}
}

func (a *Application) rightToAsk(info dss.AuthInfo, err error) Finding {
	const check = "right to ask who a browser is"
	switch {
	case IsAnonymous(info, err):
		return a.finding(check, OK, "we have it")
	case err == nil:
		return a.finding(check, Problem, "DSS took cookies that nobody has for "+Who(info),
			"It answers with somebody else than the browser's user, so every visitor would be that one: do not use this deployment. "+
				"Look for a proxy between this application and DSS that adds cookies or an Authorization header.")
	case IsRefusal(err):
		return a.finding(check, Problem, "DSS refuses it to "+Who(a.Own),
			"Use the API key, or the run-as user, of somebody who has it: an administrator's has. With a key, give it the right in DSS "+
				"(a user's key has the rights of the user's groups, under Administration > Security > Groups), or use another one; "+
				"inside DSS, change the webapp's run-as user.")
	case isUnknown(err):
		return a.finding(check, Problem, "this DSS has no such endpoint", "It is too old to tell who a browser is: upgrade it.")
	}
	return a.fails(check, err)
}

func (a *Application) asNeeded(ctx context.Context) []Finding {
	if !a.ByProxyUser {
		return nil
	}
	return []Finding{a.Administrator(ctx, "", true)}
}

// Administrator finds out whether the application has an administrator's rights,
// as it needs to act as its visitors by proxy user, where there is no visitor to
// try it with: it tries to act as login or, without one, as some user of DSS. What
// DSS refuses is a problem only where it is needed.
func (a *Application) Administrator(ctx context.Context, login string, needed bool) Finding {
	const check = "administrator's rights"
	if login == "" {
		login = a.someUser(ctx)
	}
	if login == "" {
		hint := ""
		if a.Flags {
			hint = ": name one with -user"
		}
		return a.finding(check, Skipped, "we cannot find a user to try to act as"+hint)
	}
	err := a.ActAs(ctx, login)
	switch {
	case err == nil:
		return a.finding(check, OK, "we have them: DSS lets us act as "+strconv.Quote(login))
	case IsRefusal(err):
		return Lacks(a.finding(check, Problem, "we do not have them",
			"DSS does not let us act as "+strconv.Quote(login)+". ByProxyUser takes an administrator's API key; "+
				"ByTicket and identifying visitors work without one."), needed)
	case isUnknown(err):
		return a.finding(check, Problem, "DSS knows no user "+strconv.Quote(login), "Correct -user.")
	}
	return a.fails(check, err)
}

// Lacks is a finding about what DSS does not allow.
func Lacks(f Finding, needed bool) Finding {
	if !needed {
		f.Status = OK
		f.Found += ", which matters only if Config.Impersonation asks for it"
	}
	return f
}

// ActAs asks DSS who the application is when it acts as login.
func (a *Application) ActAs(ctx context.Context, login string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	user, err := a.client().As(login)
	if err != nil {
		return err
	}
	return Is(ctx, user, login)
}

// ErrOther means that DSS acted as somebody else than it was told to.
var ErrOther = errors.New("another user")

// Is fails with ErrOther where DSS does not take a client for login.
func Is(ctx context.Context, client *dss.Client, login string) error {
	info, err := client.AuthInfo(ctx)
	if err == nil && info.Login() != login {
		return ErrOther
	}
	return err
}

// someUser returns a user other than ourselves, or "".
func (a *Application) someUser(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	var users []struct {
		Login   string `json:"login"`
		Enabled bool   `json:"enabled"`
	}
	if a.client().Do(ctx, http.MethodGet, "/users", nil, &users) != nil {
		return ""
	}
	for _, u := range users {
		if u.Enabled && u.Login != a.Own.Login() {
			return u.Login
		}
	}
	return ""
}

// client returns a client that takes down which DSS answers it, and what it must
// not find in an answer.
func (a *Application) client() *dss.Client {
	return a.Client.WrapTransport(func(next http.RoundTripper) http.RoundTripper { return watched{a, next} })
}

type watched struct {
	*Application
	next http.RoundTripper
}

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	w.secrets.HideHeader(r.Header.Get("Authorization"))
	w.secrets.HideHeader(r.Header.Get("X-DKU-APITicket"))
	reply, err := w.next.RoundTrip(r)
	if err == nil {
		w.Application.version = version(reply.Header)
	}
	return reply, err
}

var versionPattern = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3}){0,3}(-(alpha|beta|rc)[0-9]{0,2})?$`)

// IsVersion reports whether DSS may have put s into its headers: a proxy may put
// anything there.
func IsVersion(s string) bool { return versionPattern.MatchString(s) }

// version tells which DSS a reply is from.
func version(h http.Header) string {
	dss, api := h.Get("DSS-Version"), h.Get("DSS-API-Version")
	switch {
	case !IsVersion(dss):
		return "and does not say its version"
	case !IsVersion(api):
		return "version " + dss
	}
	return "version " + dss + ", API version " + api
}

// Who names whom an answer of DSS is about. An API key is not told by its id,
// which may be the key itself.
func Who(info dss.AuthInfo) string {
	if info.Login() == "" {
		return "an API key without a user"
	}
	text := "the user " + strconv.Quote(info.Login())
	if info.UserProfile != "" {
		text += ", profile " + strconv.Quote(info.UserProfile)
	}
	return text
}

// IsAnonymous reports whether DSS said that nobody is signed in. Where it accepted
// our own credentials before, a 401 is about the browser.
func IsAnonymous(info dss.AuthInfo, err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.NotAuthenticated() || err == nil && info.IsAnonymous()
}

// IsRefusal reports whether DSS, and no proxy, said that we may not do this.
func IsRefusal(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) &&
		(reply.StatusCode == http.StatusForbidden && reply.Type != "" || strings.HasSuffix(reply.Type, ".UnauthorizedException"))
}

// isUnknown reports whether DSS, and no proxy, said that there is no such thing.
func isUnknown(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.StatusCode == http.StatusNotFound && reply.Type != ""
}
