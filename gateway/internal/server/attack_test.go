package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These are the results that an attack may be meant to have. In each case the upstream
// may see at most one request for each that was sent. judge checks that this request
// has a path that the sender may ask for, comes as from the sender or from nobody, and
// has no credential of DSS.
const (
	refused   = iota // nothing of it reaches the upstream through any door
	cleaned          // it reaches the upstream through the proxy door, once
	rewritten        // refused, except if Caddy encodes the path again before it asks
	either           // servers may differ about whether it is a request
)

// attack is what one connection sends. {eve} in it stands for the DSS cookie of eve,
// who has no groups. Without it the sender is anonymous.
type attack struct {
	name string
	want int
	raw  string
	// hangs is true if the server waits for more. It must serve others
	// meanwhile.
	hangs bool
}

func (a attack) sender() string {
	if strings.Contains(a.raw, "{eve}") {
		return "eve"
	}
	return ""
}

func request(line string, headers ...string) string {
	return line + "\r\nHost: " + frontHost + "\r\n" + strings.Join(append(headers, "", ""), "\r\n")
}

// spoofs are headers that a visitor adds. Each is sent by eve for a page, and by an
// anonymous visitor for an open page. The proxy door cleans all of them.
var spoofs = []string{
	"Remote-User: ann",
	"remote-user: ann",
	"REMOTE-USER: ann",
	"Remote_User: ann",
	"REMOTE_USER: ann",
	"remote_User: ann",
	"Remote.User: ann",
	"Remote~User: ann",
	"Remote!User: ann",
	"Remote-User: ann\r\nRemote-User: ann",
	"Remote-User: \r\nRemote_User: ann",
	"Remote-User:ann",
	"Remote-User:\tann",
	"X-Other: x\r\n Remote-User: ann",
	"Remote-User:\r\n ann",
	"Remote-Groups: administrators",
	"Remote_Groups: administrators",
	"REMOTE-NAME: ann",
	"Remote-Email: ann@example.com",
	"X-Dssauth-Assertion: {forged}",
	"X_Dssauth_Assertion: {forged}",
	"x-dssauth_assertion: {forged}",
	"X-Dssauth-Cookie: session=ann",
	"X-Dssauth-Later: ann",
	"X-DKU-APITicket: ann",
	"x_dku_apiticket: ann",
	"X-DKU-ProxyUser: ann",
	"X.DKU.ProxyUser: ann",
	"X-DKU-Later: ann",
	"X-Original-URL: /admin/ann",
	"X-Rewrite-URL: /admin/ann",
	"X_Rewrite_Url: /admin/ann",
	"X-Original-URI: /admin/ann",
	"X-Original-Method: DELETE",
	"X-Forwarded-Uri: /open/",
	"X-Forwarded-Uri: /open/\r\nX-Forwarded-Uri: /open/",
	"X-Forwarded-Uri: /open/\r\nX-Original-URI: /open/",
	"X_Forwarded_Uri: /open/",
	"X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /open/",
	"X-HTTP-Method-Override: DELETE",
	"X-HTTP-Method: DELETE",
	"X_Method_Override: DELETE",
	"SCRIPT_NAME: /open",
	"Script-Name: /open",
	"X-Script-Name: /open",
	"PATH_INFO: /admin/ann",
	"Connection: Remote-User, X-Dssauth-Assertion, Remote-Groups",
	"Connection: close, X-Dssauth-Assertion\r\nX-Dssauth-Assertion: {forged}",
	"Connection: X-Forwarded-Uri, X-Original-URI, X-Original-Method, X-Forwarded-Method",
	"Connection: Remote-User\r\nRemote-User: ann",
	"Connection: Remote_User\r\nRemote_User: ann",
	"Connection: Authorization, Proxy-Authorization\r\nProxy-Authorization: Basic YW5u",
	"Proxy-Authorization: Basic YW5uOmFubg==",
	"Cookie: theme=dark",
	"Cookie2: $Version=1; {dss}",
	"Cookie2: {dss}",
	"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
	"Upgrade: h2c",
	"Upgrade: websocket, h2c\r\nConnection: Upgrade",
	"Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade",
	"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade",
	"Upgrade: TLS/1.0\r\nConnection: Upgrade",
	"Upgrade: websocket\r\nConnection: Upgrade",
	"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	"Upgrade: websocket\r\nConnection: Upgrade, Remote-User, Cookie\r\nRemote-User: ann",
	"TE: trailers, chunked",
	"Keep-Alive: timeout=60\r\nConnection: Keep-Alive",
}

// paths are paths that a rule does not open to the sender, or that servers read
// in two ways. All are refused.
var paths = []string{
	"/admin/x", "/admin", "/closed/", "/churn/x",
	"/ADMIN/x", "/Admin", "/aDmin/",
	"/open%2F..%2Fadmin", "/open/..%2fadmin/x", "/admin%2Fx", "/open%2F..%2Fadmin|", "/admin%2Fx|",
	"/open/../admin/x", "/open/./../admin", "/./admin", "/open/%2e%2e/admin", "/open/.%2E/admin", "/open/..;/admin",
	"/open/...;/../admin", "/open\\..\\admin", "/open/..\\admin", "/open/%5c..%5cadmin", "/open/..%5Cadmin",
	"/open/%252e%252e/admin", "/open/..%252fadmin", "/admin%252Fx", "/open;/../admin", "/open/;x=1/admin", "/admin;x", "/admin;/x",
	"//admin/x", "/open//admin", "/open//../admin", "///admin", "/admin//x",
	"/open/\x00/../admin", "/admin\x00", "/open/%00", "/admin%00.html", "/admin%0d%0aRemote-User:%20ann", "/open/%0a",
	"/open/%c0%ae%c0%ae/admin", "/open%c0%afadmin", "/open/%e0%80%af..", "/open/%ff", "/open/\xff", "/open/%ef%bc%8fadmin",
	"/%61dmin/x", "/adm%69n", "/%", "/%zz", "/open/%u002e%u002e/admin",
	"/open/#/../admin", "/admin#/open/", "/admin%23", "/admin%3fx", "/admin/?/open/", "/admin?x=/open/",
	"/admin.", "/admin../x", "/admin%20/x", "/admin%20", "/admin./x", "/open/..%20/admin", "/open/.. /admin",
	"/admin::$INDEX_ALLOCATION", "/adm%C4%B1n", "/ad%E2%80%8Bmin/x", "/%ef%bd%81dmin/",
	"/dssauth/check", "/dssauth/refusal", "/dssauth/x", "/DSSAUTH/check", "/dssauth", "/open/../dssauth/check", "/dssauth/%63heck", "//dssauth/check",
	"http://example.com/admin/x", "http://example.com/open/../admin", "http:/admin", "example.com", "admin/x", "*", "?/open/", "",
	"http://example.com@/open/../admin", "/admin/x?_method=GET&path=/open/",
}

// others are whole requests.
var others = []attack{
	// Cookies: DSS's cookie must not pass, and eve stays eve.
	{"the cookie twice", cleaned, request("GET /page HTTP/1.1", "Cookie: {eve}; {eve}"), false},
	{"in the middle", cleaned, request("GET /page HTTP/1.1", "Cookie: a=b; {eve}; c=d"), false},
	{"with spaces", either, request("GET /page HTTP/1.1", "Cookie:   a=b ;   {eve}  ;c=d  "), false},
	{"without spaces", cleaned, request("GET /page HTTP/1.1", "Cookie: a=b;{eve};c=d"), false},
	{"spaces about =", either, request("GET /open/ HTTP/1.1", "Cookie: {spaced}"), false},
	{"nameless", either, request("GET /open/ HTTP/1.1", "Cookie: ={eve}; =; ;;"), false},
	{"quoted", either, request("GET /open/ HTTP/1.1", "Cookie: a=\"x; {eve}\"; b=\""), false},
	{"with a comma", either, request("GET /open/ HTTP/1.1", "Cookie: a=b, {eve}"), false},
	{"with a tab", either, request("GET /open/ HTTP/1.1", "Cookie: a=b;\t{eve}"), false},
	{"two lines", cleaned, request("GET /page HTTP/1.1", "Cookie: a=b", "Cookie: {eve}"), false},
	{"two lines, the same", cleaned, request("GET /page HTTP/1.1", "Cookie: {eve}", "cookie: {eve}"), false},
	{"of an odd case", cleaned, request("GET /page HTTP/1.1", "cOOkie: {eve}"), false},
	{"listed in Connection", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "Connection: Cookie"), false},
	{"over two lines, folded", either, request("GET /open/ HTTP/1.1", "Cookie: a=b;", " {eve}"), false},
	{"forged", refused, request("GET /page HTTP/1.1", "Cookie: {forgedCookie}"), false},
	{"a placeholder", cleaned, request("GET /page HTTP/1.1", "Cookie: {eve}; a={env.HOME}{http.request.header.Remote-User}"), false},

	// Authorization.
	{"a wrong key", refused, request("GET /page HTTP/1.1", "Authorization: Bearer ann"), false},
	{"in upper case", refused, request("GET /page HTTP/1.1", "AUTHORIZATION: BASIC YW5uOg=="), false},
	{"beside the cookie", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "aUTHORIZATION: Bearer ann"), false},
	{"twice", refused, request("GET /page HTTP/1.1", "Authorization: Bearer a", "authorization: Bearer b"), false},
	{"on an open page", either, request("GET /open/ HTTP/1.1", "authorization: Negotiate ann"), false},
	{"dashed", either, request("GET /open/ HTTP/1.1", "HTTP-Authorization: x", "Cookie: {eve}"), false},

	// Lines that are not valid headers.
	{"space before the colon", refused, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote-User : ann"), false},
	{"tab before the colon", refused, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote-User\t: ann"), false},
	{"space before the name", either, request("GET /open/ HTTP/1.1", " Remote-User: ann"), false},
	{"folded first line", either, "GET /open/ HTTP/1.1\r\n Remote-User: ann\r\nHost: example.com\r\n\r\n", false},
	{"no name", either, request("GET /page HTTP/1.1", "Cookie: {eve}", ": ann"), false},
	{"no colon", refused, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote-User ann"), false},
	{"a NUL in the name", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote-User\x00: ann"), false},
	{"a NUL in a value", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Other: a\x00Remote-User: ann"), false},
	{"a bare CR", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Other: a\rRemote-User: ann"), false},
	{"a bare LF", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Other: a\nRemote-User: ann"), false},
	{"CR CR LF", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Other: a\r\r\nRemote-User: ann"), false},
	{"vertical tab", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote-User\v: ann", "\vRemote-User: ann"), false},
	{"not ASCII", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "Remote\xadUser: ann"), false},
	{"a header of 200 KiB", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Other: "+strings.Repeat("a", 200<<10)), false},
	{"2000 headers", either, request("GET /page HTTP/1.1", "Cookie: {eve}", strings.Repeat("X-Other: "+strings.Repeat("a", 90)+"\r\n", 2000)+"Remote-User: ann"), false},
	{"a cookie of 100 KiB", either, request("GET /page HTTP/1.1", "Cookie: {eve}; a="+strings.Repeat("a", 100<<10)), false},
	{"a path of 100 KiB", either, request("GET /open/" + strings.Repeat("a/", 50<<10) + "../../admin HTTP/1.1"), false},

	// Hosts.
	{"two hosts", either, request("GET /open/ HTTP/1.1", "Host: other.example"), false},
	{"no host", either, "GET /open/ HTTP/1.1\r\n\r\n", false},
	{"a host with a path", either, "GET /open/ HTTP/1.1\r\nHost: example.com/admin/\r\n\r\n", false},
	{"a host with a user", either, "GET /open/ HTTP/1.1\r\nHost: ann@example.com\r\n\r\n", false},
	{"a host with a space", either, "GET /open/ HTTP/1.1\r\nHost: example.com Remote-User: ann\r\n\r\n", false},
	{"another host in the target", either, request("GET http://other.example/open/ HTTP/1.1"), false},
	{"forwarded host", either, request("GET /page HTTP/1.1", "Cookie: {eve}", "X-Forwarded-Host: other.example", "Forwarded: host=other.example"), false},

	// Bodies: what one server takes for a body, another may take for a request.
	{"CL and TE", either, request("POST /open/ HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked") + "0\r\n\r\n" + request("GET /admin/x HTTP/1.1", "Remote-User: ann"), false},
	{"TE and CL", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 60") + "0\r\n\r\n" + request("GET /admin/x HTTP/1.1", "Remote-User: ann"), false},
	{"two CL", refused, request("POST /open/ HTTP/1.1", "Content-Length: 0", "Content-Length: 40") + request("GET /admin/x HTTP/1.1", "Remote-User: ann"), false},
	{"CL list", refused, request("POST /open/ HTTP/1.1", "Content-Length: 0, 40") + request("GET /admin/x HTTP/1.1", "Remote-User: ann"), false},
	{"CL with a sign", refused, request("POST /open/ HTTP/1.1", "Content-Length: +5") + "12345", false},
	{"CL in hex", refused, request("POST /open/ HTTP/1.1", "Content-Length: 0x5") + "12345", false},
	{"CL below zero", refused, request("POST /open/ HTTP/1.1", "Content-Length: -1"), false},
	{"CL of 20 digits", refused, request("POST /open/ HTTP/1.1", "Content-Length: 18446744073709551617") + "1", false},
	{"CL_", either, request("POST /open/ HTTP/1.1", "Content_Length: 40", "Content-Length: 0"), false},
	{"TE in odd case", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: cHuNkEd") + "0\r\n\r\n", false},
	{"TE with a tab", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding:\tchunked", "Content-Length: 3") + "0\r\n\r\n", false},
	{"TE space colon", refused, request("POST /open/ HTTP/1.1", "Transfer-Encoding : chunked", "Content-Length: 5") + "0\r\n\r\n", false},
	{"TE xchunked", refused, request("POST /open/ HTTP/1.1", "Transfer-Encoding: xchunked", "Content-Length: 5") + "0\r\n\r\n", false},
	{"TE identity", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: identity", "Content-Length: 5") + "0\r\n\r\n", false},
	{"TE twice", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n", false},
	{"TE list", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", false},
	{"TE with HTTP/1.0", either, request("POST /open/ HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n" + request("GET /admin/x HTTP/1.1"), false},
	{"TE_", either, request("POST /open/ HTTP/1.1", "Transfer_Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", false},
	{"chunk size with a sign", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "+3\r\nabc\r\n0\r\n\r\n", false},
	{"chunk size 0x3", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "0x3\r\nabc\r\n0\r\n\r\n", false},
	{"chunk size of 17 digits", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "10000000000000003\r\nabc\r\n0\r\n\r\n", false},
	{"chunk size none", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "\r\n\r\n0\r\n\r\n", false},
	{"chunk longer than its size", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "1\r\nabc\r\n0\r\n\r\n", false},
	{"chunk ends with LF", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "3\nabc\n0\n\n", false},
	{"chunk extension", cleaned, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "3;Remote-User=ann\r\nabc\r\n0;x=\"Remote-User: ann\"\r\n\r\n", false},
	{"chunk extension with LF", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "3;a\nb\r\nabc\r\n0\r\n\r\n", false},
	{"trailers", cleaned, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: Remote-User, X-Dssauth-Assertion") + "3\r\nabc\r\n0\r\nRemote-User: ann\r\nX-Dssauth-Assertion: {forged}\r\n\r\n", false},
	{"trailers that are not announced", cleaned, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "0\r\nremote_user: ann\r\nCookie: session=ann\r\n\r\n", false},
	{"a body after a refusal", refused, request("POST /admin/x HTTP/1.1", "Content-Length: 72") + pad(request("GET /admin/y HTTP/1.1", "Remote-User: ann"), 72), false},
	{"a chunked body after a refusal", refused, request("POST /admin/x HTTP/1.1", "Cookie: {eve}", "Transfer-Encoding: chunked") + "48\r\n" + pad(request("GET /admin/y HTTP/1.1", "Remote-User: ann"), 72) + "\r\n0\r\n\r\n", false},
	{"a body with GET", either, request("GET /open/ HTTP/1.1", "Content-Length: 72") + pad(request("GET /admin/y HTTP/1.1", "Remote-User: ann"), 72), false},
	{"a refused request, and another", refused, request("GET /admin/x HTTP/1.1") + request("GET /admin/y HTTP/1.1", "Remote-User: ann"), false},
	{"a websocket, and another", either, request("GET /open/ HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==") + request("GET /admin/y HTTP/1.1", "Remote-User: ann"), false},
	{"a websocket with a body", either, request("POST /open/ HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Content-Length: 72") + pad(request("GET /admin/y HTTP/1.1", "Remote-User: ann"), 72), false},
	{"a body and Upgrade h2c", either, request("POST /open/ HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Content-Length: 24") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false},

	// Paths that are not what they look like.
	{"eve: a path that net/http writes anew", rewritten, request("GET /a%2Fb|c HTTP/1.1", "Cookie: {eve}"), false},
	{"nobody: a path that net/http writes anew", refused, request("GET /a%2Fb|c HTTP/1.1"), false},
	{"another path for nginx's question", refused, request("GET /admin/x HTTP/1.1", "Cookie: {eve}", "X-Original-URI: /open/", "X-Original-Method: GET"), false},
	{"another path for Caddy's question", refused, request("GET /admin/x HTTP/1.1", "Cookie: {eve}", "X-Forwarded-Uri: /open/", "X-Forwarded-Method: GET"), false},
	{"another path for nginx's question, with underscores", refused, request("GET /admin/x HTTP/1.1", "X_Original_URI: /open/", "X_Original_Method: GET"), false},
	{"another path, and the right one not passed on", refused, request("GET /admin/x HTTP/1.1", "Connection: X-Original-URI, X-Forwarded-Uri, X-Original-Method, X-Forwarded-Method", "X-Forwarded-Uri: /open/"), false},
	{"another method for the question", refused, request("DELETE /api/x HTTP/1.1", "Cookie: {eve}", "X-Original-Method: GET", "X-Forwarded-Method: GET"), false},
	{"a path in the place of a host", either, request("GET http://admin/ HTTP/1.1", "Cookie: {eve}"), false},

	// Methods and versions.
	{"CONNECT", refused, "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n" + request("GET /admin/y HTTP/1.1", "Remote-User: ann"), false},
	{"CONNECT with a path", refused, request("CONNECT /open/ HTTP/1.1"), false},
	{"TRACE", refused, request("TRACE /open/ HTTP/1.1"), false},
	{"TRACE on a page", refused, request("TRACE /page HTTP/1.1", "Cookie: {eve}"), false},
	{"OPTIONS *", refused, request("OPTIONS * HTTP/1.1", "Remote-User: ann"), false},
	{"a method in lower case", refused, request("delete /api/x HTTP/1.1", "Cookie: {eve}"), false},
	{"another method in lower case", refused, request("get /open/ HTTP/1.1"), false},
	{"a method that a rule has", refused, request("DELETE /api/x HTTP/1.1", "Cookie: {eve}"), false},
	{"a method with a space", refused, request("DELETE  /api/x HTTP/1.1", "Cookie: {eve}"), false},
	{"space before the method", refused, request(" DELETE /api/x HTTP/1.1", "Cookie: {eve}"), false},
	{"a method that hides another", refused, request("GET POST /api/x HTTP/1.1", "Cookie: {eve}"), false},
	{"a target with a space", refused, request("GET /open/ /../admin HTTP/1.1"), false},
	{"an unknown method", either, request("FOO /page HTTP/1.1", "Cookie: {eve}"), false},
	{"HTTP/0.9", refused, "GET /admin/x\r\n", false},
	{"HTTP/1.0", either, "GET /open/ HTTP/1.0\r\nRemote-User: ann\r\n\r\n", false},
	{"HTTP/1.0 past a rule", refused, "GET /admin/x HTTP/1.0\r\nRemote-User: ann\r\n\r\n", false},
	{"HTTP/2.0 in words", either, request("GET /open/ HTTP/2.0", "Remote-User: ann"), false},
	{"HTTP/1.2", either, request("GET /open/ HTTP/1.2", "Remote-User: ann"), false},
	{"HTTP/01.1", either, request("GET /open/ HTTP/01.1"), false},
	{"h2 with prior knowledge, and rubbish", refused, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /admin/x HTTP/1.1\r\n\r\n", false},
	{"lines that end with LF", either, "GET /open/ HTTP/1.1\nHost: example.com\nRemote-User: ann\n\n", false},
	{"empty lines first", either, "\r\n\r\n" + request("GET /open/ HTTP/1.1", "Remote-User: ann"), false},
	{"a TLS hello", refused, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 /admin\r\n\r\n", false},

	// Slow ones.
	{"headers without an end", refused, "GET /admin/x HTTP/1.1\r\nHost: example.com\r\nRemote-User: ann\r\nX-", true},
	{"a line without an end", refused, "GET /adm", true},
	{"a body without an end", either, request("POST /open/ HTTP/1.1", "Content-Length: 100") + "abc", true},
	{"a refused body without an end", refused, request("POST /admin/x HTTP/1.1", "Content-Length: 10000000", "Cookie: {eve}") + "abc", true},
	{"chunks without an end", either, request("POST /open/ HTTP/1.1", "Transfer-Encoding: chunked") + "ff\r\nabc", true},
}

// pad makes a request as long as a Content-Length says.
func pad(request string, size int) string {
	if len(request) > size {
		panic("the request has " + strconv.Itoa(len(request)) + " bytes")
	}
	return strings.Repeat("\n", size-len(request)) + request
}

func attacks() []attack {
	var all []attack
	for _, s := range spoofs {
		all = append(all,
			attack{"eve: " + s, cleaned, request("GET /page HTTP/1.1", "Cookie: {eve}", s), false},
			attack{"nobody: " + s, cleaned, request("GET /open/page HTTP/1.1", s), false})
	}
	for _, p := range paths {
		all = append(all,
			attack{fmt.Sprintf("eve: %q", p), refused, request("GET "+p+" HTTP/1.1", "Cookie: {eve}"), false},
			attack{fmt.Sprintf("nobody: %q", p), refused, request("GET " + p + " HTTP/1.1"), false})
	}
	return append(all, others...)
}

// number returns the number of the attack that a request belongs to.
func (a *arrival) number(otherwise int) int {
	for _, line := range a.lines {
		if name, value := split(line); name == label {
			n, err := strconv.Atoi(value)
			if err == nil {
				return n
			}
		}
	}
	return otherwise
}

// arrival is a request as it stood on the connection to the upstream.
type arrival struct {
	method, target string
	lines          []string // header lines, and trailers
	wrong          string   // what an HTTP server must not be sent
}

// recorder is an upstream that reads bytes, so that no library cleans them first.
type recorder struct {
	net.Listener
	mu       sync.Mutex
	arrivals []*arrival
}

func newRecorder(t *testing.T) *recorder {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &recorder{Listener: listener}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *recorder) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		a := &arrival{}
		first, err := readLines(in, a)
		if err != nil {
			return
		}
		a.method, a.target, _ = strings.Cut(first, " ")
		a.target = strings.TrimSuffix(a.target, " HTTP/1.1")
		r.mu.Lock()
		r.arrivals = append(r.arrivals, a)
		r.mu.Unlock()
		if err := r.body(in, a); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return
		}
	}
}

// readLines reads a head into a, and returns its first line.
func readLines(in *bufio.Reader, a *arrival) (first string, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || strings.ContainsAny(text, "\r\x00") || text != "" && strings.ContainsAny(text[:1], " \t") {
			a.wrong = fmt.Sprintf("the line %q", line)
		}
		if first == "" {
			first = text
		} else if text == "" {
			return first, nil
		} else {
			a.lines = append(a.lines, text)
		}
	}
}

func (r *recorder) body(in *bufio.Reader, a *arrival) error {
	var length, encoding []string
	for _, line := range a.lines {
		switch name, value := split(line); strings.ToLower(name) {
		case "content-length":
			length = append(length, value)
		case "transfer-encoding":
			encoding = append(encoding, value)
		}
	}
	switch {
	case len(length)+len(encoding) > 1:
		a.wrong = fmt.Sprintf("lengths %q and %q", length, encoding)
		return errors.New(a.wrong)
	case len(length) == 1:
		n, err := strconv.ParseUint(length[0], 10, 63)
		if err != nil {
			a.wrong = "length " + length[0]
			return err
		}
		_, err = io.CopyN(io.Discard, in, int64(n))
		return err
	case len(encoding) == 1:
		if encoding[0] != "chunked" {
			a.wrong = "encoding " + encoding[0]
			return errors.New(a.wrong)
		}
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(in)); err != nil {
			return err
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil || line == "\r\n" {
				return err
			}
			r.mu.Lock()
			a.lines = append(a.lines, strings.TrimRight(line, "\r\n"))
			r.mu.Unlock()
		}
	}
	return nil
}

func split(line string) (name, value string) {
	name, value, _ = strings.Cut(line, ":")
	return name, strings.Trim(value, " \t")
}

// all returns what arrived since the last call.
func (r *recorder) all() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []arrival
	for _, a := range r.arrivals {
		all = append(all, *a)
	}
	r.arrivals = nil
	return all
}

// target is one door under attack.
type target struct {
	*world
	door     string
	upstream *recorder
	dial     func() (net.Conn, error)
	fill     *strings.Replacer
	session  string // of eve, which must not reach the upstream
}

func newTarget(t *testing.T, door string) *target {
	r := newRecorder(t)
	w := newWorldBefore(t, "http://"+r.Addr().String())
	cookie := w.dss.SignIn("eve")
	eve := cookie.Name + "=" + cookie.Value
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"ann"}`))
	a := &target{world: w, door: door, upstream: r, session: cookie.Value}
	a.fill = strings.NewReplacer("{eve}", eve, "{dss}", eve, "{spaced}", cookie.Name+" = "+cookie.Value,
		"{forged}", "e30."+payload+".", "{forgedCookie}", cookie.Name+"=ann")
	gateway := strings.TrimPrefix(w.url, "http://")
	a.dial = func() (net.Conn, error) { return net.Dial("tcp", gateway) }
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	w.client.Transport = &http.Transport{Protocols: protocols}
	if name, _, _ := strings.Cut(door, " "); fronts[name] != nil {
		options := ""
		if name != door {
			options = "underscores_in_headers on; ignore_invalid_headers off;"
		}
		f := newFront(t, name, gateway, r.Addr().String(), options)
		a.dial = func() (net.Conn, error) { return tls.Dial("tcp", f.addr, f.tls) }
		w.client, w.url = f.client(true), "https://"+frontHost
	}
	t.Cleanup(w.client.CloseIdleConnections)
	return a
}

// sentinel follows each attack on its connection. It is anonymous, and must stay so.
const sentinel = "/open/sentinel"

// label is a header with the number of the attack that a request belongs to: a
// server that ends a connection early may pass on the request after its answer.
const label = "X-Attack"

// run sends one attack, and returns what reached the upstream meanwhile.
func (a *target) run(n int, attack attack) []arrival {
	raw := strings.Replace(a.fill.Replace(attack.raw), "Host: "+frontHost+"\r\n", fmt.Sprintf("Host: %s\r\n%s: %d\r\n", frontHost, label, n), 1)
	if a.door == "check" {
		raw = asked(raw)
	}
	conn, err := a.dial()
	require.NoError(a, err)
	defer conn.Close()
	require.NoError(a, conn.SetDeadline(time.Now().Add(15*time.Second)))
	if attack.hangs {
		_, err = io.WriteString(conn, raw)
		require.NoError(a, err)
		others := a.run(noAttack, anOpenPage)
		require.NotEmpty(a, others, "%s: others are not served", attack.name)
		return append(others, a.upstream.all()...)
	}
	go func() { // a server may answer before it has read
		_, _ = io.WriteString(conn, raw+request("GET "+sentinel+" HTTP/1.1", "Connection: close"))
	}()
	said, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		a.Errorf("%s: no end after %q", attack.name, said)
	}
	arrivals := a.upstream.all()
	if a.door == "check" {
		arrivals = append(arrivals, admitted(raw, said)...)
	}
	return arrivals
}

// overHTTP2 sends an attack over HTTP/2, if it differs from a plain GET only by its
// path or one header, and if HTTP/2 and our client can send it.
func (a *target) overHTTP2(n int, attack attack) bool {
	head, rest, _ := strings.Cut(strings.TrimSuffix(a.fill.Replace(attack.raw), "\r\n\r\n"), "\r\n")
	where, get := strings.CutPrefix(strings.TrimSuffix(head, " HTTP/1.1"), "GET ")
	_, err := url.ParseRequestURI(where)
	if !get || attack.hangs || err != nil || !strings.HasPrefix(where, "/") || strings.Contains(rest, "Connection:") || strings.Contains(rest, "Upgrade:") || len(attack.raw) > 4096 || strings.Contains(rest, "\r\n\r\n") {
		return false
	}
	ctx, cancel := context.WithTimeout(a.Context(), 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	require.NoError(a, err)
	var query string
	r.URL.Opaque, query, r.URL.ForceQuery = strings.Cut(where, "?")
	r.URL.RawQuery = query
	r.Header.Set(label, strconv.Itoa(n))
	for line := range strings.SplitSeq(rest, "\r\n") {
		if name, value := split(line); !strings.EqualFold(name, "Host") {
			r.Header[name] = append(r.Header[name], value)
		}
	}
	reply, err := a.client.Do(r)
	if err == nil {
		require.Equal(a, 2, reply.ProtoMajor)
		reply.Body.Close()
	}
	require.NotErrorIs(a, err, context.DeadlineExceeded, attack.name)
	return err == nil
}

const noAttack = -1

var anOpenPage = attack{"an open page", cleaned, request("GET /open/ HTTP/1.1"), false}

// asked turns a request into the question of a proxy that passes on each byte of
// the request.
func asked(raw string) string {
	first, rest, _ := strings.Cut(raw, "\n")
	first = strings.TrimRight(first, "\r")
	method, where, _ := strings.Cut(first, " ")
	version := ""
	if n := strings.LastIndex(where, " HTTP/"); n >= 0 {
		where, version = where[:n], where[n:]
	}
	return "GET /dssauth/check" + version + "\r\nX-Original-URI: " + where + "\r\nX-Original-Method: " + method + "\r\n" + rest
}

// admitted returns what such a proxy sends to its upstream after the gateway's
// answers. A header stays if the answer does not replace it.
func admitted(raw string, said []byte) []arrival {
	var all []arrival
	answers := bufio.NewReader(bytes.NewReader(said))
	for {
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return all
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		if _, says := answer.Header["Remote-User"]; answer.StatusCode != 200 || !says {
			continue
		}
		head, _, _ := strings.Cut(strings.ReplaceAll(raw, "\r\n ", " "), "\r\n\r\n")
		a := arrival{}
		for _, line := range strings.Split(head, "\r\n")[1:] {
			name, value := split(line)
			switch name = http.CanonicalHeaderKey(name); {
			case name == "X-Original-Uri":
				a.target = value
			case name == "X-Original-Method":
				a.method = value
			case answer.Header[name] != nil: // replaced
			case slices.Contains([]string{"Cookie", "Cookie2", "Authorization", "Proxy-Authorization", "X-Dku-Apiticket", "X-Dku-Proxyuser", "Connection", "Upgrade"}, name):
				// which the proxies remove
			default:
				a.lines = append(a.lines, line)
			}
		}
		for _, name := range []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", assertionHeader} {
			a.lines = append(a.lines, name+": "+answer.Header.Get(name))
		}
		if cookie := answer.Header.Get(cookieHeader); cookie != "" {
			a.lines = append(a.lines, "Cookie: "+cookie)
		}
		all = append(all, a)
	}
}

// judge says what is wrong with a request that reached the upstream.
func (a *target) judge(sender string, got arrival) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if got.wrong != "" {
		bad("%s", got.wrong)
	}
	if got.method == "TRACE" || got.method == "CONNECT" || got.method != strings.ToUpper(got.method) {
		bad("method %s", got.method)
	}
	if got.method != "GET" && strings.HasPrefix(got.target, "/api/") {
		bad("%s is for administrators", got.method)
	}
	raw, _, _ := strings.Cut(got.target, "?")
	where := loosest(raw)
	for _, closed := range []string{"/admin", "/closed", "/churn", "/dssauth"} {
		if strings.HasPrefix(where, closed) {
			bad("a path past its rule")
		}
	}
	if sender == "" && !strings.HasPrefix(where, "/open") {
		bad("a path for nobody")
	}
	said := map[string]string{}
	for _, line := range got.lines {
		name, value := split(line)
		if strings.Contains(value, a.session) {
			bad("DSS's cookie in %s", name)
		}
		folded := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(name))
		switch folded {
		case "remote-user", "remote-groups", "remote-name", "remote-email", "x-dssauth-assertion":
			if _, twice := said[folded]; twice {
				bad("%s twice", name)
			}
			if !strings.EqualFold(name, folded) {
				bad("the browser's %s", name)
			}
			said[folded] = value
			continue
		case "upgrade":
			if !strings.EqualFold(value, "websocket") {
				bad("upgrade to %s", value)
			}
		case "authorization", "proxy-authorization", "cookie2",
			"x-original-url", "x-rewrite-url", "x-original-uri", "x-original-method", "x-forwarded-uri", "x-forwarded-method",
			"x-http-method-override", "x-http-method", "x-method-override", "script-name", "x-script-name", "path-info":
			bad("the browser's %s", line)
		}
		if strings.HasPrefix(folded, "x-dku-") || strings.HasPrefix(folded, "x-dssauth-") {
			bad("the browser's %s", line)
		}
	}
	if user := said["remote-user"]; user != sender && (user != "" || !strings.HasPrefix(where, "/open")) {
		bad("%q is taken for %q", sender, user)
	}
	if said["remote-groups"] != "" || said["remote-name"] != "" || said["remote-email"] != "" {
		bad("more than DSS says: %q", said)
	}
	if subject := subjectOf(said["x-dssauth-assertion"]); subject != said["remote-user"] {
		bad("an assertion about %q", subject)
	}
	return wrong
}

// subjectOf returns an assertion's subject. It does not check the signature.
func subjectOf(assertion string) string {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return assertion
	}
	var claims struct{ Sub string }
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return assertion
	}
	return claims.Sub
}

// loosest returns a path as the most careless upstream reads it.
func loosest(raw string) string {
	for range 3 {
		if plain, err := url.PathUnescape(raw); err == nil {
			raw = plain
		}
	}
	raw = strings.ToLower(strings.ReplaceAll(raw, "\\", "/"))
	var segments []string
	for segment := range strings.SplitSeq(raw, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if segment = strings.Trim(segment, " "); strings.Trim(segment, ".") != "" {
			segment = strings.TrimRight(segment, ". ")
		}
		segments = append(segments, segment)
	}
	return path.Clean("/" + strings.Join(segments, "/"))
}

func TestAttacks(t *testing.T) {
	t.Log("figure: " + attackDoors(t, "proxy", "check"))
}

func TestAttacksThroughAnotherProxy(t *testing.T) {
	t.Log("figure: " + attackDoors(t, "nginx", "nginx that keeps odd headers", "caddy"))
}

// attackDoors sends each attack to each door, and returns a summary.
func attackDoors(t *testing.T, doors ...string) string {
	all := attacks()
	var sent, reached, refusals atomic.Int64
	t.Run("doors", func(t *testing.T) {
		for _, door := range doors {
			t.Run(door, func(t *testing.T) {
				t.Parallel()
				a := newTarget(t, door)
				first := a.run(noAttack, attack{"eve herself", cleaned, request("GET /page HTTP/1.1", "Cookie: {eve}"), false})
				require.Len(t, first, 2, "with the sentinel")
				own := make([]int, 2*len(all)) // over HTTP/1, then over HTTP/2
				take := func(current int, arrivals []arrival) {
					for _, got := range arrivals {
						n := got.number(current)
						if got.target == sentinel {
							n = noAttack
						}
						sender, name := "", "beside an attack"
						if n >= 0 {
							own[n]++
							sender, name = all[n%len(all)].sender(), all[n%len(all)].name
						}
						if wrong := a.judge(sender, got); len(wrong) > 0 {
							reached.Add(1)
							t.Errorf("%s:\n\t%s\n\tthe upstream saw %s %s\n\t%s", short(name), strings.Join(wrong, "\n\t"), got.method, short(got.target), strings.Join(got.lines, "\n\t"))
						}
					}
				}
				for n, attack := range all {
					sent.Add(1)
					take(n, a.run(n, attack))
				}
				if door == "proxy" || door == "nginx" || door == "caddy" {
					for n, attack := range all {
						if a.overHTTP2(len(all)+n, attack) {
							sent.Add(1)
							take(len(all)+n, a.upstream.all())
						}
					}
				}
				take(noAttack, a.run(noAttack, anOpenPage))
				for n, attack := range all {
					switch {
					case own[n] > 1:
						t.Errorf("%s: %d requests reached the upstream", short(attack.name), own[n])
					case own[n] > 0 && (attack.want == refused || attack.want == rewritten && door != "caddy"):
						t.Errorf("%s: it reached the upstream", short(attack.name))
					case own[n] == 0 && attack.want == cleaned && door == "proxy":
						t.Errorf("%s: it did not reach the upstream", short(attack.name))
					case own[n] == 0:
						refusals.Add(1)
					}
				}
			})
		}
	})
	assert.Zero(t, reached.Load())
	return fmt.Sprintf("%d attacks, %d doors, %d reached the upstream under a wrong name, past a rule or with a credential of DSS; of %d requests %d were refused, the others arrived cleaned",
		len(all), len(doors), reached.Load(), sent.Load(), refusals.Load())
}

func short(s string) string { return s[:min(len(s), 200)] }
