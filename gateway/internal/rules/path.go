package rules

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errStart     = errors.New("the path does not begin with a slash")
	errEmpty     = errors.New("the path has an empty segment (//)")
	errDots      = errors.New("the path has a segment of only dots, spaces and invisible characters")
	errControl   = errors.New("the path has a control character")
	errOutside   = errors.New("the path has a space or a byte outside ASCII that is not percent-encoded")
	errQuery     = errors.New("the path has a ? or # that is not percent-encoded")
	errSlash     = errors.New("the path has an encoded slash (%2F)")
	errBackslash = errors.New("the path has a backslash")
	errSemicolon = errors.New("the path has a semicolon")
	errDouble    = errors.New("the path has an encoded percent sign (%25)")
	errHex       = errors.New("the path has a percent sign without two hex digits")
	errNeedless  = errors.New("the path has a percent-encoded letter, digit or one of - . _ ~")
	errUTF8      = errors.New("the path is not UTF-8")
	errStream    = errors.New("the path has a colon before a dollar sign")
	errLookalike = errors.New("the path has a character that Unicode or Windows takes for one of / \\ . ; %")
)

// normal returns the decoded form of a path. It needs the path exactly as in the
// request, without the query. Do not take it from a [net/url.URL]: if the path has
// a character such as |, EscapedPath encodes it again, and turns %2F into a slash.
// The upstream reads the path by itself, so Normal accepts only a path that all
// servers read alike. An error names the mistake, and quotes nothing.
//
//   - //, dot segments: some servers merge or resolve them, some do not.
//   - \ is a slash on Windows. Tomcat and Jetty cut a segment at a semicolon.
//   - %2F is a slash to some servers, and a character of the segment to others.
//     With %25, a second hop that decodes again reads another path.
//   - %61 for "a": a router that matches before it decodes, such as Express's, and
//     a router that decodes first see different paths. No browser encodes these
//     characters.
//   - Bytes that are not UTF-8 can be a second spelling of a character: %C0%AF
//     is a slash to a lax decoder.
//   - "/x/.. /" is a dot segment on Windows, which ignores spaces and dots at the end
//     of a name; HFS+ ignores invisible characters.
//   - "admin:$I30:$INDEX_ALLOCATION" is the folder "admin" on NTFS.
//   - U+FF0F becomes a slash if text is converted to NFKC, or to a Windows code page.
func normal(escapedPath string) (decoded string, err error) {
	if escapedPath == "" || escapedPath[0] != '/' {
		return "", errStart
	}
	var plain strings.Builder // the decoded path up to done; empty before the first percent sign
	done, dots := 0, false    // dots: so far the segment has only dots
	var before byte
	for i := 0; i < len(escapedPath); i++ {
		c := escapedPath[i]
		switch {
		case c == '/':
			if before == '/' {
				return "", errEmpty
			} else if dots && before == '.' {
				return "", errDots
			}
			dots = true
		case c == '.':
		case c == '%':
			if c, err = decode(escapedPath[i:]); err != nil {
				return "", err
			}
			if plain.Len() == 0 {
				plain.Grow(len(escapedPath))
			}
			plain.WriteString(escapedPath[done:i])
			plain.WriteByte(c)
			i += 2
			done = i + 1
			dots = false // readable checks the segments of a path with percent signs
		case c < ' ' || c == 0x7f:
			return "", errControl
		case c == ' ' || c >= utf8.RuneSelf:
			return "", errOutside
		case c == '?' || c == '#':
			return "", errQuery
		case c == '\\':
			return "", errBackslash
		case c == ';':
			return "", errSemicolon
		default:
			dots = false
		}
		if c == '$' && before == ':' {
			return "", errStream
		}
		before = c
	}
	if dots && before == '.' {
		return "", errDots
	}
	if done == 0 {
		return escapedPath, nil
	}
	plain.WriteString(escapedPath[done:])
	if err := readable(plain.String()); err != nil {
		return "", err
	}
	return plain.String(), nil
}

// decode returns the character that s begins with, as in "%20".
func decode(s string) (byte, error) {
	if len(s) < 3 {
		return 0, errHex
	}
	high, ok1 := hexDigit(s[1])
	low, ok2 := hexDigit(s[2])
	if !ok1 || !ok2 {
		return 0, errHex
	}
	switch c := high<<4 | low; {
	case c < ' ' || c == 0x7f:
		return 0, errControl
	case c == '/':
		return 0, errSlash
	case c == '\\':
		return 0, errBackslash
	case c == ';':
		return 0, errSemicolon
	case c == '%':
		return 0, errDouble
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
		return 0, errNeedless
	default:
		return c, nil
	}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// readable returns an error if a decoded path has something wrong that percent
// signs can hide.
func readable(path string) error {
	if !utf8.ValidString(path) {
		return errUTF8
	}
	for _, r := range path {
		switch {
		case unicode.IsControl(r):
			return errControl
		case isLookalike(r):
			return errLookalike
		}
	}
	var b [128]byte
	for rest := path[1:]; rest != ""; {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if loose, _ := appendLoose(b[:0], segment); len(loose) == 0 {
			return errDots
		}
	}
	return nil
}

// isLookalike reports whether r is a separator in disguise. NFKC turns the
// characters of the first two lines into one of / \ . ; % or into a text with a
// slash or with dots only. Windows does the same to those of the last line when it
// converts text to a code page. U+2026 (…) is not in the list, since file names have
// it: appendLoose takes it for a dot. Single characters such as "1." are not in the
// list either, since they make no dot segment.
func isLookalike(r rune) bool {
	switch r {
	case '\uff0f', '\uff3c', '\uff0e', '\uff1b', '\uff05', '\u2024', '\u2025', '\u037e', '\u2100', '\u2101', '\u2105', '\u2106',
		'\ufe14', '\ufe19', '\ufe30', '\ufe52', '\ufe54', '\ufe68', '\ufe6a',
		'\u2044', '\u2215', '\u2216', '\u20e5', '\u066a', '\u00a5', '\u20a9':
		return true
	}
	return false
}

// appendLoose appends the loose form of a segment to b. Segments with the same loose
// form are the same name to some upstream. It ignores case (Express, Windows,
// macOS), spaces around the segment (older Spring), dots at its end (Windows) or
// invisible characters (HFS+), or it reads the fullwidth forms of ASCII as ASCII
// (Windows). ends is true if an encoded ? or # ends the segment: a hop that decodes
// the path, and reads the result as a URL, takes the rest for a query.
func appendLoose(b []byte, segment string) (loose []byte, ends bool) {
	for _, r := range segment {
		if r >= utf8.RuneSelf {
			if r = fold(r); r < 0 {
				continue
			}
		}
		switch {
		case r == '?' || r == '#':
			return trimEnd(b), true
		case r == ' ' && len(b) == 0:
		case 'A' <= r && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return trimEnd(b), false
}

func trimEnd(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '.') {
		b = b[:len(b)-1]
	}
	return b
}

// fold returns the same rune for all runes that differ only by case, such as K and
// the Kelvin sign. It returns -1 for an invisible rune.
func fold(r rune) rune {
	switch {
	case 0xff01 <= r && r <= 0xff5e: // fullwidth
		return r - 0xfee0
	case r == 'İ' || r == 'ı': // which Unicode folds in Turkish only, and Java always
		return 'i'
	case r == '…':
		return '.'
	case unicode.IsSpace(r):
		return ' '
	case unicode.Is(unicode.Cf, r):
		return -1
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}
