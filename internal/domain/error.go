package domain

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

// A Code tells programs why a token or a session was refused: players and scripts act on it, and
// its words do not change. HTTP has it in the header Livego-Error, RTMP and WebSocket before the
// reason.
type Code string

// Codes.
const (
	TokenMissing Code = "token_missing"
	// not in a form that is read here, or a claim is missing or of a wrong type
	TokenMalformed    Code = "token_malformed"
	TokenInvalid      Code = "token_invalid"       // signature, algorithm, key, issuer or audience; or exp is too far away
	TokenExpired      Code = "token_expired"       // exp
	TokenNotYetValid  Code = "token_not_yet_valid" // nbf or iat
	TokenUsed         Code = "token_used"          // it was good once
	TokenWrongStream  Code = "token_wrong_stream"  // it is for another app or room
	TokenWrongAction  Code = "token_wrong_action"  // to publish, not to play, or the other way
	TokenWrongAddress Code = "token_wrong_address" // it is bound to another address
	TokenRevoked      Code = "token_revoked"       // it is older than the key of the room
	TokenViewerLimit  Code = "token_viewer_limit"  // as many as may are watching with it
	SessionMissing    Code = "session_missing"
	SessionInvalid    Code = "session_invalid"       // for another room, or from before a restart
	SessionExpired    Code = "session_expired"       // token.session, or the claim session
	SessionEnded      Code = "session_ended"         // by the operator
	SessionAddress    Code = "session_wrong_address" // that of the token is bound to another
	AddressLimit      Code = "address_limit"         // too many sessions from one address
)

// unauthenticated reports whether c says that nobody has shown a credential that is good by itself.
func (c Code) unauthenticated() bool {
	switch c {
	case TokenMissing, TokenMalformed, TokenInvalid, TokenExpired, TokenNotYetValid:
		return true
	}
	return false
}

// ErrUnauthenticated is in the chain of a Denied that says: nobody has shown who he is. Another
// Denied says that who he is may not.
var ErrUnauthenticated = errors.New("no valid credential")

// An Error crosses packages. Err's text is for whoever made the request, so it never holds a key, a
// token or a path of ours.
type Error struct {
	Kind Kind
	Code Code   // "" where Kind says it
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

// Is has ErrUnauthenticated in the chain of what its Code says it of.
func (e *Error) Is(target error) bool {
	return target == ErrUnauthenticated && e.Code.unauthenticated()
}

// Errorf makes an Error of kind k with a formatted cause; %w works as in fmt.Errorf.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// CodeErrorf makes an Error of kind k with a Code, and a formatted cause.
func CodeErrorf(k Kind, c Code, format string, args ...any) error {
	return &Error{Kind: k, Code: c, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the code of the first Error in err's chain, "" when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// KindOf returns the kind of the first Error in err's chain, Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Reason returns what may be told to whoever was refused: the text of an Error, or a neutral
// sentence for a fault of ours, whose text may name files and addresses.
func Reason(err error) string {
	if KindOf(err) == Internal {
		return "internal error"
	}
	var e *Error
	errors.As(err, &e)
	return e.Err.Error()
}

// CodedReason returns Reason, behind the code of err and a colon where it has one: for protocols
// that have one text for both.
func CodedReason(err error) string {
	if c := CodeOf(err); c != "" {
		return string(c) + ": " + Reason(err)
	}
	return Reason(err)
}
