package diagnose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/dssauth/dssauth/dss"
)

// Fault explains why a call got no answer of DSS, and the remedy. It holds no part of a
// reply's text: that may repeat credentials.
type Fault struct{ What, Fix string }

const (
	trustFix = "Trust the authority that signed it, in place of switching the check off: name a PEM file with its certificate " +
		"in SSL_CERT_FILE (on Linux), or set RootCAs of dss.Config. Inside DSS, DKU_SERVER_CERT holds it."
	longer = "; a longer -timeout shows the cause"
	urlFix = "Correct the URL of DSS (DKU_DSS_URL, or url in ~/.dataiku/config.json)."
)

// Explain explains an error of any call.
func Explain(err error) Fault {
	var reply *dss.Error
	switch {
	case errors.Is(err, ErrOther):
		return Fault{"DSS acted as another user",
			"Do not use it: calls would have the rights of somebody else than the visitor. A proxy between this application and DSS may drop " +
				"X-DKU headers, or add an Authorization header."}
	case errors.As(err, &reply):
		return explainReply(reply)
	case errors.Is(err, dss.ErrUnexpectedReply):
		return Fault{"another program than DSS answered with success",
			"Most likely a proxy's sign-in page, or another server. Let this application's calls to /dip/publicapi pass the proxy without a sign-in " +
				"of its own, or use an address of DSS behind it. " + urlFix}
	}
	if f, ok := explainTLS(err); ok {
		return f
	}
	return explainNetwork(err)
}

func explainReply(e *dss.Error) Fault {
	said := fmt.Sprintf("the answer is %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.Type != "" {
		return Fault{"DSS failed: " + said + Exception(e.Type),
			"DSS's log (backend.log) has the reason at this time."}
	}
	switch status := e.StatusCode; {
	case status >= 300 && status <= 399:
		// The text does not show the host of the redirect: it may repeat credentials.
		// An error of our own client says whether the host is another one.
		return Fault{"the answer is " + strings.TrimPrefix(e.Error(), "dss: "),
			"Redirects would take our credentials elsewhere. Use the real address of DSS: https in place of http, its public name, " +
				"its path. A redirect to a sign-in page means that a proxy expects this application to sign in: let /dip/publicapi pass. " +
				"To see where it leads, run “curl -sI” with the URL of DSS and /dip/publicapi/auth/info after it. " + urlFix}
	case status == http.StatusBadRequest && strings.Contains(e.Message(), "HTTPS"):
		return Fault{said + ", since this port speaks https", "Write https in place of http. " + urlFix}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return Fault{said + ", and it is not from DSS",
			"A proxy or firewall before DSS refuses this application, and DSS was not asked: let its calls to /dip/publicapi pass, or use an address of DSS behind it."}
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return Fault{said + ", and it is not from DSS",
			"A web server answers, but DSS's API is not there: the path, port or host is wrong. Leave /dip/publicapi out of the URL, and keep a path in it " +
				"if DSS is not at the root of its host. " + urlFix}
	case status == http.StatusTooManyRequests:
		return Fault{said, "DSS, or a proxy before it, limits the number of calls. Wait, and find the source of so many calls: cookies that change are one cause."}
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return Fault{said + ", and it is from a proxy",
			"The proxy before DSS answers, but DSS does not: it is starting, stopped or overloaded. Check that it runs (bin/dss status), and wait."}
	}
	return Fault{said + ", and it is not from DSS", "A proxy before DSS, or another server, answers in its place. " + urlFix}
}

// Exception returns the class that DSS named, if it is one, after a comma.
func Exception(name string) string {
	isName := !strings.ContainsFunc(name, func(r rune) bool {
		return r != '.' && r != '_' && (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r)
	})
	if !isName || !strings.Contains(name, ".") || !strings.HasSuffix(name, "Exception") {
		return ""
	}
	return ", " + name[strings.LastIndex(name, ".")+1:]
}

func explainTLS(err error) (Fault, bool) {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var roots x509.SystemRootsError
	var refused *net.OpError
	var other *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Fault{"TLS: the certificate of DSS has expired, or is not valid yet",
			"Renew the certificate in DSS, or in the proxy before it; if it is valid, correct the clock of this machine."}, true
	case errors.As(err, &name):
		return Fault{fmt.Sprintf("TLS: the certificate of DSS is for another name than %q", name.Host),
			"Use a name that the certificate has, or get one that has this name. " + urlFix}, true
	case errors.As(err, &unknown):
		return Fault{"TLS: this machine does not know the authority that signed the certificate of DSS", trustFix}, true
	case errors.As(err, &roots):
		return Fault{"TLS: this machine, or container, has no list of authorities to trust",
			"Install one (ca-certificates). " + trustFix}, true
	case errors.As(err, &invalid), errors.As(err, &other):
		return Fault{"TLS: the certificate of DSS is not valid", "Renew it in DSS, or in the proxy before it."}, true
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return Fault{"TLS: the port does not speak https", "Write http in place of https if nobody can read the traffic, or use the port that speaks https. " + urlFix}, true
	case errors.As(err, &refused) && refused.Op == "remote error":
		return Fault{"TLS: the other side ended the handshake",
			"It may want a client certificate (Certificates of dss.Config), or TLS older than 1.2."}, true
	}
	return Fault{}, false
}

func explainNetwork(err error) Fault {
	var lookup *net.DNSError
	var op *net.OpError
	var timeout net.Error
	isOp := errors.As(err, &op)
	switch {
	case isOp && op.Op == "proxyconnect":
		return Fault{"the proxy cannot be reached", "Its address is in HTTPS_PROXY in the environment. Correct that, or list the host of DSS in NO_PROXY."}
	case errors.As(err, &lookup):
		return Fault{fmt.Sprintf("DNS: the name %q is not known here", lookup.Name),
			"Look for a misspelling. If the name is right, it may be known only inside another network or cluster: ask for it there, or use another address. " + urlFix}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Fault{"the connection is refused: no program listens at " + address(op),
			"DSS is not running, or is at another port; in a container, localhost is the container itself. " + urlFix}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Fault{"there is no route to " + address(op), "The network, a VPN or a firewall is in the way."}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Fault{"there was no answer in time",
			"If the connection takes so long, a firewall drops the packets: let this machine reach the port of DSS. If DSS takes so long, it is overloaded" +
				longer + "."}
	case errors.Is(err, context.Canceled):
		return Fault{"interrupted", "Run it again."}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return Fault{"the connection was cut before the answer came",
			"A proxy, a firewall or another service is at this address, or DSS has just stopped. Check whether the URL needs https. " + urlFix}
	}
	what := "no answer could be read"
	if wire := (*dss.WireError)(nil); errors.As(err, &wire) {
		what += ": " + wire.Kind
	}
	return Fault{what,
		"The program at this address does not speak HTTP, or a proxy (HTTPS_PROXY in the environment) refused to connect. " + urlFix}
}

func address(op *net.OpError) string {
	if op == nil || op.Addr == nil {
		return "this address"
	}
	return op.Addr.String()
}
