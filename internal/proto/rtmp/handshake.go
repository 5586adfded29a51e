package rtmp

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
)

const (
	version       = 3
	versionRTMPE  = 6
	handshakeSize = 1536
	digestSize    = sha256.Size
)

// The digest handshake is not in the specification. Flash Media Server and Flash Player introduced
// it, and some players accept H.264 only after it. C1 and S1 contain an HMAC of themselves, at an
// offset that their own bytes give; C2 and S2 contain an HMAC of the other side's digest. The key
// of the first digest is an ASCII sentence; the key of the second has 32 more bytes, the same for
// both sides.
const (
	serverKey    = "Genuine Adobe Flash Media Server 001" + commonKey
	serverKeyLen = 36
	playerKey    = "Genuine Adobe Flash Player 001" + commonKey
	playerKeyLen = 30
	commonKey    = "\xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57" +
		"\x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae"
)

// serverHandshake performs the server side of the handshake (§5.2). A C1 with a digest gets a
// digest, any other is echoed. C2 is read and not checked, because encoders send arbitrary bytes in
// it.
func serverHandshake(rw io.ReadWriter) error {
	c0 := make([]byte, 1)
	if _, err := io.ReadFull(rw, c0); err != nil {
		return unexpectedEOF(err)
	}
	if err := checkVersion(c0[0], "client"); err != nil {
		return err
	}
	c1 := make([]byte, handshakeSize)
	if _, err := io.ReadFull(rw, c1); err != nil {
		return unexpectedEOF(err)
	}
	if _, err := rw.Write(serverReply(c1)); err != nil {
		return err
	}
	_, err := io.ReadFull(rw, c1) // C2
	return unexpectedEOF(err)
}

// checkVersion checks C0 or S0 of the peer, which is "client" or "server". Versions 0 to 2 are
// deprecated and 4 to 31 reserved; the reply to them is 3 (§5.2.2).
func checkVersion(v byte, peer string) error {
	var detail string
	switch {
	case v == versionRTMPE:
		detail = "encrypted RTMP (RTMPE) is not supported"
	case v == 0x16:
		detail = fmt.Sprintf("the %s uses TLS on the plain RTMP port: use the RTMPS port", peer)
	case v >= 0x20 && v < 0x7f:
		detail = fmt.Sprintf("the %s uses HTTP or another text protocol on the RTMP port: use an HTTP port", peer)
	case v >= 0x20:
		detail = fmt.Sprintf("unsupported version 0x%02x", v)
	default:
		return nil
	}
	return &ProtocolError{"handshake", detail}
}

// serverReply returns S0, S1 and S2 for c1.
func serverReply(c1 []byte) []byte {
	out := make([]byte, 1+2*handshakeSize)
	out[0] = version
	s1, s2 := out[1:1+handshakeSize], out[1+handshakeSize:]
	rand.Read(s1[8:])
	at, schema := -1, 0
	if !bytes.Equal(c1[4:8], make([]byte, 4)) {
		at, schema = findDigest(c1, playerKey[:playerKeyLen])
	}
	if at < 0 {
		copy(s2, c1)
		return out
	}
	copy(s1[4:], []byte{4, 0, 0, 1}) // ffmpeg verifies the digest of servers from version 3 on
	signFirst(s1, schema, serverKey[:serverKeyLen])
	rand.Read(s2[:handshakeSize-digestSize])
	signSecond(s2, c1[at:at+digestSize], serverKey)
	return out
}

// clientHandshake performs the client side of the handshake. It offers a digest, and accepts an
// echo too.
func clientHandshake(rw io.ReadWriter) error {
	out := make([]byte, 1+handshakeSize)
	out[0] = version
	c1 := out[1:]
	rand.Read(c1[8:])
	copy(c1[4:], []byte{9, 0, 124, 2})
	signFirst(c1, 0, playerKey[:playerKeyLen])
	if _, err := rw.Write(out); err != nil {
		return err
	}

	in := make([]byte, 1+handshakeSize)
	n, err := io.ReadFull(rw, in)
	if n > 0 { // servers of other protocols send little and close the connection
		if err := checkVersion(in[0], "server"); err != nil {
			return err
		}
	}
	if err != nil {
		return unexpectedEOF(err)
	}
	c2 := in[1:] // without a digest, C2 is the echo of S1
	if at, _ := findDigest(c2, serverKey[:serverKeyLen]); at >= 0 {
		digest := bytes.Clone(c2[at : at+digestSize])
		rand.Read(c2[:handshakeSize-digestSize])
		signSecond(c2, digest, playerKey)
	}
	if _, err := rw.Write(c2); err != nil {
		return err
	}
	_, err = io.ReadFull(rw, c1) // S2
	return unexpectedEOF(err)
}

// digestAt returns the offset of the digest in p, a C1 or S1. There are two schemas; only trying
// both tells which one the peer uses.
func digestAt(p []byte, schema int) int {
	base := 8
	if schema == 1 {
		base = 772
	}
	sum := int(p[base]) + int(p[base+1]) + int(p[base+2]) + int(p[base+3])
	return base + 4 + sum%728
}

// findDigest returns the offset of the digest in p and its schema, or -1 if there is none.
func findDigest(p []byte, key string) (at, schema int) {
	for schema := range 2 {
		at := digestAt(p, schema)
		if hmac.Equal(p[at:at+digestSize], firstDigest(p, at, key)) {
			return at, schema
		}
	}
	return -1, 0
}

func signFirst(p []byte, schema int, key string) {
	at := digestAt(p, schema)
	copy(p[at:], firstDigest(p, at, key))
}

// firstDigest returns the HMAC of p without the bytes of the digest.
func firstDigest(p []byte, at int, key string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(p[:at])
	h.Write(p[at+digestSize:])
	return h.Sum(nil)
}

// signSecond writes the digest of p, a C2 or S2, at its end. The key is an HMAC of the other side's
// digest.
func signSecond(p, digest []byte, key string) {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(digest)
	h = hmac.New(sha256.New, h.Sum(nil))
	h.Write(p[:handshakeSize-digestSize])
	copy(p[handshakeSize-digestSize:], h.Sum(nil))
}

// unexpectedEOF returns io.ErrUnexpectedEOF for io.EOF, and other errors unchanged.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
