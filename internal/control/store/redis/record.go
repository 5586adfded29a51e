package redis

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"livego/internal/domain"
)

// Names in Redis. All have one hash tag, so that a Cluster keeps them on one node and one script
// can change several. Encoded values are those of encodeValue.
//
//	{livego}:room:ROOM      a room with all its keys, encoded
//	{livego}:key:SHA256     the room of the key with this digest, encoded
//	{livego}:id:ID          the room of the key with this ID, encoded
//	{livego}:rooms          the names of all rooms, a sorted set
//	{livego}:revoked        revocations of the last day, a stream of encoded entries
//	{livego}:counter        the next number
//	{livego}:files          files that servers share, a hash of encoded values
//	{livego}:lock:NAME      the owner of a lock, until it expires
//	{livego}:spent:ID       a consumed one-time token, until it expires
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

// Every encoded value starts with valueVersion and a checksum over the version, the name of the
// value and the data. A value that another program wrote, or that was copied from another name, is
// foreign.
const (
	valueVersion = "livego/1 "
	checksumLen  = 32 // hexadecimal digits
)

var errForeign = errors.New("foreign or damaged value in Redis")

func checksum(name, body string) string {
	h := sha256.Sum256([]byte(valueVersion + name + "\x00" + body))
	return hex.EncodeToString(h[:checksumLen/2])
}

// encodeValue returns v as it is stored under name.
func encodeValue(name string, v any) string {
	body, err := json.Marshal(v)
	if err != nil { // v is always one of our plain structs
		panic(err)
	}
	return valueVersion + checksum(name, string(body)) + " " + string(body)
}

// decodeValue decodes into v the value that is stored under name.
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

// indexValue is the value of an index entry.
type indexValue struct {
	Room string `json:"room"`
}

// A roomRecord is the record of a room. A record without keys marks a room that was just deleted,
// and expires.
type roomRecord struct {
	Rev  string       `json:"rev"`  // differs for each write, so that no state occurs twice
	Keys []domain.Key `json:"keys"` // without Room
}

// decodeRoom returns the keys of a room's value, ordered by app and label; none for "".
func decodeRoom(name, value string) ([]domain.Key, error) {
	if value == "" {
		return nil, nil
	}
	var r roomRecord
	if err := decodeValue(roomName+name, value, &r); err != nil {
		return nil, err
	}
	for i := range r.Keys {
		r.Keys[i].Room, r.Keys[i].Digest = name, domain.Digest(r.Keys[i].Secret)
	}
	slices.SortFunc(r.Keys, compareKeys)
	return r.Keys, nil
}

// encodeRoom returns the value of a room with these keys.
func encodeRoom(name string, keys []domain.Key) string {
	r := roomRecord{Rev: domain.NewSecret()[:16]}
	for _, k := range keys {
		k.Room = ""
		r.Keys = append(r.Keys, k)
	}
	return encodeValue(roomName+name, r)
}

func compareKeys(a, b domain.Key) int {
	return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Label, b.Label))
}

// indexNames returns the names of the index entries of k.
func indexNames(k domain.Key) [2]string {
	return [2]string{keyName + hex.EncodeToString(k.Digest[:]), idName + k.ID}
}
