package dss

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// CodeStudio returns the address that an application in a Code Studio listens
// on, and the path under which browsers see it. The template's entry point
// exposes the port:
//
//	addr, prefix, err := dss.CodeStudio(8080)
//
// Addr is for [net/http.Server]. It is 0.0.0.0 with the port if
// DKU_CODE_STUDIO_IS_PUBLIC_PORT_<port> is 1, and else 127.0.0.1 with the port.
//
// Prefix is DKU_CODE_STUDIO_BROWSER_PATH_<port>, as in
// /code-studios/CHURN/a1b2c3/8080: it begins with a slash and does not end with
// one. A webapp of several pods has one prefix for each pod: DSS writes
// ${K8S_POD_NAME} into the variable, and CodeStudio replaces each such name
// with the value of that variable.
//
// Outside a Code Studio addr is 127.0.0.1 with the port, and prefix is empty.
//
// The template's "proxied subpath" decides which path arrives: with / the proxy
// of DSS removes the prefix, with $request_uri it keeps it. Links and redirects
// need the prefix either way. A handler that knows its routes without the
// prefix serves both:
//
//	mux.Handle("/", app)
//	if prefix != "" {
//		mux.Handle(prefix+"/", http.StripPrefix(prefix, app))
//	}
//
// A malformed value, and a Code Studio that does not expose the port, are
// errors that name the variable.
func CodeStudio(port int) (addr, prefix string, err error) {
	digits := strconv.Itoa(port)
	if !isPort(digits) {
		return "", "", fmt.Errorf("dss: CodeStudio: port %d: it must be between 1 and 65535", port)
	}
	pathName, publicName := "DKU_CODE_STUDIO_BROWSER_PATH_"+digits, "DKU_CODE_STUDIO_IS_PUBLIC_PORT_"+digits
	path, public := os.Getenv(pathName), os.Getenv(publicName)
	if path == "" {
		for _, inside := range []string{"DKU_CODE_STUDIO_BROWSER_PATH", publicName} {
			if os.Getenv(inside) != "" {
				return "", "", fmt.Errorf("dss: %s is not set and %s is; expose port %d in an entry point of the Code Studio's template, or listen on the port that it exposes",
					pathName, inside, port)
			}
		}
		return net.JoinHostPort("127.0.0.1", digits), "", nil
	}
	host := "127.0.0.1"
	if public != "" {
		yes, err := strconv.ParseBool(public)
		if err != nil {
			return "", "", fmt.Errorf("dss: %s %q: it must be 1 or 0", publicName, clip(public, 100))
		}
		if yes {
			host = "0.0.0.0"
		}
	}
	if prefix, err = expand(path); err != nil {
		return "", "", fmt.Errorf("dss: %s %q: %w", pathName, clip(path, 200), err)
	}
	return net.JoinHostPort(host, digits), prefix, nil
}

var (
	variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	// segment matches project keys, ids and names of pods. It has no character
	// that a URL escapes: a router compares the path unescaped.
	segment = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)
)

// expand returns path with the values of the variables in it, without the slash
// at its end. Its errors show no value: a variable can hold anything.
func expand(path string) (string, error) {
	var wrong error
	path = variable.ReplaceAllStringFunc(path, func(reference string) string {
		name := reference[2 : len(reference)-1]
		value := os.Getenv(name)
		if !isSegment(value) && wrong == nil {
			wrong = fmt.Errorf("%s must be set, to letters, digits, dots, hyphens and underscores", name)
		}
		return value
	})
	if wrong != nil {
		return "", wrong
	}
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", errors.New("it must begin with a slash, as in /code-studios/CHURN/a1b2c3/8080")
	}
	path = strings.TrimSuffix(path, "/")
	for part := range strings.SplitSeq(path, "/") {
		if !isSegment(part) {
			return "", errors.New("between its slashes it must have letters, digits, dots, hyphens and underscores, as in /code-studios/CHURN/a1b2c3/8080")
		}
	}
	return "/" + path, nil
}

func isSegment(s string) bool { return segment.MatchString(s) && s != "." && s != ".." }
