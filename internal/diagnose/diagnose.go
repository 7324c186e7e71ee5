// Package diagnose finds out whether an application can ask DSS about its visitors. It
// needs no browser's request, and prints nothing: dssauth doctor shows its findings,
// and programs log them at their start.
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

// Application is a program that asks DSS about its visitors.
type Application struct {
	Client      *dss.Client
	Inside      bool          // DSS started it, and gave it a ticket
	ByProxyUser bool          // how it acts as its visitors: Start checks the rights
	Flags       bool          // it has the doctor's flags: advice may name them
	Timeout     time.Duration // of each call
	Own         dss.AuthInfo  // its user in DSS, after Start

	version string // of the last reply, in words
	secrets Secrets
}

// Finding is the result of one check. It holds no credential of the application.
type Finding struct {
	Check  string
	Status string
	Found  string
	Advice []string // why, and what to do; in paragraphs
}

// The results of a check.
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

// fails returns the finding for a call without an answer to its question.
func (a *Application) fails(check string, err error) Finding {
	f := Explain(err)
	if !a.Flags {
		f.Fix = strings.Replace(f.Fix, longer, "", 1)
	}
	return a.finding(check, Problem, f.What, f.Fix)
}

// Start checks whether DSS answers and accepts the application's credentials. It checks
// the right to identify a browser, and an administrator's rights if the application
// needs them. Each check needs the one before it: a problem is the last finding. After
// the end of ctx there are no more findings, since an interrupted call proves nothing.
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

// mayAsk finds out whether we have the right to identify a browser. It asks about
// cookies that nobody has.
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
		return a.finding(check, Problem, "DSS identified made-up cookies as "+Who(info),
			"It answers with another user than the browser's, so every visitor would be that user: do not use this deployment. "+
				"Look for a proxy between this application and DSS that adds cookies or an Authorization header.")
	case IsRefusal(err):
		return a.finding(check, Problem, "DSS does not give it to "+Who(a.Own),
			"Use the API key, or the run-as user, of a person who has it, such as an administrator. With a key, give it the right in DSS "+
				"(a user's key has the rights of the user's groups, under Administration > Security > Groups), or use another one; "+
				"inside DSS, change the webapp's run-as user.")
	case isUnknown(err):
		return a.finding(check, Problem, "this DSS has no such endpoint", "It is too old to identify a browser: upgrade it.")
	}
	return a.fails(check, err)
}

func (a *Application) asNeeded(ctx context.Context) []Finding {
	if !a.ByProxyUser {
		return nil
	}
	return []Finding{a.Administrator(ctx, "", true)}
}

// Administrator finds out whether the application has an administrator's rights. It
// needs them to act as its visitors by proxy user. Without a visitor, the check tries
// to act as login or, without one, as some user of DSS. A refusal is a problem only if
// the application needs these rights.
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
		return a.finding(check, Skipped, "we found no user to act as in a test"+hint)
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
		return a.finding(check, Problem, "DSS does not know the user "+strconv.Quote(login), "Correct -user.")
	}
	return a.fails(check, err)
}

// Lacks returns a finding about something that DSS does not allow.
func Lacks(f Finding, needed bool) Finding {
	if !needed {
		f.Status = OK
		f.Found += ": this matters only if Config.Impersonation needs it"
	}
	return f
}

// ActAs asks DSS for the user of the application's calls when it acts as login.
func (a *Application) ActAs(ctx context.Context, login string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	user, err := a.client().As(login)
	if err != nil {
		return err
	}
	return Is(ctx, user, login)
}

// ErrOther means that DSS acted as another user than it was told to.
var ErrOther = errors.New("another user")

// Is fails with ErrOther if DSS does not treat the client's calls as login's.
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

// client returns a client that records the DSS that answers, and keeps the credentials
// out of all texts.
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

// version describes the DSS that sent a reply.
func version(h http.Header) string {
	dss, api := h.Get("DSS-Version"), h.Get("DSS-API-Version")
	switch {
	case !IsVersion(dss):
		return "without its version"
	case !IsVersion(api):
		return "version " + dss
	}
	return "version " + dss + ", API version " + api
}

// Who returns the name of the user in a reply of DSS. It does not show an API key's id:
// that may be the key itself.
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

// IsAnonymous reports whether DSS said that nobody is signed in. If it accepted our own
// credentials before, a 401 is about the browser.
func IsAnonymous(info dss.AuthInfo, err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.NotAuthenticated() || err == nil && info.IsAnonymous()
}

// IsRefusal reports whether DSS itself, not a proxy, said that we may not do this.
func IsRefusal(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) &&
		(reply.StatusCode == http.StatusForbidden && reply.Type != "" || strings.HasSuffix(reply.Type, ".UnauthorizedException"))
}

// isUnknown reports whether DSS itself, not a proxy, said that this does not exist.
func isUnknown(err error) bool {
	var reply *dss.Error
	return errors.As(err, &reply) && reply.StatusCode == http.StatusNotFound && reply.Type != ""
}
