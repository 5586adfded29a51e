package auth

import (
	"errors"

	"livego/internal/domain"
)

// Rights are what a credential of the operator's HTTP allows. Each includes those before it.
type Rights uint8

// Rights, from the least.
const (
	Read    Rights = iota + 1 // look: statistics, lists without secrets
	Operate                   // keys and streams: make, reset, revoke, disconnect
	Admin                     // all: every secret at once, profiles of the process
)

func (r Rights) String() string {
	return [...]string{"none", "read", "operate", "admin"}[r]
}

// ParseRights reads what String writes; false for anything else.
func ParseRights(s string) (Rights, bool) {
	for _, r := range []Rights{Read, Operate, Admin} {
		if s == r.String() {
			return r, true
		}
	}
	return 0, false
}

// ErrRights is in the chain of the Door's refusals of a credential that is good and does not allow enough.
var ErrRights = errors.New("not enough rights")

func errNotEnough(has, need Rights) error {
	return &domain.Error{Kind: domain.Denied, Err: rightsError{has, need}}
}

type rightsError struct{ has, need Rights }

func (e rightsError) Error() string {
	return "this takes the role " + e.need.String() + ", and the credential has " + e.has.String()
}
func (rightsError) Unwrap() error { return ErrRights }
