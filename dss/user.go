package dss

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// User holds facts about a user. DSS can restrict which callers may read them.
type User struct {
	Login       string
	DisplayName string
	Email       string
	Groups      []string
	Enabled     bool // whether the user may sign in
}

// User fetches the user with this login.
//
// A user that does not exist is an [*Error] with status 404. A reply about
// another login is an error that wraps [ErrUnexpectedReply]; a login that
// differs only in upper and lower case is accepted.
//
// DSS: GET /users/{login}
func (c *Client) User(ctx context.Context, login string) (User, error) {
	k := call{method: http.MethodGet, path: "/users/" + url.PathEscape(login), name: "/users/{login}", read: true}
	if err := checkName(login); err != nil {
		return User{}, k.errorf("the login %w", err)
	}
	var user User
	k.reply = decoded(maxReplyBytes, func(body []byte) (err error) {
		user, err = decodeUser(body)
		if err == nil && !strings.EqualFold(user.Login, login) {
			err = errors.New("it is about another user")
		}
		return err
	})
	if err := c.call(ctx, k); err != nil {
		return User{}, err
	}
	return user, nil
}

func decodeUser(body []byte) (User, error) {
	members, err := parseObject(body)
	if err != nil {
		return User{}, fmt.Errorf("the body %w", err)
	}
	var u User
	r := newReader(members, "login", "displayName", "email", "groups", "enabled")
	r.text("login", &u.Login)
	r.text("displayName", &u.DisplayName)
	r.text("email", &u.Email)
	r.texts("groups", &u.Groups)
	r.flag("enabled", &u.Enabled)
	r.name("login", u.Login)
	if r.err != nil {
		return User{}, r.err
	}
	return u, nil
}
