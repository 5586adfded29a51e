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

	"livego/internal/live"
)

// Names in Redis. All have one hash tag, so that a Cluster keeps them on one node and a change of several is one operation.
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
	prefix      = "{livego}:"
	roomName    = prefix + "room:"
	keyName     = prefix + "key:"
	idName      = prefix + "id:"
	roomsName   = prefix + "rooms"
	revokedName = prefix + "revoked"
	counterName = prefix + "counter"
	filesName   = prefix + "files"
	lockName    = prefix + "lock:"
	spentName   = prefix + "spent:"
)

// seal begins every value: what it is, in which version, and a checksum over that, the name it stands under and what follows. A
// value that something else has put there, or that was copied from another name, is none of ours.
const (
	sealVersion = "livego/1 "
	sumLen      = 32 // hexadecimal
)

var errForeign = errors.New("a value in Redis is not livego's, or damaged")

func sum(name, body string) string {
	h := sha256.Sum256([]byte(sealVersion + name + "\x00" + body))
	return hex.EncodeToString(h[:sumLen/2])
}

// seal returns v as it is stored under name.
func seal(name string, v any) string {
	body, err := json.Marshal(v)
	if err != nil { // v is always of ours, and plain
		panic(err)
	}
	return sealVersion + sum(name, string(body)) + " " + string(body)
}

// unseal reads into v what is stored under name.
func unseal(name, value string, v any) error {
	rest, ok := strings.CutPrefix(value, sealVersion)
	if !ok || len(rest) < sumLen+1 || rest[sumLen] != ' ' {
		return errForeign
	}
	got, body := rest[:sumLen], rest[sumLen+1:]
	if subtle.ConstantTimeCompare([]byte(got), []byte(sum(name, body))) != 1 {
		return errForeign
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return errForeign
	}
	return nil
}

// pointer is what an index holds.
type pointer struct {
	Room string `json:"room"`
}

// A room is the record of a room. One without keys stands for a room that was just deleted, and goes away by itself.
type room struct {
	Rev  string   `json:"rev"` // another one at each write, so that no state comes twice
	Keys []record `json:"keys"`
}

// record is a live.Key in Redis. Room and digest follow from the rest.
type record struct {
	ID         string    `json:"id"`
	App        string    `json:"app,omitempty"`
	Label      string    `json:"label,omitempty"`
	Role       live.Role `json:"role,omitempty"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires,omitzero"`
	LastUsed   time.Time `json:"last_used,omitzero"`
	Generation uint64    `json:"generation"`
	Secret     string    `json:"secret"`
}

func (r record) key(room string) live.Key {
	return live.Key{
		ID: r.ID, Room: room, App: r.App, Label: r.Label, Role: r.Role, Created: r.Created, Expires: r.Expires,
		LastUsed: r.LastUsed, Generation: r.Generation, Digest: live.Digest(r.Secret), Secret: r.Secret,
	}
}

func recordOf(k live.Key) record {
	return record{k.ID, k.App, k.Label, k.Role, k.Created, k.Expires, k.LastUsed, k.Generation, k.Secret}
}

// decodeRoom returns the keys of a room's value, ordered by app and label; "" has none.
func decodeRoom(name, value string) ([]live.Key, error) {
	if value == "" {
		return nil, nil
	}
	var r room
	if err := unseal(roomName+name, value, &r); err != nil {
		return nil, err
	}
	keys := make([]live.Key, len(r.Keys))
	for i, rec := range r.Keys {
		keys[i] = rec.key(name)
	}
	slices.SortFunc(keys, byPlace)
	return keys, nil
}

// encodeRoom returns the value of a room with these keys.
func encodeRoom(name string, keys []live.Key) string {
	r := room{Rev: live.NewSecret()[:16]}
	for _, k := range keys {
		r.Keys = append(r.Keys, recordOf(k))
	}
	return seal(roomName+name, r)
}

func byPlace(a, b live.Key) int {
	if c := strings.Compare(a.App, b.App); c != 0 {
		return c
	}
	return strings.Compare(a.Label, b.Label)
}

// indexes returns the names that lead to k.
func indexes(k live.Key) [2]string {
	return [2]string{keyName + hex.EncodeToString(k.Digest[:]), idName + k.ID}
}
