// Package headers knows which names of headers servers and applications mix up, and
// which headers make an application take another path or method.
package headers

// Fold appends a header's name in a form that is the same for all spellings that an
// application may mix up. Servers that pass headers as variables change the
// spelling: for CGI and WSGI a dash and an underscore are the same, for some all
// punctuation is the same, and case is lost.
func Fold(b []byte, name string) []byte {
	for n := range len(name) {
		switch c := name[n]; {
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b = append(b, c)
		default:
			b = append(b, '-')
		}
	}
	return b
}

// Routing are the folded names of headers with which frameworks replace the path or
// the method that the rules have seen.
var Routing = map[string]bool{
	"x-original-url": true, "x-original-uri": true, "x-original-method": true,
	"x-rewrite-url": true, "x-forwarded-uri": true, "x-forwarded-method": true, "x-forwarded-path": true,
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true,
	// These name a prefix that gunicorn and others remove from the path.
	"script-name": true, "x-script-name": true, "path-info": true,
	// CGI reads this one as the address of a proxy to use.
	"proxy": true,
}
