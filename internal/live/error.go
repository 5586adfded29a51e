package live

import (
	"errors"
	"fmt"
)

// Kind is the machine-readable part of an Error; each edge has one table from Kind to its protocol's replies.
type Kind uint8

// Kinds of error. Internal is the zero value: an error without a kind is our own fault.
const (
	Internal    Kind = iota // a bug or a failed resource of ours
	Invalid                 // the request breaks a rule; the same request never works
	Denied                  // who asks may not
	NotFound                // what is asked for is not there
	Conflict                // what is asked for is in use
	Limit                   // a limit is reached; later may work
	Unavailable             // something we depend on is away, or we are stopping
)

func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case Denied:
		return "denied"
	case NotFound:
		return "not found"
	case Conflict:
		return "conflict"
	case Limit:
		return "limit"
	case Unavailable:
		return "unavailable"
	}
	return "internal"
}

// ErrCredential is in the chain of a Denied that says: nobody has shown who he is. Another Denied says that who he is may not.
var ErrCredential = errors.New("no valid credential")

// An Error crosses packages. Err's text is for whoever made the request, so it never holds a key, a token or a path of ours.
type Error struct {
	Kind Kind
	Op   string // what was being done, "" when Err says it
	Name Name   // the stream concerned, zero when none
	Err  error
}

func (e *Error) Error() string {
	s := e.Err.Error()
	if e.Name != (Name{}) {
		s = e.Name.String() + ": " + s
	}
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of kind k with a formatted cause; %w works as in fmt.Errorf.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the first Error in err's chain, Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Reason returns what may be told to whoever was refused: the text of an Error, or a neutral sentence for a fault of ours,
// whose text may name files and addresses.
func Reason(err error) string {
	if KindOf(err) == Internal {
		return "internal error"
	}
	var e *Error
	errors.As(err, &e)
	return e.Err.Error()
}
