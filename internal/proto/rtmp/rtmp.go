// Package rtmp implements RTMP 1.0 with the commands that encoders and players use: handshake,
// chunks, messages, and the two sides of a connection, ServerConn and ClientConn. It knows nothing
// of rooms, stream keys or streams, nor of the content of media payloads. TLS is up to the caller:
// it works on any net.Conn.
//
// Paragraph numbers refer to "Adobe's Real Time Messaging Protocol", 1.0, 2012.
//
// # Goroutines
//
// One goroutine at a time reads a connection: the one that calls Accept or ReadMessage. Any other
// goroutine may write to it or close it meanwhile. Replies of the reading goroutine never wait for a
// media write that a slow peer blocks: they are queued, and the writing goroutine sends them between
// two messages.
package rtmp

import (
	"errors"
	"time"
)

// Message types, §5.4 and §7.1.
const (
	typeSetChunkSize  = 1
	typeAbort         = 2
	typeAck           = 3
	typeUserControl   = 4
	typeWindowAck     = 5
	typePeerBandwidth = 6
	TypeAudio         = 8
	TypeVideo         = 9
	typeDataAMF3      = 15
	typeSharedAMF3    = 16
	typeCommandAMF3   = 17
	TypeData          = 18 // AMF0 values, such as onMetaData
	typeShared        = 19
	typeCommand       = 20
	typeAggregate     = 22
)

// User control events, §7.1.7.
const (
	eventStreamBegin  = 0
	eventStreamEOF    = 1
	eventPingRequest  = 6
	eventPingResponse = 7
)

// Limits that are not configurable.
const (
	// OutChunkSize is the chunk size of livego in bytes: most frames fit one chunk, and a reply
	// waits for one chunk at most.
	OutChunkSize = 60000

	maxChunkStreams = 64
	maxStreams      = 8         // message streams that a client may create
	maxFourCCs      = 64        // FourCCs in a client's list
	maxControl      = 64 << 10  // bytes of a message that is not media
	maxNegotiation  = 256 << 10 // bytes in total before publish or play is accepted
	maxReassembly   = 16 << 20  // bytes of unfinished messages on all chunk streams of a publisher
	maxAggregated   = 4096      // messages in an aggregate
	maxPending      = 64 << 10  // bytes of replies for a peer that does not read
	maxReplies      = 20        // replies to pings in a second
	window          = 2500000   // bytes between acknowledgements, as Flash Media Server sets it
	minWindow       = 64 << 10  // smallest window that a peer can request
	readBuffer      = 4 << 10   // bytes, before publish or play
	readBufferMedia = 32 << 10  // bytes, for a publisher
)

// A Message is one message of the chunk layer.
type Message struct {
	Type      uint8
	Timestamp uint32 // milliseconds modulo 2^32, compared by RFC 1982 (§4)
	StreamID  uint32
	Payload   []byte // owned by the receiver of the Message
}

// A Header is a message without its payload.
type Header struct {
	Type      uint8
	Timestamp uint32
	StreamID  uint32
}

// Options are the settings of a connection. A zero field means its default.
type Options struct {
	HandshakeTimeout time.Duration // for the whole handshake; default 5 s
	CommandTimeout   time.Duration // from NewServerConn to publish or play; default 10 s
	WriteTimeout     time.Duration // without write progress; default 10 s
	PingInterval     time.Duration // between pings; default 15 s
	// LingerTimeout is for a refused peer to read the reason before its connection is closed;
	// default 1 s.
	LingerTimeout time.Duration
	MaxMessage    int // most bytes of a message of a publisher; default 8 MiB

	// CheckApp checks whether an app of this name exists; the text of the error is sent to the
	// peer. Nil allows all.
	CheckApp func(app string) error

	// HTTPReply, if not nil, is sent to a client that sends an HTTP request, before its connection
	// is closed.
	HTTPReply []byte

	// SkipCount, if not nil, is called for each invalid element that was skipped, with a fixed word
	// that names its kind.
	SkipCount func(reason string)
}

func (o Options) withDefaults() Options {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	or(&o.HandshakeTimeout, 5*time.Second)
	or(&o.CommandTimeout, 10*time.Second)
	or(&o.WriteTimeout, 10*time.Second)
	or(&o.PingInterval, 15*time.Second)
	or(&o.LingerTimeout, time.Second)
	if o.MaxMessage == 0 {
		o.MaxMessage = 8 << 20
	}
	if o.SkipCount == nil {
		o.SkipCount = func(string) {}
	}
	return o
}

// ErrStreamEnded reports that the peer ended its stream by FCUnpublish, deleteStream or
// closeStream.
var ErrStreamEnded = errors.New("rtmp: stream ended by the peer")

// A ProtocolError is a violation of the protocol that ends the connection.
type ProtocolError struct {
	// Reason is a word for metrics: handshake, timeout, chunk, limit, control, aggregate, amf or
	// command.
	Reason string
	Detail string // for people; contains no key and no query parameter
}

func (e *ProtocolError) Error() string { return "rtmp: " + e.Detail }

// A StatusError is an error status of RTMP: on a client the reply of the server, on a server the
// reply that was sent.
type StatusError struct {
	Code        string // such as NetStream.Publish.BadName
	Description string
}

func (e *StatusError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}
