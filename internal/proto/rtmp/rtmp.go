// Package rtmp speaks RTMP 1.0 with the command set that encoders and players use: handshake,
// chunks, messages, and the two ends of a connection, ServerConn and ClientConn. It knows nothing
// of rooms, keys or streams, nor of what media payloads hold, and TLS is the caller's affair: it
// takes any net.Conn.
//
// Paragraph numbers refer to "Adobe's Real Time Messaging Protocol", 1.0, 2012.
//
// # Goroutines
//
// A connection is read by one goroutine at a time: the one that calls Accept, ReadMessage or
// ServePlayer. Any other may write to it or close it meanwhile. Answers that reading calls for
// never wait behind a media write that a slow peer holds up: they queue, and whoever writes sends
// them between two messages.
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
	TypeData          = 18 // AMF0 values: onMetaData and its like
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

// Limits that no setting moves.
const (
	OutChunkSize = 60000 // bytes a chunk to the peer: most frames are one chunk, and a reply waits for no more than this

	maxChunkStreams  = 64
	maxStreams       = 8         // message streams that a client may have open
	maxFourCCs       = 64        // of a client's list
	maxControl       = 64 << 10  // bytes of a message that is not media
	maxNegotiation   = 256 << 10 // bytes in all before publish or play is accepted
	maxReassembly    = 16 << 20  // bytes of messages in pieces, over all chunk streams of a publisher
	maxAggregated    = 4096      // messages in an aggregate
	maxPending       = 64 << 10  // bytes of answers that wait for a peer who does not read
	maxReplies       = 20        // answers to pings a second
	window           = 2500000   // bytes between acknowledgements that we ask for, the custom of FMS
	minWindow        = 64 << 10  // however often the peer wants them
	readBuffer       = 4 << 10   // before publish or play
	readBufferMedia  = 32 << 10  // of a publisher
	readBufferPlayer = 1 << 10   // of a player, who sends acknowledgements only: there are thousands
)

// A Message is one message of the chunk layer.
type Message struct {
	Type      uint8
	Timestamp uint32 // milliseconds modulo 2^32; §4 compares them by RFC 1982
	StreamID  uint32
	Payload   []byte // who gets a Message owns it
}

// A Header is a message without its payload.
type Header struct {
	Type      uint8
	Timestamp uint32
	StreamID  uint32
}

// Options are the settings of a connection. A field of value zero has its default.
type Options struct {
	HandshakeTimeout time.Duration // for the whole handshake: 5 s
	CommandTimeout   time.Duration // from New to publish or play: 10 s
	WriteTimeout     time.Duration // without write progress: 10 s
	PingInterval     time.Duration // between pings: 15 s
	LingerTimeout    time.Duration // for a refused peer to read why, before its connection is reset: 1 s
	MaxMessage       int           // bytes of a message of a publisher: 8 MiB

	// CheckApp says whether there is an application of that name; the error's text goes to the peer. Nil allows all.
	CheckApp func(app string) error

	// HTTPReply, when not nil, is sent to a client that speaks HTTP, before its connection is closed.
	HTTPReply []byte

	// SkipCount, when not nil, is called with a fixed word for each thing that was out of order and passed over.
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

// ErrStreamEnded tells that the peer ended its stream in due form: FCUnpublish, deleteStream or closeStream.
var ErrStreamEnded = errors.New("rtmp: stream ended by the peer")

// A ProtocolError is a violation after which the connection can't go on.
type ProtocolError struct {
	Reason string // for counters: handshake, timeout, chunk, limit, control, aggregate, amf or command
	Detail string // for people; holds no key and no argument
}

func (e *ProtocolError) Error() string { return "rtmp: " + e.Detail }

// A StatusError is a refusal in RTMP's words: for a client what the server answered, for a server what it has told the
// client.
type StatusError struct {
	Code        string // NetStream.Publish.BadName and so on
	Description string
}

func (e *StatusError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}
