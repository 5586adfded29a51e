package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"livego/internal/live"
)

// getKey serves /control/get?room=R[&app=A]: the room's default key, made when absent.
func (s *server) getKey(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.target(r, args)
	if err != nil {
		return nil, err
	}
	if err := s.checkConfigured(app); err != nil {
		return nil, err
	}
	key, err := s.Keys.Get(r.Context(), app, room)
	if err != nil {
		return nil, s.storeFailed("get", app, room, err)
	}
	s.logControl("get", app, room, r)
	return key.Secret, nil
}

// resetKey serves /control/reset?room=R[&app=A][&all=1|&grace=60s]: a new key. Who publishes with an old one is disconnected, at
// once or when the grace is over; the stream is held for the new one.
func (s *server) resetKey(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.target(r, args)
	if err != nil {
		return nil, err
	}
	if err := s.checkConfigured(app); err != nil {
		return nil, err
	}
	all, err := flag(args, "all")
	if err != nil {
		return nil, err
	}
	grace, err := graceOf(args)
	if err != nil {
		return nil, err
	}
	if all && grace > 0 {
		return nil, live.Errorf(live.Invalid, "all and grace exclude each other")
	}
	key, revoked, err := s.Keys.Rotate(toTheEnd(r), app, room, live.Rotation{All: all, Grace: grace})
	if err != nil {
		return nil, s.storeFailed("reset", app, room, err)
	}
	if grace > 0 {
		time.AfterFunc(grace, func() { s.Hub.Revoke(revoked, false) }) // a hub that is closed by then has nobody to disconnect
	} else {
		s.Hub.Revoke(revoked, false)
	}
	s.logControl("reset", app, room, r)
	return key.Secret, nil
}

// deleteRoom serves /control/delete?room=R[&app=A]. Who publishes with a key of the room, or without any where none is asked for, is
// disconnected and the stream ends. An
// app that is configured no longer may still have keys to delete.
func (s *server) deleteRoom(r *http.Request, args url.Values) (any, error) {
	app, room, err := s.target(r, args)
	if err != nil {
		return nil, err
	}
	revoked, err := s.Keys.Delete(toTheEnd(r), app, room)
	if err != nil && live.KindOf(err) != live.NotFound {
		return nil, s.storeFailed("delete", app, room, err)
	}
	s.Hub.Revoke(revoked, true)
	if !s.Hub.EndKeyless(app, room) && err != nil {
		return nil, s.storeFailed("delete", app, room, err)
	}
	s.EndSessions(app, room)
	s.logControl("delete", app, room, r)
	return "Ok", nil
}

// target returns the room that a request is about, and the app or "" for all.
func (s *server) target(r *http.Request, args url.Values) (app, room string, err error) {
	room, _, err = argument(args, "room")
	if err != nil {
		return "", "", err
	}
	if room == "" {
		return "", "", live.Errorf(live.Invalid, "url: %s?room=<ROOM_NAME>", r.URL.Path)
	}
	if err := live.CheckRoom(room); err != nil {
		return "", "", err
	}
	app, given, err := argument(args, "app")
	if err == nil && given {
		err = live.CheckApp(app)
	}
	return app, room, err
}

// checkConfigured refuses to make a key for an app that nobody can publish to.
func (s *server) checkConfigured(app string) error {
	if _, ok := s.app(app); app != "" && !ok {
		return live.Errorf(live.NotFound, "no app %q is configured", app)
	}
	return nil
}

// maxGrace is the longest time for which a key that was replaced may stay good.
const maxGrace = 24 * time.Hour

// graceOf returns the argument grace: a duration, or seconds; 0 when absent.
func graceOf(args url.Values) (time.Duration, error) {
	value, given, err := argument(args, "grace")
	if err != nil || !given {
		return 0, err
	}
	d, err := time.ParseDuration(value)
	if n, numErr := strconv.ParseUint(value, 10, 32); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxGrace {
		return 0, live.Errorf(live.Invalid, "grace must be a duration such as 60s, up to 24h")
	}
	return d, nil
}

// flag returns an argument that switches something on, false when absent.
func flag(args url.Values, name string) (bool, error) {
	value, given, err := argument(args, name)
	if err != nil || !given {
		return false, err
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, live.Errorf(live.Invalid, "%s must be 1 or 0", name)
	}
	return on, nil
}

// toTheEnd returns a context that outlives the client. Were a store to stop half-way because he hung up, a key could be revoked
// without anybody here knowing whom to disconnect.
func toTheEnd(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

// storeFailed turns an error of the key store into the client's, and logs what is not his fault.
func (s *server) storeFailed(action, app, room string, err error) error {
	kind := live.KindOf(err)
	switch kind {
	case live.NotFound:
		return live.Errorf(live.NotFound, "room not found")
	case live.Unavailable:
		s.Log.Warn("key store unavailable", "action", action, "app", app, "room", room, "err", err)
		return live.Errorf(live.Unavailable, "key store unavailable")
	case live.Internal:
		s.Log.Error("key store failed", "action", action, "app", app, "room", room, "err", err)
	}
	return err
}

func (s *server) logControl(action, app, room string, r *http.Request) {
	s.Log.Info("control", "action", action, "app", app, "room", room, "remote", r.RemoteAddr)
}
