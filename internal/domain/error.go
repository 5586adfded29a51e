package domain

import (
	"errors"
	"fmt"
)

// Kind is the machine-readable part of an Error. Each edge has one table from Kind to the replies
// of its protocol.
type Kind uint8

// Kinds of errors. Internal is the zero value: an error without a kind is a fault of the server.
const (
	Internal    Kind = iota // a bug, or a resource of the server failed
	Invalid                 // the request breaks a rule; it will never succeed
	Denied                  // the client is not allowed to
	NotFound                // it does not exist
	Conflict                // it is in use
	Limit                   // a limit is reached; a later request may succeed
	Unavailable             // a dependency is unavailable, or the server is stopping
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

// A Code tells programs why a token or session was refused. Players and scripts depend on codes, so
// they do not change. HTTP sends them in the header Livego-Error; RTMP and WebSocket put them
// before the reason.
type Code string

// Codes.
const (
	TokenMissing      Code = "token_missing"
	TokenMalformed    Code = "token_malformed"     // unknown form; claim missing or of wrong type
	TokenInvalid      Code = "token_invalid"       // signature, algorithm, key, issuer, audience; exp too late
	TokenExpired      Code = "token_expired"       // exp
	TokenNotYetValid  Code = "token_not_yet_valid" // nbf or iat
	TokenUsed         Code = "token_used"          // a one-time token that was used
	TokenWrongStream  Code = "token_wrong_stream"  // for another app or room
	TokenWrongAction  Code = "token_wrong_action"  // for publishing, not playing, or the reverse
	TokenWrongAddress Code = "token_wrong_address" // bound to another address
	TokenRevoked      Code = "token_revoked"       // older than the key of the room
	TokenViewerLimit  Code = "token_viewer_limit"  // its viewer limit is reached
	SessionMissing    Code = "session_missing"
	SessionInvalid    Code = "session_invalid"       // for another room, or from before a restart
	SessionExpired    Code = "session_expired"       // token.session, or the claim session
	SessionEnded      Code = "session_ended"         // ended by the operator
	SessionAddress    Code = "session_wrong_address" // its token is bound to another address
	AddressLimit      Code = "address_limit"         // too many sessions from one address
)

// unauthenticated reports whether c means that the client has shown no valid credential.
func (c Code) unauthenticated() bool {
	switch c {
	case TokenMissing, TokenMalformed, TokenInvalid, TokenExpired, TokenNotYetValid:
		return true
	}
	return false
}

// ErrUnauthenticated is in the chain of a Denied error for a client that has shown no valid
// credential. Another Denied error means that the client is known and not allowed.
var ErrUnauthenticated = errors.New("no valid credential")

// An Error crosses packages. Err's text is sent to the client, so it never holds a key, a token or
// a path of the server.
type Error struct {
	Kind Kind
	Code Code   // "" if Kind is enough
	Op   string // the operation that failed, "" if Err says it
	Name Name   // the stream, zero if there is none
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

// Is reports whether target is ErrUnauthenticated and e's Code means that.
func (e *Error) Is(target error) bool {
	return target == ErrUnauthenticated && e.Code.unauthenticated()
}

// Errorf returns an Error of kind k with a formatted cause; %w works as in fmt.Errorf.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// CodeErrorf returns an Error of kind k with a Code and a formatted cause.
func CodeErrorf(k Kind, c Code, format string, args ...any) error {
	return &Error{Kind: k, Code: c, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the code of the first Error in err's chain, "" if there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// KindOf returns the kind of the first Error in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Reason returns the text of err for the client: that of an Error, or a neutral sentence for an
// internal error, whose text may name files and addresses.
func Reason(err error) string {
	if KindOf(err) == Internal {
		return "internal error"
	}
	var e *Error
	errors.As(err, &e)
	return e.Err.Error()
}

// CodedReason returns Reason after the code of err and a colon, for protocols that have one text
// for both. Without a code it returns Reason.
func CodedReason(err error) string {
	if c := CodeOf(err); c != "" {
		return string(c) + ": " + Reason(err)
	}
	return Reason(err)
}
