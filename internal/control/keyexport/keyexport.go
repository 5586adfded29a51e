// Package keyexport encodes stream keys as JSON: in responses of the operator's HTTP, and in the
// file that moves keys from one store to another. It knows no store.
package keyexport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"livego/internal/domain"
	"livego/internal/ops/textfile"
)

// A Key is a domain.Key as JSON. Its tags are the documentation of the HTTP interface.
type Key struct {
	ID          string     `json:"id,omitempty" doc:"The key's ID, for example to revoke it. It is not a secret."`
	Room        string     `json:"room" doc:"The room that the key publishes to." maxLength:"128"`
	App         string     `json:"app,omitempty" doc:"The only app that the key is valid for. Absent: every app." maxLength:"128"`
	Label       string     `json:"label,omitempty" doc:"Distinguishes the room's keys. Absent: the default key, which /control/get returns. ~ is a replaced default key in its grace period." maxLength:"128"`
	Role        string     `json:"role,omitempty" enum:"primary,backup" doc:"backup: its encoder becomes the publisher when the primary encoder is idle or gone. Absent: primary."`
	Created     *time.Time `json:"created,omitempty" doc:"When the current secret was created."`
	Expires     *time.Time `json:"expires,omitempty" doc:"When the key expires. Absent: never."`
	LastUsed    *time.Time `json:"last_used,omitempty" doc:"When an encoder last used the key, to the minute. Absent: never."`
	Generation  uint64     `json:"generation,omitempty" doc:"How many secrets the key has had."`
	Description string     `json:"description,omitempty" doc:"Of the room, in one of its keys." maxLength:"256"`
	Secret      string     `json:"key,omitempty" doc:"The stream key itself, 48 letters and digits. Only in the response that creates it, and in an export."`
}

// FromDomain returns k as JSON encodes it.
func FromDomain(k domain.Key) Key {
	j := Key{
		ID: k.ID, Room: k.Room, App: k.App, Label: k.Label, Created: timePtr(k.Created), Expires: timePtr(k.Expires),
		LastUsed: timePtr(k.LastUsed), Generation: k.Generation, Secret: k.Secret,
		Description: k.Description,
	}
	if k.Role == domain.Backup {
		j.Role = domain.Backup.String()
	}
	return j
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// maxID is the longest ID, in bytes.
const maxID = 64

// ToDomain validates j and returns it as a store has it. Absent fields stay zero. The error is of
// kind Invalid and never quotes a secret.
func (j Key) ToDomain() (domain.Key, error) {
	k := domain.Key{ID: j.ID, Room: j.Room, App: j.App, Label: j.Label, Generation: j.Generation, Secret: j.Secret,
		Description: j.Description}
	err := domain.CheckRoom(j.Room)
	if err == nil && j.App != "" {
		err = domain.CheckApp(j.App)
	}
	if err == nil && j.Label != domain.FormerLabel {
		err = domain.CheckLabel(j.Label)
	}
	if err == nil {
		err = domain.CheckDescription(j.Description)
	}
	switch {
	case err != nil:
		return domain.Key{}, err
	case j.Role == domain.Backup.String():
		k.Role = domain.Backup
	case j.Role != "" && j.Role != domain.Primary.String():
		return domain.Key{}, domain.Errorf(domain.Invalid, "role must be primary or backup")
	}
	if j.Secret != "" && !domain.LooksLikeKey(j.Secret) {
		return domain.Key{}, domain.Errorf(domain.Invalid, "invalid key: must be %d letters and digits", domain.KeyLength)
	}
	if len(j.ID) > maxID {
		return domain.Key{}, domain.Errorf(domain.Invalid, "id is longer than %d characters", maxID)
	}
	for i := range len(j.ID) {
		if c := j.ID[i]; c <= ' ' || c >= 0x7f || c == '/' {
			return domain.Key{}, domain.Errorf(domain.Invalid, "id has an invalid character")
		}
	}
	for from, to := range map[*time.Time]*time.Time{j.Created: &k.Created, j.Expires: &k.Expires,
		j.LastUsed: &k.LastUsed} {
		if from != nil {
			*to = from.UTC()
		}
	}
	return k, nil
}

// file is the content of a key file.
type file struct {
	Livego int   `json:"livego_keys"` // version of the format
	Keys   []Key `json:"keys"`
}

const (
	// Version is the version of the format.
	Version = 1
	// maxFile is the largest key file, in bytes: 100,000 keys take half of it.
	maxFile = 64 << 20
)

// Encode writes keys with their secrets to w.
func Encode(w io.Writer, keys []domain.Key) error {
	f := file{Livego: Version, Keys: []Key{}}
	for _, k := range keys {
		f.Keys = append(f.Keys, FromDomain(k))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(f)
}

// Decode reads a file that Encode wrote. One invalid key fails the whole file.
func Decode(r io.Reader) ([]domain.Key, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxFile:
		return nil, domain.Errorf(domain.Invalid, "the file is larger than %d MiB", maxFile>>20)
	}
	if data, err = textfile.Decode(data); err != nil {
		return nil, &domain.Error{Kind: domain.Invalid, Err: err}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, domain.Errorf(domain.Invalid, "not a key file: %v", jsonErrorWithoutValues(err))
	}
	if f.Livego != Version {
		return nil, domain.Errorf(domain.Invalid, "key file has version %d, this livego supports version %d", f.Livego,
			Version)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, domain.Errorf(domain.Invalid, "data after the keys")
	}
	var keys []domain.Key
	for i, j := range f.Keys {
		k, err := j.ToDomain()
		if err != nil {
			return nil, domain.Errorf(domain.Invalid, "key %d: %s", i+1, domain.Reason(err))
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// jsonErrorWithoutValues describes a JSON error without quoting the input, which may be a secret.
func jsonErrorWithoutValues(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("invalid JSON at byte %d", syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Errorf("%s has the wrong type", typ.Field)
	}
	return errors.New("truncated, or unknown field")
}

// A Report is the result of an import.
type Report struct {
	Added   int      `json:"added" doc:"Keys that were added."`
	Same    int      `json:"same" doc:"Keys that existed already, unchanged."`
	Refused []string `json:"refused,omitempty" doc:"The reasons of the keys that were refused."`
}

// Add adds other to r.
func (r *Report) Add(other Report) {
	r.Added += other.Added
	r.Same += other.Same
	r.Refused = append(r.Refused, other.Refused...)
}

// Import stores keys unchanged. A key that conflicts with another key is reported as refused; the
// error is the store's.
func Import(ctx context.Context, store domain.KeyStore, keys []domain.Key) (Report, error) {
	var r Report
	for _, k := range keys {
		_, err := store.Add(ctx, k)
		if domain.KindOf(err) == domain.Conflict && k.Secret != "" {
			if there, resolveErr := store.Resolve(ctx, k.App, k.Secret); resolveErr == nil && there.Room == k.Room &&
				there.App == k.App && there.Label == k.Label {
				r.Same++
				continue
			}
		}
		switch kind := domain.KindOf(err); {
		case err == nil:
			r.Added++
		case kind == domain.Conflict, kind == domain.Limit:
			r.Refused = append(r.Refused, domain.Reason(err))
		default:
			return r, err
		}
	}
	return r, nil
}
