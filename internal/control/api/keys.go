package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/control/keyexport"
	"livego/internal/domain"
)

const (
	keysPath = v1 + "/keys"
	// maxImport is the maximum number of keys in one import request.
	maxImport = 200
)

// routeKeys registers the routes for stream keys. Requests name keys by ID, so that no URL contains
// a secret.
func (s *server) routeKeys(api huma.API) {
	huma.Register(api, operation("GET", keysPath, "list-keys", "List keys without their secrets, by room, app and label"),
		s.listKeys)
	make := operation("POST", keysPath, "make-key", "Create a further key of a room", http.StatusConflict,
		http.StatusTooManyRequests)
	make.DefaultStatus = http.StatusCreated
	huma.Register(api, make, s.makeKey)
	huma.Register(api, operation("DELETE", keysPath+"/{id}", "revoke-key",
		"Revoke a key and disconnect its publisher", http.StatusNotFound), s.revokeKey)
	huma.Register(api, operation("POST", keysPath+"/{id}/rotate", "rotate-key",
		"Replace a key by a new one, and disconnect the publisher that uses it", http.StatusNotFound), s.rotateKey)
	huma.Register(api, operation("GET", keysPath+"/export", "export-keys",
		"Export all keys with their secrets (role admin)"),
		s.exportKeys)
	huma.Register(api, operation("POST", keysPath+"/import", "import-keys", "Import keys unchanged (role admin)"),
		s.importKeys)
}

type listInput struct {
	Room   string `query:"room" maxLength:"128" doc:"Only keys of this room."`
	Cursor string `query:"cursor" maxLength:"128" doc:"next of the page before."`
	After  string `query:"after" maxLength:"128" doc:"The same as cursor: only rooms whose names sort after this one."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Maximum number of rooms."`
}

type keyList struct {
	Body struct {
		Keys []keyexport.Key `json:"keys"`
		Next string          `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listKeys(ctx context.Context, in *listInput) (*keyList, error) {
	in.After = cmp.Or(in.Cursor, in.After)
	for _, name := range []string{in.Room, in.After} {
		if err := domain.CheckRoom(name); name != "" && err != nil {
			return nil, humaError(err)
		}
	}
	var keys []domain.Key
	var err error
	if in.Room != "" {
		keys, err = s.Keys.List(ctx, in.Room)
	} else {
		keys, err = s.Keys.Page(ctx, in.After, in.Limit)
	}
	if err != nil {
		return nil, humaError(s.storeError("list", "", in.Room, err))
	}
	out := new(keyList)
	out.Body.Keys = []keyexport.Key{}
	rooms, last := 0, ""
	for _, k := range keys {
		k.Secret = "" // also if the store returned it
		out.Body.Keys = append(out.Body.Keys, keyexport.FromDomain(k))
		if k.Room != last {
			rooms, last = rooms+1, k.Room
		}
	}
	if in.Room == "" && rooms == in.Limit {
		out.Body.Next = last
	}
	return out, nil
}

type makeInput struct {
	Body struct {
		Room    string     `json:"room" maxLength:"128" doc:"The room, which need not exist."`
		App     string     `json:"app,omitempty" maxLength:"128" doc:"The only app that the key is valid for. Absent: every app."`
		Label   string     `json:"label,omitempty" maxLength:"128" doc:"A name that is unique among the room's keys. Absent: the default key."`
		Role    string     `json:"role,omitempty" enum:"primary,backup" doc:"backup: its encoder takes over when the primary encoder is idle or gone."`
		Expires *time.Time `json:"expires,omitempty" doc:"When the key expires. Absent: never."`
	}
}

type oneKey struct{ Body keyexport.Key }

func (s *server) makeKey(ctx context.Context, in *makeInput) (*oneKey, error) {
	b := in.Body
	k, err := keyexport.Key{Room: b.Room, App: b.App, Label: b.Label, Role: b.Role, Expires: b.Expires}.ToDomain()
	switch {
	case err != nil:
	case k.Label == domain.FormerLabel:
		err = domain.Errorf(domain.Invalid, "the label %s is reserved for replaced keys", domain.FormerLabel)
	case k.Label == "" && !k.Expires.IsZero():
		err = domain.Errorf(domain.Invalid, "the default key cannot expire: set a label")
	case !k.Expires.IsZero() && !k.Expires.After(time.Now()):
		err = domain.Errorf(domain.Invalid, "invalid expires: in the past")
	default:
		err = s.checkConfigured(k.App)
	}
	if err != nil {
		return nil, humaError(err)
	}
	k, err = s.Keys.Add(context.WithoutCancel(ctx), k)
	if err != nil {
		return nil, humaError(s.storeError("make", k.App, b.Room, err))
	}
	s.Log.Info("control", "action", "make key", "app", k.App, "room", k.Room, "label", k.Label)
	return &oneKey{keyexport.FromDomain(k)}, nil
}

// A KeyInput names a key. It is exported to be embedded in inputs.
type KeyInput struct {
	ID string `path:"id" maxLength:"64" doc:"The ID of the key, not the key itself."`
}

func (s *server) revokeKey(ctx context.Context, in *KeyInput) (*struct{}, error) {
	refs, err := s.Keys.Revoke(context.WithoutCancel(ctx), in.ID)
	if err != nil {
		if domain.KindOf(err) != domain.NotFound {
			err = s.storeError("revoke", "", "", err)
		}
		return nil, humaError(err)
	}
	s.revoker.Revoke(refs, false)
	s.Log.Info("control", "action", "revoke key", "id", in.ID)
	return nil, nil
}

type rotateInput struct {
	KeyInput
	Grace string `query:"grace" maxLength:"32" doc:"How long the key stays valid, up to 24h: 60s, 10m. Only for a key without a label."`
}

func (s *server) rotateKey(ctx context.Context, in *rotateInput) (*oneKey, error) {
	grace, err := parseGrace(in.Grace)
	if err != nil {
		return nil, humaError(err)
	}
	k, revoked, err := s.Keys.RotateKey(context.WithoutCancel(ctx), in.ID, grace)
	if err != nil {
		if domain.KindOf(err) != domain.NotFound {
			err = s.storeError("rotate", "", "", err)
		}
		return nil, humaError(err)
	}
	s.revokeAfter(grace, revoked)
	s.Log.Info("control", "action", "rotate key", "app", k.App, "room", k.Room, "label", k.Label)
	return &oneKey{keyexport.FromDomain(k)}, nil
}

type exportOutput struct {
	Body struct {
		Version int             `json:"livego_keys"`
		Keys    []keyexport.Key `json:"keys"`
	}
}

func (s *server) exportKeys(ctx context.Context, _ *struct{}) (*exportOutput, error) {
	keys, err := s.Keys.Dump(ctx)
	if err != nil {
		return nil, humaError(s.storeError("export", "", "", err))
	}
	out := new(exportOutput)
	out.Body.Version = keyexport.Version
	out.Body.Keys = []keyexport.Key{}
	for _, k := range keys {
		out.Body.Keys = append(out.Body.Keys, keyexport.FromDomain(k))
	}
	s.Log.Warn("control", "action", "export keys", "keys", len(keys))
	return out, nil
}

type importInput struct {
	Body struct {
		Keys []keyexport.Key `json:"keys" maxItems:"200"`
	}
}

type importOutput struct {
	Body keyexport.Report
}

func (s *server) importKeys(ctx context.Context, in *importInput) (*importOutput, error) {
	keys := make([]domain.Key, 0, min(len(in.Body.Keys), maxImport))
	for i, j := range in.Body.Keys {
		k, err := j.ToDomain()
		if err != nil {
			return nil, humaError(domain.Errorf(domain.Invalid, "key %d: %s", i+1, domain.Reason(err)))
		}
		keys = append(keys, k)
	}
	report, err := keyexport.Import(context.WithoutCancel(ctx), s.Keys, keys)
	if err != nil {
		return nil, humaError(s.storeError("import", "", "", err))
	}
	s.Log.Info("control", "action", "import keys", "added", report.Added, "already_present", report.Same, "refused",
		len(report.Refused))
	return &importOutput{report}, nil
}
