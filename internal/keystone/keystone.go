// SPDX-License-Identifier: Apache-2.0

// Package keystone validates the tokens of users as OpenStack's
// keystonemiddleware does: with a service user, a cache that looks again after
// a few minutes, and service tokens.
//
// A token is refused only when Keystone says so. When Keystone can not be
// asked, the answer is ErrUnavailable: never "refused", and never "valid".
// Tokens are not logged and not part of any error.
package keystone

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrInvalidToken means that Keystone does not know the token, or that it
	// has expired or was revoked.
	ErrInvalidToken = errors.New("token is not valid")

	// ErrUnavailable means that Keystone could not be asked: it is down, too
	// slow, or does not accept the service user.
	ErrUnavailable = errors.New("identity service is not available")
)

// Token says whom a token speaks for. It is shared by all requests with the
// same token: do not change it.
type Token struct {
	UserID, UserName                   string
	UserDomainID, UserDomainName       string
	ProjectID, ProjectName             string // empty unless the scope is a project
	ProjectDomainID, ProjectDomainName string
	DomainID, DomainName               string // empty unless the scope is a domain
	SystemScope                        string // "all" if the scope is the system, else empty
	TrustID                            string
	ApplicationCredentialID            string
	AccessRules                        []AccessRule // nil: may be used for everything; see Permits
	IsAdminProject                     bool         // true also when Keystone does not say
	Roles                              []string
	ExpiresAt                          time.Time
}

// Validator tells what a token stands for.
type Validator interface {
	// Validate returns the token's meaning, or an error that is
	// ErrInvalidToken or ErrUnavailable. It may be called by many goroutines
	// at once, on the path of each request; it must not keep the text.
	Validate(ctx context.Context, token string) (*Token, error)
}

// ExpiredValidator is a Validator that can look at tokens whose time is over.
// That is asked for only when a service vouches for the request: its work in
// the name of a user may take longer than the user's token lives. Keystone
// forgets expired tokens after two days.
type ExpiredValidator interface {
	Validator
	ValidateExpired(ctx context.Context, token string) (*Token, error)
}
