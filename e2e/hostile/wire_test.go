package hostile

import (
	"encoding/binary"
	"slices"

	"livego/e2e/rtmp"
)

// RTMP message types, with the names that the tables use.
const (
	setChunkSize  = rtmp.SetChunkSize
	abort         = rtmp.Abort
	ack           = rtmp.Ack
	userControl   = rtmp.UserControl
	windowAck     = rtmp.WindowAck
	peerBandwidth = rtmp.PeerBandwidth
	audio         = rtmp.Audio
	video         = rtmp.Video
	dataAMF3      = rtmp.DataAMF3
	sharedAMF3    = rtmp.SharedObjectAMF3
	commandAMF3   = rtmp.CommandAMF3
	data          = rtmp.Data
	shared        = rtmp.SharedObject
	command       = rtmp.Command
	aggregate     = rtmp.Aggregate

	defaultChunk = rtmp.DefaultChunkSize
)

type (
	message = rtmp.Message
	object  = rtmp.Object
	ecma    = rtmp.ECMAArray
	array   = rtmp.StrictArray
	raw     = rtmp.Raw
)

func amf(values ...any) []byte { return rtmp.AMF(values...) }

func be24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func append24(b []byte, v uint32) []byte { return append(b, byte(v>>16), byte(v>>8), byte(v)) }

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// control returns a protocol control message.
func control(typ byte, payload []byte) []byte {
	return message{CSID: 2, Type: typ, Payload: payload}.DefaultChunks()
}

// call returns a command with these AMF0 values.
func call(msid uint32, values ...any) []byte {
	return message{Type: command, StreamID: msid, Payload: amf(values...)}.DefaultChunks()
}

// connect returns a connect command for app; more are further properties.
func connect(app string, more ...any) []byte {
	return call(0, "connect", 1, append(object{"app", app, "tcUrl", "rtmp://127.0.0.1/" + app}, more...))
}

// short returns a string with its length in two bytes, without a marker.
func short(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
