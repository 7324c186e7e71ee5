// Package loopback knows the names of the local machine.
package loopback

import (
	"net/netip"
	"strings"
)

// Is reports whether host, without a port, is this machine.
func Is(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
