// Package acting is how package dssauth does what package dss does, and has no
// name for in its API.
package acting

import "context"

// AsVerified is dss.Client.AsVerified with another check: it gets the client
// that acts as login, and no call is made before it once returned nil. The
// clients are *dss.Client, which this package cannot name. Package dss sets it.
var AsVerified func(client any, login string, check func(context.Context, any) error) (any, error)
