package redis

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"livego/internal/domain"
)

// Names in Redis. All have one hash tag, so that a Cluster keeps them on one node and a change of
// several is one operation.
//
//	{livego}:room:ROOM      a room with all its keys, sealed
//	{livego}:key:SHA256     the room that the key with this digest opens, sealed
//	{livego}:id:ID          the room of the key of this ID, sealed
//	{livego}:rooms          the names of all rooms, a sorted set
//	{livego}:revoked        what was revoked in the last day, a stream of sealed entries
//	{livego}:counter        the next number
//	{livego}:files          files that servers share, a hash of sealed values
//	{livego}:lock:NAME      who has a lock, until it expires
//	{livego}:spent:ID       a token that was good once, until it expires
const (
	prefix       = "{livego}:"
	roomName     = prefix + "room:"
	keyName      = prefix + "key:"
	idName       = prefix + "id:"
	roomsName    = prefix + "rooms"
	revokedName  = prefix + "revoked"
	counterName  = prefix + "counter"
	filesName    = prefix + "files"
	lockName     = prefix + "lock:"
	consumedName = prefix + "spent:"
)

// seal begins every value: what it is, in which version, and a checksum over that, the name it
// stands under and what follows. A value that something else has put there, or that was copied from
// another name, is none of ours.
const (
	valueVersion = "livego/1 "
	checksumLen  = 32 // hexadecimal
)

var errForeign = errors.New("a value in Redis is not livego's, or damaged")

func checksum(name, body string) string {
	h := sha256.Sum256([]byte(valueVersion + name + "\x00" + body))
	return hex.EncodeToString(h[:checksumLen/2])
}

// encodeValue returns v as it is stored under name.
func encodeValue(name string, v any) string {
	body, err := json.Marshal(v)
	if err != nil { // v is always of ours, and plain
		panic(err)
	}
	return valueVersion + checksum(name, string(body)) + " " + string(body)
}

// decodeValue reads into v what is stored under name.
func decodeValue(name, value string, v any) error {
	rest, ok := strings.CutPrefix(value, valueVersion)
	if !ok || len(rest) < checksumLen+1 || rest[checksumLen] != ' ' {
		return errForeign
	}
	got, body := rest[:checksumLen], rest[checksumLen+1:]
	if subtle.ConstantTimeCompare([]byte(got), []byte(checksum(name, body))) != 1 {
		return errForeign
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return errForeign
	}
	return nil
}

// indexValue is what an index holds.
type indexValue struct {
	Room string `json:"room"`
}

// A roomRecord is the record of a roomRecord. One without keys stands for a roomRecord that was
// just deleted, and goes away by itself.
type roomRecord struct {
	Rev  string      `json:"rev"` // another one at each write, so that no state comes twice
	Keys []keyRecord `json:"keys"`
}

// keyRecord is a domain.Key in Redis. Room and digest follow from the rest.
type keyRecord struct {
	ID         string      `json:"id"`
	App        string      `json:"app,omitempty"`
	Label      string      `json:"label,omitempty"`
	Role       domain.Role `json:"role,omitempty"`
	Created    time.Time   `json:"created"`
	Expires    time.Time   `json:"expires,omitzero"`
	LastUsed   time.Time   `json:"last_used,omitzero"`
	Generation uint64      `json:"generation"`
	Secret     string      `json:"secret"`
}

func (r keyRecord) key(room string) domain.Key {
	return domain.Key{
		ID: r.ID, Room: room, App: r.App, Label: r.Label, Role: r.Role, Created: r.Created, Expires: r.Expires,
		LastUsed: r.LastUsed, Generation: r.Generation, Digest: domain.Digest(r.Secret), Secret: r.Secret,
	}
}

func newKeyRecord(k domain.Key) keyRecord {
	return keyRecord{k.ID, k.App, k.Label, k.Role, k.Created, k.Expires, k.LastUsed, k.Generation, k.Secret}
}

// decodeRoom returns the keys of a room's value, ordered by app and label; "" has none.
func decodeRoom(name, value string) ([]domain.Key, error) {
	if value == "" {
		return nil, nil
	}
	var r roomRecord
	if err := decodeValue(roomName+name, value, &r); err != nil {
		return nil, err
	}
	keys := make([]domain.Key, len(r.Keys))
	for i, rec := range r.Keys {
		keys[i] = rec.key(name)
	}
	slices.SortFunc(keys, compareKeys)
	return keys, nil
}

// encodeRoom returns the value of a room with these keys.
func encodeRoom(name string, keys []domain.Key) string {
	r := roomRecord{Rev: domain.NewSecret()[:16]}
	for _, k := range keys {
		r.Keys = append(r.Keys, newKeyRecord(k))
	}
	return encodeValue(roomName+name, r)
}

func compareKeys(a, b domain.Key) int {
	if c := strings.Compare(a.App, b.App); c != 0 {
		return c
	}
	return strings.Compare(a.Label, b.Label)
}

// indexNames returns the names that lead to k.
func indexNames(k domain.Key) [2]string {
	return [2]string{keyName + hex.EncodeToString(k.Digest[:]), idName + k.ID}
}
