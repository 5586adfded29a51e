// Package keyexport is how push keys are written down: in answers of the operator's HTTP, and in
// the file by which they move from one store to another. It knows no store.
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

// A Key is a domain.Key as JSON. The documentation of the HTTP interface is made from its tags.
type Key struct {
	ID         string     `json:"id,omitempty" doc:"What the key is called when it is revoked. It opens nothing."`
	Room       string     `json:"room" doc:"The room that it publishes." maxLength:"128"`
	App        string     `json:"app,omitempty" doc:"The only app that it is good for. Absent: every app." maxLength:"128"`
	Label      string     `json:"label,omitempty" doc:"What tells it from the room's other keys. Absent: the default key, of which /control/get speaks. ~ is a default key that was replaced and is good for a while." maxLength:"128"`
	Role       string     `json:"role,omitempty" enum:"primary,backup" doc:"backup: its encoder steps in when the main one is silent. Absent: primary."`
	Created    *time.Time `json:"created,omitempty" doc:"Since when it has its present secret."`
	Expires    *time.Time `json:"expires,omitempty" doc:"When it ends. Absent: never."`
	LastUsed   *time.Time `json:"last_used,omitempty" doc:"When an encoder last came with it, to the minute. Absent: never."`
	Generation uint64     `json:"generation,omitempty" doc:"How many secrets it has had."`
	Secret     string     `json:"key,omitempty" doc:"The push key itself, 48 letters and digits. Only in the answer that makes it, and in an export."`
}

// FromDomain returns k as JSON has it.
func FromDomain(k domain.Key) Key {
	j := Key{
		ID: k.ID, Room: k.Room, App: k.App, Label: k.Label, Created: timePtr(k.Created), Expires: timePtr(k.Expires),
		LastUsed: timePtr(k.LastUsed), Generation: k.Generation, Secret: k.Secret,
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

// maxID bounds an ID, in bytes.
const maxID = 64

// ToDomain returns j as a store has it, after a look at all that came from outside. The error is of
// kind Invalid and never quotes a secret. What is absent stays so.
func (j Key) ToDomain() (domain.Key, error) {
	k := domain.Key{ID: j.ID, Room: j.Room, App: j.App, Label: j.Label, Generation: j.Generation, Secret: j.Secret}
	err := domain.CheckRoom(j.Room)
	if err == nil && j.App != "" {
		err = domain.CheckApp(j.App)
	}
	if err == nil && j.Label != domain.FormerLabel {
		err = domain.CheckLabel(j.Label)
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
		return domain.Key{}, domain.Errorf(domain.Invalid, "a key is %d letters and digits", domain.KeyLength)
	}
	if len(j.ID) > maxID {
		return domain.Key{}, domain.Errorf(domain.Invalid, "id is longer than %d characters", maxID)
	}
	for i := range len(j.ID) {
		if c := j.ID[i]; c <= ' ' || c >= 0x7f || c == '/' {
			return domain.Key{}, domain.Errorf(domain.Invalid, "id has a character that is none of its own")
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

// file is what a file of keys holds.
type file struct {
	Livego int   `json:"livego_keys"` // the version of the form
	Keys   []Key `json:"keys"`
}

const (
	// Version is the version of the form.
	Version = 1
	// maxFile bounds a file: 100,000 keys have half of it.
	maxFile = 64 << 20
)

// Encode writes keys to w, secrets and all.
func Encode(w io.Writer, keys []domain.Key) error {
	f := file{Livego: Version, Keys: []Key{}}
	for _, k := range keys {
		f.Keys = append(f.Keys, FromDomain(k))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(f)
}

// Decode reads what Encode wrote. One key that breaks a rule fails the whole.
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
		return nil, domain.Errorf(domain.Invalid, "no file of keys: %v", jsonErrorWithoutValues(err))
	}
	if f.Livego != Version {
		return nil, domain.Errorf(domain.Invalid, "a file of keys of version %d, and this livego knows %d", f.Livego, Version)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, domain.Errorf(domain.Invalid, "something follows the keys")
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

// jsonErrorWithoutValues says what is wrong with JSON without quoting it: it may be a secret.
func jsonErrorWithoutValues(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("broken at byte %d", syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Errorf("%s is of a wrong type", typ.Field)
	}
	return errors.New("it is broken off, or has a field that is not known")
}

// A Report says what came of an import.
type Report struct {
	Added   int      `json:"added" doc:"How many are new."`
	Same    int      `json:"same" doc:"How many were there already, just so."`
	Refused []string `json:"refused,omitempty" doc:"Which were not taken, and why."`
}

// Add adds other to r.
func (r *Report) Add(other Report) {
	r.Added += other.Added
	r.Same += other.Same
	r.Refused = append(r.Refused, other.Refused...)
}

// Import stores keys as they are. A key whose place is taken by another is refused; the error is the store's.
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
