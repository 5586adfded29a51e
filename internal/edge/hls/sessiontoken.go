package hls

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/netip"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/netx"
	"livego/internal/quality"
)

// A sessionToken is a viewer session as the query of the media playlist carries it. It is signed by
// this server, so nothing is stored for a session before it is used. It has the limits of the
// viewer's token.
type sessionToken struct {
	id          sessionID
	endSequence uint32             // number of times sessions had been ended when it was issued
	expires     int64              // Unix time; 0: never
	viewerLimit domain.ViewerLimit // Max 0: no limit
	address     netip.Addr         // the only address that may use it; zero: any
	playback    quality.ID         // of the player, which can report; 0: none

	encoded [maxTokenSize]byte // the decoded text, with the signature
	length  int
}

// A session token is, in unpadded base64url: the ID, the end sequence, the expiry time, flags, the
// viewer limit's ID and maximum if there is one, the address in 16 bytes if there is one, the ID of
// the playback if there is one, and the first 16 bytes of the signature.
const (
	headSize      = len(sessionID{}) + 4 + 8 + 1
	limitSize     = 16 + 4
	signatureSize = 16
	maxTokenSize  = headSize + limitSize + 16 + 8 + signatureSize
	maxTokenText  = (8*maxTokenSize + 5) / 6
	flagLimit     = 1
	flagAddress   = 2
	flagPlayback  = 4
)

// A signer encodes and verifies session tokens. They are valid for as long as the server runs.
type signer struct {
	secret [32]byte
	coding *base64.Encoding
}

func newSigner() *signer {
	s := &signer{coding: base64.RawURLEncoding.Strict()}
	rand.Read(s.secret[:])
	return s
}

// encode returns a new session token for grant and the playback of a player, for a URL.
func (s *signer) encode(grant domain.Grant, playback quality.ID, sequence uint32) string {
	b := make([]byte, 0, maxTokenSize)
	var id sessionID
	rand.Read(id[:])
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, sequence)
	expires, flags := int64(0), byte(0)
	if !grant.Expires.IsZero() {
		expires = grant.Expires.Unix()
	}
	if grant.ViewerLimit.Max > 0 {
		flags |= flagLimit
	}
	if grant.Address.IsValid() {
		flags |= flagAddress
	}
	if playback != 0 {
		flags |= flagPlayback
	}
	b = append(binary.BigEndian.AppendUint64(b, uint64(expires)), flags)
	if flags&flagLimit != 0 {
		b = append(b, grant.ViewerLimit.ID[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(min(grant.ViewerLimit.Max, 1<<31-1)))
	}
	if flags&flagAddress != 0 {
		addr := grant.Address.As16()
		b = append(b, addr[:]...)
	}
	if flags&flagPlayback != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(playback))
	}
	return s.coding.EncodeToString(append(b, s.sign(grant.Name, b)...))
}

// decode decodes a token that encode returned into t, without the signature, which verify checks;
// false if the format is invalid.
func (s *signer) decode(t *sessionToken, text string) bool {
	if t.length = s.coding.DecodedLen(len(text)); t.length > maxTokenSize {
		return false
	}
	var src [maxTokenText]byte
	n, err := s.coding.Decode(t.encoded[:], src[:copy(src[:], text)])
	// The decoder ignores line breaks: one token would have many texts.
	if err != nil || s.coding.EncodedLen(n) != len(text) || n < headSize+signatureSize {
		return false
	}
	b := t.encoded[:t.length-signatureSize]
	t.id = sessionID(b)
	b = b[len(t.id):]
	t.endSequence = binary.BigEndian.Uint32(b)
	t.expires = int64(binary.BigEndian.Uint64(b[4:]))
	flags := b[12]
	b = b[13:]
	if flags&flagLimit != 0 && len(b) >= limitSize {
		t.viewerLimit = domain.ViewerLimit{ID: [16]byte(b), Max: int(binary.BigEndian.Uint32(b[16:]))}
		b = b[limitSize:]
	}
	if flags&flagAddress != 0 && len(b) >= 16 {
		t.address = netip.AddrFrom16([16]byte(b)).Unmap()
		b = b[16:]
	}
	if flags&flagPlayback != 0 && len(b) >= 8 {
		t.playback = quality.ID(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	return len(b) == 0
}

// verify reports whether this server issued t for name.
func (s *signer) verify(t *sessionToken, name domain.Name) bool {
	body, sum := t.encoded[:t.length-signatureSize], t.encoded[t.length-signatureSize:t.length]
	return hmac.Equal(sum, s.sign(name, body))
}

// sign returns the signature of body. The flags in body determine its length, so bytes cannot move
// between its fields and the name.
func (s *signer) sign(name domain.Name, body []byte) []byte {
	mac := hmac.New(sha256.New, s.secret[:])
	mac.Write(body)
	mac.Write([]byte(name.String()))
	return mac.Sum(nil)[:signatureSize]
}

// authorize returns an error if the restrictions of t do not allow its use for r.
func (t *sessionToken) authorize(r *http.Request) error {
	if t.expires != 0 && time.Now().Unix() >= t.expires {
		return domain.CodeErrorf(domain.Denied, domain.SessionExpired, "session expired: start again with a valid token")
	}
	if t.address.IsValid() && t.address != netx.ClientAddr(r) {
		return domain.CodeErrorf(domain.Denied, domain.SessionAddress, "session is bound to another address")
	}
	return nil
}
