package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/internal/diagnose"
)

// assumption is a fact about DSS on which this library relies.
type assumption struct {
	name    string
	says    string // a sentence
	source  string // its source
	takes   need
	means   string // the consequence for this library if it does not hold
	setting string // the setting that helps
	try     func(*contract, context.Context) finding
}

// need is a condition for trying an assumption. Each includes those before it.
type need int

const (
	anything   need = iota
	acceptance      // DSS accepts our own credentials
	lookups         // and lets us identify a browser
	aVisitor        // the cookies of a signed-in user
	acting          // and the right to act as that visitor
)

// The sources of assumptions.
const (
	restReference = "DSS's REST API reference"
	authInfoPage  = "DSS's page “Authentication information and impersonation”"
	webappsPage   = "DSS's page “Webapps and security”"
	recordings    = "recordings of the official Python client 14.3.3"
	publicCode    = "public code that runs against DSS"
	ownChoice     = "no source: it is not known"
)

const noSetting = "none: please send a report"

// assumptions are tried in this order; each may use the results of those before it.
var assumptions = []assumption{{
	name: "own-identity", takes: anything,
	says:    "GET /auth/info names the caller, and its answer shows whether the caller is a user or an API key without a user",
	source:  recordings + " (auth_info, auth_info_ticket)",
	means:   "no visitor can be identified, and all of them get a 503",
	setting: "dss.Config.APIKey, or DKU_API_KEY",
	try:     (*contract).ownIdentity,
}, {
	name: "rejected-credentials", takes: acceptance,
	says:    "credentials that DSS does not know get a NotAuthenticatedException",
	source:  recordings + " (error_json)",
	means:   "the library does not notice an ended key or ticket: visitors get a 503, and no log line names the cause",
	setting: noSetting,
	try:     (*contract).rejectedCredentials,
}, {
	name: "ambiguous-refusal", takes: acceptance,
	says:    "a lookup under credentials that DSS does not know gets the same NotAuthenticatedException as a lookup for a browser without a session",
	source:  recordings + " (error_json)",
	means:   "a lookup under a rejected key may read like an answer about the visitor; the application's own question is asked at the same time, so still nobody is signed out",
	setting: noSetting,
	try:     (*contract).ambiguousRefusal,
}, {
	name: "lookup-right", takes: acceptance,
	says:    "our own credentials may be used to identify a browser",
	source:  webappsPage + "; the required right is not known",
	means:   "no visitor can be identified, and all of them get a 503",
	setting: "dss.Config.APIKey, or the webapp's run-as user: take a key or a user with the right, such as an administrator's",
	try:     (*contract).lookupRight,
}, {
	name: "no-session", takes: lookups,
	says:    "if a lookup finds nobody, the answer is a NotAuthenticatedException, or a 200 with an empty authIdentifier",
	source:  publicCode + " (DSS's notebook server reads it so)",
	means:   "visitors who are not signed in get a 503, and no redirect to LoginURL; nobody is admitted",
	setting: "Config.Resolver, with a Resolver that knows this answer",
	try:     (*contract).noSession,
}, {
	name: "api-key-forms", takes: lookups,
	says:    "an API key in a browser's Authorization header identifies the key's owner: as Bearer, as the user name of Basic, or as the password of Basic",
	source:  restReference + " (Basic with a password since 13, Bearer since 13.1)",
	means:   "programs that send their key in another form get a 401",
	setting: "none: have them send one of the other forms",
	try:     (*contract).apiKeyForms,
}, {
	name: "no-ticket", takes: lookups,
	says:    "a call for the ticket of a browser without a session gets a NotAuthenticatedException",
	source:  ownChoice,
	means:   "a visitor who signs out while acting through this library gets a 503 in place of a 401",
	setting: noSetting,
	try:     (*contract).noTicket,
}, {
	name: "unknown-project", takes: acceptance,
	says:    "if a project does not exist, the answer to a project gate's question is an UnauthorizedException or a NotFoundException",
	source:  publicCode + ", seen on DSS 14.6",
	means:   "RequireProject answers 503, or renews the visitor's ticket, in place of 403; nobody is admitted",
	setting: noSetting,
	try:     (*contract).unknownProject,
}, {
	name: "compression", takes: acceptance,
	says:    "a reply is compressed only with gzip, and only on request",
	source:  ownChoice,
	means:   "replies cannot be read, and all visitors get a 503",
	setting: "dss.Config.HTTPClient, with a transport that undoes the compression",
	try:     (*contract).compression,
}, {
	name: "proxy-user-bytes", takes: acceptance,
	says:    "X-DKU-ProxyUser is read as UTF-8",
	source:  ownChoice + " (the official client sends Latin-1)",
	means:   "calls by proxy user for a login outside ASCII fail, since DSS names another user than the visitor",
	setting: "Config.Impersonation: dssauth.ByTicket",
	try:     (*contract).proxyUserBytes,
}, {
	name: "live-session", takes: lookups,
	says:    "a lookup for a live session names a user",
	source:  recordings + " (browser_headers)",
	means:   "a signed-in visitor is anonymous: 401",
	setting: "in DSS, “Hide access tokens” off; if sessions are bound to an address, Config.Headers with the header that carries it; or use the cookies of a live session",
	try:     (*contract).liveSession,
}, {
	name: "cookie-alone", takes: aVisitor,
	says:    "a lookup needs only the header Cookie of the browser",
	source:  publicCode + " (the Python runtime sends only Cookie)",
	means:   "every visitor is anonymous: 401",
	setting: "Config.Headers, with the other headers that were needed, beside Cookie and Authorization",
	try:     (*contract).cookieAlone,
}, {
	name: "login-member", takes: aVisitor,
	says:    "associatedDSSUser, a string, is the visitor's login, and authIdentifier is the same",
	source:  recordings + " (browser_headers)",
	means:   "the login is taken from the member that the reply has; users without a login get a 403",
	setting: noSetting,
	try:     (*contract).loginMember,
}, {
	name: "unknown-session", takes: aVisitor,
	says:    "the same cookies with other values identify nobody",
	source:  webappsPage,
	means:   "DSS, or a proxy before it, does not identify visitors by their cookies: do not use this deployment",
	setting: "none: find the proxy that adds credentials to our calls",
	try:     (*contract).unknownSession,
}, {
	name: "client-address", takes: aVisitor,
	says:    "a client's address among the headers does not change the answer",
	source:  ownChoice + " (security.ipBoundSessions)",
	means:   "sessions are bound to addresses, and visitors are anonymous if their address changes on the way: 401",
	setting: "Config.Headers, with the header in which your proxy puts the address; never name a header that a browser can set",
	try:     (*contract).clientAddress,
}, {
	name: "x-dku-headers", takes: aVisitor,
	says:    "X-DKU headers of a browser do not reach DSS through this library, even if DSS would believe them",
	source:  ownChoice,
	means:   "a browser can choose its user: do not use this deployment",
	setting: noSetting,
	try:     (*contract).dkuHeaders,
}, {
	name: "ticket", takes: aVisitor,
	says:    "a ticket for the visitor's browser acts as the visitor",
	source:  recordings + " (ticket_from_browser_headers, auth_info_ticket); " + authInfoPage,
	means:   "calls by ticket are not made, since DSS does not name the visitor for it",
	setting: "Config.Impersonation: dssauth.ByProxyUser, or none",
	try:     (*contract).ticketActs,
}, {
	name: "proxy-user", takes: aVisitor,
	says:    "X-DKU-ProxyUser acts as exactly that user, or is refused with an UnauthorizedException",
	source:  recordings + " (client_as_key)",
	means:   "calls by proxy user are not made, since DSS does not name the visitor for them",
	setting: "Config.Impersonation: dssauth.ByTicket; or let X-DKU headers pass the proxy before DSS",
	try:     (*contract).proxyUserActs,
}, {
	name: "user-details", takes: aVisitor,
	says:    "GET /users/{login} gives any caller a user's login, name and e-mail",
	source:  recordings + " (user_info); clients from 14.0",
	means:   "Config.UserDetails finds no name and no e-mail in this way; visitors are served without them",
	setting: "Config.Impersonation, so that DSS is asked for them as the visitor; or leave Config.UserDetails off",
	try:     (*contract).userDetails,
}, {
	name: "login-case", takes: aVisitor,
	says:    "a login in another case is another user's, or nobody's",
	source:  ownChoice,
	means:   "DSS accepts two spellings of one user's login, and this library compares exactly: your own lists of logins, and ForgetUser, must have DSS's spelling",
	setting: "none: use Identity.Login unchanged, since it always has DSS's spelling",
	try:     (*contract).loginCase,
}, {
	name: "own-settings", takes: acting,
	says:    "GET /current-user, called as the visitor, gives the visitor's login, name and e-mail",
	source:  recordings + " (own_settings_get)",
	means:   "Config.UserDetails finds no name and no e-mail in this way; visitors are served without them",
	setting: "leave Config.UserDetails off",
	try:     (*contract).ownSettings,
}, {
	name: "readable-project", takes: acting,
	says:    "if the visitor may read a project, the answer to a project gate's question is 2xx and JSON",
	source:  restReference + " (jobs of a project: READ_CONF); recording project_jobs_as_visitor_by_ticket",
	means:   "RequireProject refuses visitors who may read the project",
	setting: "a gate of your own with Require",
	try:     (*contract).readableProject,
}, {
	name: "findable-project", takes: acting,
	says:    "if the visitor may find a project but not read it, the answer to a project gate's question is an UnauthorizedException or a NotFoundException",
	source:  restReference + " (jobs of a project: READ_CONF); recording project_jobs_as_user_forbidden",
	means:   "RequireProject admits visitors who may only find the project",
	setting: "RequireGroup, or a gate of your own with Require, in place of RequireProject",
	try:     (*contract).findableProject,
}, {
	name: "ended-session", takes: lookups,
	says:    "a lookup for a session that has ended finds nobody",
	source:  webappsPage,
	means:   "a visitor who signed out of DSS stays signed in here",
	setting: "none: end the session at the same time as DSS, and call Forget in your sign-out handler",
	try:     (*contract).endedSession,
}, {
	name: "redirects", takes: anything,
	says:    "no call is redirected",
	source:  recordings,
	means:   "the library does not follow redirects, since credentials would go to another place: the call failed",
	setting: "dss.Config.URL, or DKU_DSS_URL: the real address of DSS",
	try:     (*contract).redirects,
}, {
	name: "protocol", takes: anything,
	says:    "DSS speaks HTTP/1.1",
	source:  recordings,
	means:   "each call takes a new connection, or fails",
	setting: "dss.Config.HTTPClient, with a transport for DSS's protocol",
	try:     (*contract).protocol,
}, {
	name: "dss-version", takes: anything,
	says:    "every reply of DSS has the headers DSS-Version and DSS-API-Version, and DSS is 13.1 or later",
	source:  restReference,
	means:   "nothing depends on the headers, but this DSS may be older than the versions that this library supports",
	setting: "none: have the proxy before DSS let the headers pass, or upgrade DSS",
	try:     (*contract).dssVersion,
}}

// typed returns the error that DSS itself, not a proxy, sent.
func typed(err error) (*dss.Error, bool) {
	var reply *dss.Error
	return reply, errors.As(err, &reply) && reply.Type != ""
}

func isNotAuthenticated(err error) bool {
	reply, ok := typed(err)
	return ok && reply.NotAuthenticated()
}

// isNoProject reports whether DSS said that a project is hidden or missing.
func isNoProject(err error) bool {
	reply, ok := typed(err)
	return ok && (strings.HasSuffix(reply.Type, ".UnauthorizedException") || strings.HasSuffix(reply.Type, ".NotFoundException"))
}

func (c *contract) ownIdentity(ctx context.Context) finding {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	info, err := c.asOwn.AuthInfo(ctx)
	l := look{true, info, err}
	if err != nil || info.IsAnonymous() {
		return other("%s", l.said())
	}
	c.own, c.accepted = info, true
	isKey := strings.Contains(info.AuthSource, "API_KEY")
	return heldIf(info.Login() != "" || isKey, l.said())
}

func (c *contract) rejectedCredentials(ctx context.Context) finding {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	info, err := c.asStranger.AuthInfo(ctx)
	return heldIf(isNotAuthenticated(err), look{true, info, err}.said())
}

func (c *contract) ambiguousRefusal(ctx context.Context) finding {
	l := c.look(ctx, c.asStranger, nobodysCookies())
	return heldIf(isNotAuthenticated(l.err), l.said())
}

func (c *contract) lookupRight(ctx context.Context) finding {
	l := c.lookNobody(ctx)
	if diagnose.IsRefusal(l.err) && !c.lookVisitor(ctx).isUser() {
		return other("%s", l.said())
	}
	if diagnose.IsRefusal(l.err) {
		l = c.visiting // refused only for cookies that nobody has
	}
	if l.err != nil && !l.isAnonymous() {
		return untried("there was no answer: %s", l.said())
	}
	return held("%s", l.said())
}

func (c *contract) noSession(ctx context.Context) finding {
	l := c.lookNobody(ctx)
	return heldIf(l.isAnonymous(), l.said())
}

// apiKeyForms sends our own key as a browser's, to DSS and to no other server.
func (c *contract) apiKeyForms(ctx context.Context) finding {
	key := c.env("DKU_API_KEY")
	if key == "" || c.inside() || !strings.Contains(settingsOf(c.client), "from DKU_DSS_URL") {
		return untried("this needs an API key in DKU_API_KEY, with DKU_DSS_URL")
	}
	basic := func(userAndPassword string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(userAndPassword))
	}
	var differing []string
	for _, form := range []struct{ name, value string }{
		{"as Bearer", "Bearer " + key},
		{"as the user name of Basic", basic(key + ":")},
		{"as the password of Basic", basic(":" + key)},
	} {
		l := c.look(ctx, c.asOwn, http.Header{"Authorization": {form.value}})
		if l.err != nil || l.info.AuthIdentifier != c.own.AuthIdentifier {
			differing = append(differing, form.name+": "+l.said())
		}
	}
	if differing != nil {
		return other("%s", strings.Join(differing, "; "))
	}
	return held("all three")
}

func (c *contract) noTicket(ctx context.Context) finding {
	if diagnose.IsRefusal(c.lookNobody(ctx).err) {
		return untried("DSS already refuses lookups of unknown cookies in another way: see no-session")
	}
	asked, cancel := c.asking(ctx)
	defer cancel()
	_, err := c.asOwn.TicketFromBrowserHeaders(asked, nobodysCookies())
	switch {
	case err == nil:
		return other("a ticket")
	case diagnose.IsRefusal(err) && !isNotAuthenticated(err):
		return untried("DSS refuses us all tickets: %s", said(err))
	}
	return heldIf(isNotAuthenticated(err), said(err))
}

// projectQuestion is the question of a project gate to DSS, as the visitor.
func projectQuestion(key string) string { return "/projects/" + key + "/jobs/?limit=1" }

func (c *contract) unknownProject(ctx context.Context) finding {
	var reply json.RawMessage
	err := c.do(ctx, c.asOwn, http.MethodGet, projectQuestion("DSSAUTH_"+rand.Text()), nil, &reply)
	if err == nil {
		return other("2xx")
	}
	return heldIf(isNoProject(err), said(err))
}

func (c *contract) compression(ctx context.Context) finding {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.client.URL()+apiPath+"/auth/info?withSecrets=False", nil)
	if err != nil {
		return untried("%s", explain(err).what)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	r := &recorder{journal: &c.journal, through: c.client.Transport(), as: "own credentials"}
	reply, err := r.RoundTrip(req)
	if err != nil {
		return other("%s", explain(err).what)
	}
	defer reply.Body.Close()
	if encoding := reply.Header.Get("Content-Encoding"); encoding != "" {
		return other("another encoding than gzip")
	}
	body, err := io.ReadAll(reply.Body)
	if err != nil || !json.Valid(body) {
		return other("a reply that is not JSON")
	}
	return held("a readable reply")
}

func (c *contract) proxyUserBytes(ctx context.Context) finding {
	const login = "dssauth-é"
	user, err := c.client.As(login)
	if err != nil {
		return untried("%s", err)
	}
	as, err := c.journal.recording(user, "proxy user")
	if err != nil {
		return untried("%s", err)
	}
	ctx, cancel := c.asking(ctx)
	defer cancel()
	_, err = as.AuthInfo(ctx)
	reply, ok := typed(err)
	switch {
	case !ok:
		return untried("DSS answered about a user that does not exist: %s", look{true, dss.AuthInfo{}, err}.said())
	case diagnose.IsRefusal(err):
		return untried("this needs an administrator's rights")
	case strings.Contains(reply.Message(), login):
		return held("the login unchanged")
	case strings.Contains(reply.Message(), "dssauth-Ã©"):
		return other("the login's UTF-8 read as Latin-1")
	}
	return untried("DSS does not show how it read the login: %s", said(err))
}

func (c *contract) liveSession(ctx context.Context) finding {
	if c.noCookies != "" {
		return untried("%s", c.noCookies)
	}
	l := c.lookVisitor(ctx)
	return heldIf(l.isUser(), l.said())
}

func (c *contract) cookieAlone(context.Context) finding {
	if len(c.extra) == 0 {
		return held("a user, by Cookie alone")
	}
	return other("nobody by Cookie alone, and a user with %s beside it", list(slices.Sorted(maps.Keys(c.extra))))
}

func (c *contract) loginMember(context.Context) finding {
	info := c.visiting.info
	switch {
	case info.AssociatedDSSUser == "":
		return other("no associatedDSSUser")
	case info.AssociatedDSSUser != info.AuthIdentifier:
		return other("another authIdentifier")
	case info.Groups == nil:
		return other("no groups")
	}
	return held("both, and groups")
}

func (c *contract) unknownSession(ctx context.Context) finding {
	var pairs []string
	for _, pair := range c.sent.pairs() {
		name, _, _ := strings.Cut(pair, "=")
		pairs = append(pairs, name+"="+rand.Text())
	}
	h := c.browserHeaders()
	h.Set("Cookie", strings.Join(pairs, "; "))
	l := c.look(ctx, c.asOwn, h)
	if !l.isAnonymous() && !c.nobody.isAnonymous() && l.said() == c.nobody.said() {
		return held("the same as for no-session")
	}
	return heldIf(l.isAnonymous(), l.said())
}

func (c *contract) clientAddress(ctx context.Context) finding {
	h := c.browserHeaders()
	h.Set("X-Forwarded-For", "192.0.2.1") // one for documentation
	l := c.look(ctx, c.asOwn, h)
	return heldIf(l.isUser() && l.info.Login() == c.visiting.info.Login(), l.said())
}

// dkuHeaders checks whether DSS believes them, which is allowed, and whether this
// library sends them, which is not.
func (c *contract) dkuHeaders(ctx context.Context) finding {
	claims := map[string]string{"X-DKU-ProxyUser": c.visiting.info.Login()}
	if c.getTicket(ctx); c.ticket != "" {
		claims["X-DKU-APITicket"] = c.ticket
	}
	var seen []string
	through := nobodysCookies()
	for _, name := range []string{"X-DKU-ProxyUser", "X-DKU-APITicket"} {
		if claims[name] == "" {
			continue
		}
		through.Set(name, claims[name])
		headers := map[string]string{"Cookie": nobodysCookies().Get("Cookie"), name: claims[name]}
		var reply struct {
			AuthIdentifier string `json:"authIdentifier"`
		}
		err := c.do(ctx, c.asOwn, http.MethodPost, "/auth/info-from-browser-headers?withSecrets=False", headers, &reply)
		verb := "ignores "
		if err == nil && reply.AuthIdentifier != "" {
			verb = "believes "
		}
		seen = append(seen, verb+name)
	}
	if l := c.look(ctx, c.asOwn, through); l.isUser() {
		return other("they reach DSS, and DSS identifies the browser by them")
	}
	return held("DSS %s; none is sent", strings.Join(seen, " and "))
}

// getTicket asks for a ticket for the visitor. It ends by itself.
func (c *contract) getTicket(ctx context.Context) {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	if c.ticket, c.ticketErr = c.asOwn.TicketFromBrowserHeaders(ctx, c.browserHeaders()); c.ticketErr == nil {
		c.report.Hide(c.ticket)
	}
}

func (c *contract) ticketActs(ctx context.Context) finding {
	switch {
	case diagnose.IsRefusal(c.ticketErr):
		return untried("DSS refuses us a ticket for this visitor: see the doctor")
	case c.ticketErr != nil:
		return other("%s", said(c.ticketErr))
	}
	visitor, err := c.client.WithTicket(c.ticket)
	if err != nil {
		return other("a ticket that cannot be sent")
	}
	return c.actsAsVisitor(ctx, visitor, "a visitor's ticket")
}

func (c *contract) proxyUserActs(ctx context.Context) finding {
	visitor, err := c.client.As(c.visiting.info.Login())
	if err != nil {
		return untried("%s", err)
	}
	return c.actsAsVisitor(ctx, visitor, "proxy user")
}

// actsAsVisitor finds out as which user a client acts.
func (c *contract) actsAsVisitor(ctx context.Context, client *dss.Client, as string) finding {
	recording, err := c.journal.recording(client, as)
	if err != nil {
		return untried("%s", err)
	}
	ctx, cancel := c.asking(ctx)
	defer cancel()
	switch err := diagnose.Is(ctx, recording, c.visiting.info.Login()); {
	case errors.Is(err, diagnose.ErrOther):
		return other("somebody else")
	case as == "proxy user" && diagnose.IsRefusal(err):
		return held("%s", said(err))
	case err != nil:
		return other("%s", said(err))
	}
	if c.asVisitor == nil {
		c.asVisitor = recording
	}
	return held("the visitor")
}

func (c *contract) userDetails(ctx context.Context) finding {
	ctx, cancel := c.asking(ctx)
	defer cancel()
	user, err := c.asOwn.User(ctx, c.visiting.info.Login())
	switch {
	case err != nil:
		return other("%s", said(err))
	case user.Login != c.visiting.info.Login():
		return other("the login in another spelling")
	}
	return held("them")
}

func (c *contract) loginCase(ctx context.Context) finding {
	login := c.visiting.info.Login()
	swapped := strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, login)
	if swapped == login {
		return untried("the visitor's login has no letters")
	}
	var user struct {
		Login string `json:"login"`
	}
	err := c.do(ctx, c.asOwn, http.MethodGet, "/users/"+url.PathEscape(swapped), nil, &user)
	reply, ok := typed(err)
	switch {
	case err == nil && user.Login == swapped:
		return held("another user of that login")
	case err == nil:
		return other("the same user")
	case ok && reply.StatusCode == http.StatusNotFound:
		return held("%s", said(err))
	}
	return untried("DSS does not name that user: %s", said(err))
}

func (c *contract) ownSettings(ctx context.Context) finding {
	var settings struct {
		Login       string  `json:"login"`
		DisplayName *string `json:"displayName"`
		Email       *string `json:"email"`
	}
	err := c.do(ctx, c.asVisitor, http.MethodGet, "/current-user", nil, &settings)
	switch {
	case err != nil:
		return other("%s", said(err))
	case settings.Login != c.visiting.info.Login():
		return other("no login, or another one")
	case settings.DisplayName == nil || settings.Email == nil:
		return other("no displayName or no email")
	}
	return held("them")
}

// projects returns the keys of the projects that DSS lists for a caller.
func (c *contract) projects(ctx context.Context, as *dss.Client) (keys []string, err error) {
	var list []struct {
		Key string `json:"projectKey"`
	}
	err = c.do(ctx, as, http.MethodGet, "/projects/", nil, &list)
	for _, project := range list {
		if isProjectKey(project.Key) {
			keys = append(keys, project.Key)
		}
	}
	return keys, err
}

func isProjectKey(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return r != '_' && (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r)
	})
}

func (c *contract) readableProject(ctx context.Context) finding {
	keys, err := c.projects(ctx, c.asVisitor)
	switch {
	case err != nil:
		return untried("DSS does not list the visitor's projects: %s", said(err))
	case len(keys) == 0:
		return untried("this needs a visitor who may read a project")
	}
	var reply json.RawMessage
	if err = c.do(ctx, c.asVisitor, http.MethodGet, projectQuestion(keys[0]), nil, &reply); err != nil {
		return other("%s", said(err))
	}
	return held("2xx")
}

// maxCandidates bounds the projects in questions.
const maxCandidates = 3

func (c *contract) findableProject(ctx context.Context) finding {
	candidates := []string{c.project}
	if c.project == "" {
		all, err := c.projects(ctx, c.asOwn)
		if err != nil {
			return untried("DSS does not list projects: %s", said(err))
		}
		readable, err := c.projects(ctx, c.asVisitor)
		if err != nil {
			return untried("DSS does not list the visitor's projects: %s", said(err))
		}
		candidates = without(all, readable)
	}
	for _, key := range candidates[:min(len(candidates), maxCandidates)] {
		var summary, reply json.RawMessage
		shown := c.do(ctx, c.asVisitor, http.MethodGet, "/projects/"+key, nil, &summary)
		err := c.do(ctx, c.asVisitor, http.MethodGet, projectQuestion(key), nil, &reply)
		switch {
		case err == nil:
			return other("2xx")
		case !isNoProject(err):
			return other("%s", said(err))
		case shown == nil, c.project != "":
			return held("%s", said(err))
		}
	}
	return untried("this needs a project that the visitor may find but not read: name one with -project")
}

func (c *contract) endedSession(ctx context.Context) finding {
	if c.ended == nil {
		return untried("this needs the cookies of a session that has ended: see -ended-cookie-file")
	}
	pasted, why := c.paste(ctx, c.ended)
	if why != "" {
		return untried("-ended-cookie-file: %s", why)
	}
	h := c.extra.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Cookie", pasted.header())
	l := c.look(ctx, c.asOwn, h)
	return heldIf(l.isAnonymous(), l.said())
}

func (c *contract) redirects(context.Context) finding {
	for _, call := range c.journal.calls {
		if call.Status >= 300 && call.Status <= 399 {
			return other("%d to %s %s", call.Status, call.Method, call.Path)
		}
	}
	return held("no redirect in %d calls", len(c.journal.calls))
}

func (c *contract) protocol(context.Context) finding {
	var protocols []string
	for _, call := range c.journal.calls {
		if call.Protocol != "" && !slices.Contains(protocols, call.Protocol) {
			protocols = append(protocols, call.Protocol)
		}
	}
	if protocols == nil {
		return untried("there was no reply")
	}
	return heldIf(slices.Equal(protocols, []string{"HTTP/1.1"}), strings.Join(protocols, " and "))
}

func (c *contract) dssVersion(context.Context) finding {
	var versions []string
	for _, call := range c.journal.calls {
		if call.Status == 0 {
			continue
		}
		if !diagnose.IsVersion(call.DSS) || !diagnose.IsVersion(call.API) {
			return other("a reply, of %s %s, without them", call.Method, call.Path)
		}
		if v := "DSS " + call.DSS + ", API " + call.API; !slices.Contains(versions, v) {
			versions = append(versions, v)
		}
		if isOlder(call.DSS) {
			return other("DSS %s", call.DSS)
		}
	}
	if versions == nil {
		return untried("there was no reply")
	}
	return held("%s", strings.Join(versions, "; "))
}

// isOlder reports whether a DSS is older than 13.1, the first one that accepts an API
// key in each of its forms.
func isOlder(version string) bool {
	parts := strings.FieldsFunc(version, func(r rune) bool { return r == '.' || r == '-' })
	parts = append(parts, "0")
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major < 13 || major == 13 && minor < 1
}
