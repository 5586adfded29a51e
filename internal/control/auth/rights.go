package auth

import (
	"errors"

	"livego/internal/domain"
)

// Rights are what a credential of the operator's HTTP allows. Each value includes the rights before
// it.
type Rights uint8

// Rights, from the least.
const (
	Read    Rights = iota + 1 // statistics, and lists without secrets
	Operate                   // keys and streams: create, reset, revoke, disconnect
	Admin                     // everything, also exports with all secrets and profiles of the process
)

func (r Rights) String() string {
	return [...]string{"none", "read", "operate", "admin"}[r]
}

// ParseRights parses the text that String returns; false for any other text.
func ParseRights(s string) (Rights, bool) {
	for _, r := range []Rights{Read, Operate, Admin} {
		if s == r.String() {
			return r, true
		}
	}
	return 0, false
}

// ErrRights is in the chain of AdminAuth's refusals of a valid credential that has too few rights.
var ErrRights = errors.New("not enough rights")

func errNotEnough(has, need Rights) error {
	return &domain.Error{Kind: domain.Denied, Err: rightsError{has, need}}
}

type rightsError struct{ has, need Rights }

func (e rightsError) Error() string {
	return "role " + e.need.String() + " required, but the credential has the role " + e.has.String()
}
func (rightsError) Unwrap() error { return ErrRights }
