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

// A sessionToken is a viewer session as the query of the media playlist carries it. It is signed, so
// nothing is stored for a session before it is used. It has the limits of the viewer's token.
type sessionToken struct {
	id          sessionID
	issued      int64              // Unix time in ns
	expires     int64              // Unix time; 0: never
	viewerLimit domain.ViewerLimit // Max 0: no limit
	address     netip.Addr         // the only address that may use it; zero: any
	playback    quality.ID         // of the player, which can report; 0: none

	encoded [maxTokenSize]byte // the decoded text, with the signature
	length  int
}

// A session token is, in unpadded base64url: the ID of the key that signed it, its own ID, the times when
// it was issued and when it expires, flags, the viewer limit's ID and maximum if there is one, the address
// in 16 bytes if there is one, the ID of the playback if there is one, and the first 16 bytes of the
// signature.
const (
	headSize      = len(keyID{}) + len(sessionID{}) + 8 + 8 + 1
	limitSize     = 16 + 4
	signatureSize = 16
	maxTokenSize  = headSize + limitSize + 16 + 8 + signatureSize
	maxTokenText  = (8*maxTokenSize + 5) / 6
	flagLimit     = 1
	flagAddress   = 2
	flagPlayback  = 4
)

// A keyID says which key signed a session token.
type keyID [4]byte

// A signingKey signs session tokens.
type signingKey struct {
	id     keyID
	secret [32]byte
}

// newSigningKey derives a key from a secret that is used for other purposes too.
func newSigningKey(secret string) (k signingKey) {
	derive := func(to []byte, purpose string) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(purpose))
		copy(to, mac.Sum(nil))
	}
	derive(k.secret[:], "livego HLS sessions")
	derive(k.id[:], "livego HLS sessions: key ID")
	return k
}

// A signer encodes and verifies session tokens. Those of another server, or of the one before a restart,
// are valid if it has the same secret.
type signer struct {
	keys   []signingKey // the first signs
	coding *base64.Encoding
}

// newSigner returns a signer with a key for each secret or, without any, with one of its own.
func newSigner(secrets []string) *signer {
	s := &signer{coding: base64.RawURLEncoding.Strict()}
	for _, secret := range secrets {
		s.keys = append(s.keys, newSigningKey(secret))
	}
	if len(s.keys) == 0 {
		s.keys = []signingKey{newSigningKey(rand.Text())}
	}
	return s
}

// encode returns a new session token for grant and the playback of a player, for a URL.
func (s *signer) encode(grant domain.Grant, playback quality.ID, issued int64) string {
	b := make([]byte, 0, maxTokenSize)
	key := &s.keys[0]
	var id sessionID
	rand.Read(id[:])
	b = append(append(b, key.id[:]...), id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(issued))
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
	return s.coding.EncodeToString(append(b, key.sign(grant.Name, b)...))
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
	b := t.encoded[len(keyID{}) : t.length-signatureSize]
	t.id = sessionID(b)
	b = b[len(t.id):]
	t.issued = int64(binary.BigEndian.Uint64(b))
	t.expires = int64(binary.BigEndian.Uint64(b[8:]))
	flags := b[16]
	b = b[17:]
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

// verify reports whether a key of s signed t for name.
func (s *signer) verify(t *sessionToken, name domain.Name) bool {
	body, sum := t.encoded[:t.length-signatureSize], t.encoded[t.length-signatureSize:t.length]
	for i := range s.keys {
		if key := &s.keys[i]; key.id == keyID(body) {
			return hmac.Equal(sum, key.sign(name, body))
		}
	}
	return false
}

// sign returns the signature of body. The flags in body determine its length, so bytes cannot move
// between its fields and the name.
func (k *signingKey) sign(name domain.Name, body []byte) []byte {
	mac := hmac.New(sha256.New, k.secret[:])
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
