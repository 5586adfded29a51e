package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"livego/internal/domain"
)

// getKey serves /control/get?room=R[&app=A]: it returns the room's default key, and creates it if
// it does not exist.
func (s *server) getKey(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.roomAndApp(r, args)
	if err != nil {
		return nil, err
	}
	if err := s.checkConfigured(app); err != nil {
		return nil, err
	}
	key, err := s.Keys.Get(r.Context(), app, room)
	if err != nil {
		return nil, s.storeError("get", app, room, err)
	}
	s.logControl("get", app, room, r)
	return key.Secret, nil
}

// resetKey serves /control/reset?room=R[&app=A][&all=1|&grace=60s]: it returns a new key. A
// publisher with an old key is disconnected, at once or after the grace period, and the stream is
// held for the new key.
func (s *server) resetKey(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.roomAndApp(r, args)
	if err != nil {
		return nil, err
	}
	if err := s.checkConfigured(app); err != nil {
		return nil, err
	}
	all, err := boolArgument(args, "all")
	if err != nil {
		return nil, err
	}
	grace, err := graceArgument(args)
	if err != nil {
		return nil, err
	}
	if all && grace > 0 {
		return nil, domain.Errorf(domain.Invalid, "all and grace cannot be combined")
	}
	// If a store stopped half-way because the client disconnected, a key could be revoked and its
	// publisher stay connected. So no change of keys is canceled.
	ctx := context.WithoutCancel(r.Context())
	key, revoked, err := s.Keys.Rotate(ctx, app, room, domain.Rotation{RevokeOthers: all, Grace: grace})
	if err != nil {
		return nil, s.storeError("reset", app, room, err)
	}
	s.revokeAfter(grace, revoked)
	s.logControl("reset", app, room, r)
	return key.Secret, nil
}

// revokeAfter disconnects the publishers that use revoked keys, now or after a grace period.
func (s *server) revokeAfter(grace time.Duration, revoked []domain.KeyRef) {
	if grace == 0 {
		s.revoker.Revoke(revoked, false)
		return
	}
	// a closed hub has no publishers left to disconnect
	time.AfterFunc(grace, func() { s.revoker.Revoke(revoked, false) })
}

// controlDelete serves /control/delete?room=R[&app=A]. It disconnects the publisher, also one without
// a key (rtmp_noauth), and ends the stream. An app that is no longer configured may still have keys
// to delete.
func (s *server) controlDelete(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.roomAndApp(r, args)
	if err == nil {
		err = s.deleteRoom(r.Context(), app, room)
	}
	if err != nil {
		return nil, err
	}
	s.logControl("delete", app, room, r)
	return "Ok", nil
}

// deleteRoom deletes the keys of a room, in app or for "" in every app, and ends its streams and
// sessions. A client that disconnects does not stop it.
func (s *server) deleteRoom(ctx context.Context, app, room string) error {
	revoked, err := s.Keys.Delete(context.WithoutCancel(ctx), app, room)
	if err != nil && domain.KindOf(err) != domain.NotFound {
		return s.storeError("delete", app, room, err)
	}
	s.revoker.Revoke(revoked, true)
	if !s.revoker.EndKeyless(app, room) && err != nil {
		return s.storeError("delete", app, room, err)
	}
	s.EndSessions(app, room)
	return nil
}

// roomAndApp returns the room of a request, and its app or "" for all apps.
func (s *server) roomAndApp(r *http.Request, args url.Values) (app, room string, err error) {
	room, _, err = argument(args, "room")
	if err != nil {
		return "", "", err
	}
	if room == "" {
		return "", "", domain.Errorf(domain.Invalid, "url: %s?room=<ROOM_NAME>", r.URL.Path)
	}
	if err := domain.CheckRoom(room); err != nil {
		return "", "", err
	}
	app, given, err := argument(args, "app")
	if err == nil && given {
		err = domain.CheckApp(app)
	}
	return app, room, err
}

// checkConfigured returns an error for an app that is not configured: a key for it would be
// useless.
func (s *server) checkConfigured(app string) error {
	if _, ok := s.app(app); app != "" && !ok {
		return domain.Errorf(domain.NotFound, "app %q is not configured", app)
	}
	return nil
}

// maxGrace is the longest grace period of a replaced key.
const maxGrace = 24 * time.Hour

// graceArgument returns the argument grace, a duration or a number of seconds; 0 if absent.
func graceArgument(args url.Values) (time.Duration, error) {
	value, _, err := argument(args, "grace")
	if err != nil {
		return 0, err
	}
	return parseGrace(value)
}

// parseGrace parses a grace period; 0 for "".
func parseGrace(value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if n, numErr := strconv.ParseUint(value, 10, 32); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxGrace {
		return 0, domain.Errorf(domain.Invalid, "invalid grace: must be a duration such as 60s, up to 24h")
	}
	return d, nil
}

// boolArgument returns a boolean argument, false if absent.
func boolArgument(args url.Values, name string) (bool, error) {
	value, given, err := argument(args, name)
	if err != nil || !given {
		return false, err
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, domain.Errorf(domain.Invalid, "%s must be 1 or 0", name)
	}
	return on, nil
}

// storeError returns the client's error for an error of the key store, and logs those that are not
// the client's fault.
func (s *server) storeError(action, app, room string, err error) error {
	kind := domain.KindOf(err)
	switch kind {
	case domain.NotFound:
		return domain.Errorf(domain.NotFound, "room not found")
	case domain.Unavailable:
		s.Log.Warn("key store unavailable", "action", action, "app", app, "room", room, "err", err)
		return domain.Errorf(domain.Unavailable, "key store unavailable")
	case domain.Internal:
		s.Log.Error("key store failed", "action", action, "app", app, "room", room, "err", err)
	}
	return err
}

func (s *server) logControl(action, app, room string, r *http.Request) {
	s.Log.Info("control", "action", action, "app", app, "room", room, "remote", r.RemoteAddr)
}
