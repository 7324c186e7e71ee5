// Package side is one of the two versions that are compared. The command pair
// copies it twice, each time with the import paths of another commit. So it
// uses only names that every commit has.
package side

import (
	"net/http"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

// Open returns a Middleware with default settings, for a DSS at url.
func Open(url string) (wrap func(http.Handler) http.Handler, err error) {
	client, err := dss.New(dss.Config{URL: url, APIKey: "dkuaps-pair"})
	if err != nil {
		return nil, err
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		return nil, err
	}
	return auth.Handler, nil
}
