package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/rediscache"
)

// replica is the part of the application in one process. Two replicas share
// only Redis and DSS.
type replica struct {
	store *rediscache.Store
	auth  *dssauth.Middleware
}

func newReplica(client *dss.Client, redis rueidis.ClientOption, secrets [][]byte, ttl time.Duration) (*replica, error) {
	store, err := rediscache.New(redis)
	if err != nil {
		return nil, err
	}
	auth, err := dssauth.New(dssauth.Config{Client: client, Store: store, StoreSecrets: secrets, TTL: ttl})
	if err != nil {
		store.Close()
		return nil, err
	}
	return &replica{store, auth}, nil
}

// close ends the Middleware before the store that it uses.
func (r *replica) close() {
	if err := r.auth.Close(); err != nil {
		slog.Warn("closing", "error", err)
	}
	r.store.Close()
}

// secretsOf reads the secrets of a deployment: in base64, with commas between
// them. The first one seals.
func secretsOf(list string) ([][]byte, error) {
	var secrets [][]byte
	for i, text := range strings.Split(list, ",") {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("secret %d is not base64", i) // the error would quote it
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// toldAll lets change end or replace the visitor's session at DSS. Then all
// replicas forget the old session.
func (r *replica) toldAll(change http.Handler) http.Handler {
	return r.auth.Optional(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		change.ServeHTTP(w, request)
		r.auth.Forget(request) // before the answer leaves: it is short
	}))
}

// regroup changes the groups of a user at DSS, by change. Then all replicas
// forget the user.
func (r *replica) regroup(change http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		login := request.FormValue("login")
		change.ServeHTTP(w, request)
		r.auth.ForgetUser(login)
	})
}
