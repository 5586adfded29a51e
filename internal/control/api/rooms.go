package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"livego/internal/control/keyexport"
	"livego/internal/domain"
)

const (
	roomsPath = v1 + "/rooms"
	// roomBatch is how many rooms are read from the store at a time.
	roomBatch = 1000
)

// routeRooms registers the routes for rooms.
func (s *server) routeRooms(api huma.API) {
	huma.Register(api, operation("GET", roomsPath, "list-rooms", "List rooms, which have stream keys"), s.listRooms)
	one := func(method, id, summary string, errors ...int) huma.Operation {
		return operation(method, roomsPath+"/{room}", id, summary, errors...)
	}
	huma.Register(api, one("GET", "get-room", "Get a room", http.StatusNotFound), s.getRoom)
	put := one("PUT", "put-room", "Create a room with a stream key, or get the key of one that exists")
	put.Responses = map[string]*huma.Response{"201": {Description: "The room is new"}}
	put.MaxBodyBytes = maxBody
	huma.Register(api, put, s.putRoom)
	huma.Register(api, one("PATCH", "update-room", "Change the description of a room", http.StatusNotFound), s.updateRoom)
	huma.Register(api, one("DELETE", "delete-room",
		"Delete a room with all its keys. Its publishers and viewers are disconnected.", http.StatusNotFound), s.removeRoom)
}

// A room is a name under which streams are published with stream keys.
type room struct {
	Room        string          `json:"room"`
	Description string          `json:"description,omitempty"`
	Apps        []roomInApp     `json:"apps" doc:"The apps in which the room has a valid key."`
	Keys        []keyexport.Key `json:"keys" doc:"Its keys, without their secrets."`
	Key         string          `json:"key,omitempty" doc:"The stream key that is valid in every app. Only in the response to PUT."`
}

type roomInApp struct {
	App     string     `json:"app"`
	State   string     `json:"state" enum:"idle,live,held" doc:"idle: nobody publishes. held: the publisher was lost, and viewers wait."`
	Since   *time.Time `json:"since,omitempty" doc:"When the stream started."`
	Private bool       `json:"private,omitempty" doc:"Viewers need a token, or the permission of the webhook."`
	URLs    []string   `json:"urls" doc:"URLs to watch it, as seen from the client."`
}

// newRoom returns the room with these keys, of which there is at least one.
func (s *server) newRoom(keys []domain.Key, host string) room {
	r := room{Room: keys[0].Room, Description: domain.DescriptionOf(keys), Apps: []roomInApp{}}
	for _, app := range s.Apps {
		if hasKeyFor(keys, app.Name) {
			r.Apps = append(r.Apps, s.newRoomInApp(app, r.Room, host))
		}
	}
	for _, k := range keys {
		k.Secret, k.Description = "", ""
		r.Keys = append(r.Keys, keyexport.FromDomain(k))
	}
	return r
}

// hasKeyFor reports whether one of keys is valid for app.
func hasKeyFor(keys []domain.Key, app string) bool {
	for _, k := range keys {
		if k.ValidFor(app, time.Now()) {
			return true
		}
	}
	return false
}

func (s *server) newRoomInApp(app App, name, host string) roomInApp {
	a := roomInApp{App: app.Name, State: "idle", URLs: []string{}}
	stream := domain.Name{App: app.Name, Room: name}
	a.Private = s.Private != nil && s.Private(stream)
	if in, live := s.Hub.Info(stream); live {
		a.State, a.Since = stateLive, new(in.Since.UTC())
		if in.Held {
			a.State = stateHeld
		}
	}
	for _, l := range s.links(app, stream, host) {
		a.URLs = append(a.URLs, string(l.URL))
	}
	return a
}

func roomFields() sortable[[]domain.Key] {
	return sortable[[]domain.Key]{
		"room":        func(keys *[]domain.Key) sortKey { return textKey((*keys)[0].Room) },
		"description": func(keys *[]domain.Key) sortKey { return textKey(domain.DescriptionOf(*keys)) },
		"keys":        func(keys *[]domain.Key) sortKey { return numberKey(len(*keys)) },
	}
}

type roomsInput struct {
	ListInput
	HostInput
	Prefix string `query:"prefix" maxLength:"128" doc:"Only rooms whose names start with this."`
	App    string `query:"app" maxLength:"128" doc:"Only rooms that have a valid key for this app."`
	Live   bool   `query:"live" doc:"Only rooms with a stream that is live or held."`
}

// A HostInput has the host of the request. It is exported to be embedded in inputs.
type HostInput struct{ host string }

// Resolve implements huma.Resolver.
func (in *HostInput) Resolve(ctx huma.Context) []error {
	in.host = ctx.Host()
	return nil
}

type roomList struct {
	Body struct {
		Rooms []room `json:"rooms"`
		Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listRooms(ctx context.Context, in *roomsInput) (*roomList, error) {
	page, err := newPager(in.ListInput, roomFields(), "room", "room")
	if err != nil {
		return nil, humaError(err)
	}
	live := map[string]bool{}
	for _, name := range s.Hub.Names() {
		live[name.Room] = true
	}
	selects := func(keys []domain.Key) bool {
		return strings.HasPrefix(keys[0].Room, in.Prefix) && (in.App == "" || hasKeyFor(keys, in.App)) &&
			(!in.Live || live[keys[0].Room])
	}
	after, inStoreOrder := "", page.order == "room"
	if inStoreOrder && page.after != nil {
		after = page.after[0].Text
	}
	for more := true; more && !(inStoreOrder && page.full()); {
		keys, err := s.Keys.Page(ctx, after, roomBatch)
		if err != nil {
			return nil, humaError(s.storeError("list rooms", "", "", err))
		}
		rooms := splitRooms(keys)
		for _, keys := range rooms {
			after = keys[0].Room
			if selects(keys) {
				page.add(keys)
			}
		}
		more = len(rooms) == roomBatch
	}
	out := new(roomList)
	list, next := page.page()
	out.Body.Rooms, out.Body.Next = make([]room, 0, len(list)), next
	for _, keys := range list {
		out.Body.Rooms = append(out.Body.Rooms, s.newRoom(keys, in.host))
	}
	return out, nil
}

// splitRooms splits keys, which are ordered by room, into those of each room.
func splitRooms(keys []domain.Key) (rooms [][]domain.Key) {
	for start, i := 0, 0; i < len(keys); i++ {
		if i+1 == len(keys) || keys[i+1].Room != keys[i].Room {
			rooms = append(rooms, keys[start:i+1])
			start = i + 1
		}
	}
	return rooms
}

type roomInput struct {
	HostInput
	Room string `path:"room" maxLength:"128"`
}

type oneRoom struct{ Body room }

func (s *server) getRoom(ctx context.Context, in *roomInput) (*oneRoom, error) {
	r, err := s.readRoom(ctx, in.Room, in.host)
	if err != nil {
		return nil, err
	}
	return &oneRoom{r}, nil
}

// readRoom returns a room, or an error of huma.
func (s *server) readRoom(ctx context.Context, name, host string) (room, error) {
	if err := domain.CheckRoom(name); err != nil {
		return room{}, humaError(err)
	}
	keys, err := s.Keys.List(ctx, name)
	if err == nil && len(keys) == 0 {
		err = domain.Errorf(domain.NotFound, "room not found")
	}
	if err != nil {
		return room{}, humaError(s.storeError("get room", "", name, err))
	}
	return s.newRoom(keys, host), nil
}

type putRoomInput struct {
	HostInput
	Room string `path:"room" maxLength:"128"`
	Body *struct {
		Description *string `json:"description,omitempty" maxLength:"256" doc:"Free text about the room. Absent: as it is."`
	}
}

type roomWithKey struct {
	Status int
	Body   room
}

func (s *server) putRoom(ctx context.Context, in *putRoomInput) (*roomWithKey, error) {
	err := domain.CheckRoom(in.Room)
	var description *string
	if in.Body != nil && in.Body.Description != nil && err == nil {
		description = in.Body.Description
		err = domain.CheckDescription(*description)
	}
	if err != nil {
		return nil, humaError(err)
	}
	k, created, err := s.Keys.Create(context.WithoutCancel(ctx), in.Room, description)
	if err != nil {
		return nil, humaError(s.storeError("create room", "", in.Room, err))
	}
	out := &roomWithKey{Status: http.StatusOK}
	if created {
		out.Status = http.StatusCreated
		s.Log.Info("control", "action", "create room", "room", in.Room)
	}
	keys, err := s.Keys.List(ctx, in.Room)
	if err != nil {
		return nil, humaError(s.storeError("get room", "", in.Room, err))
	}
	if len(keys) == 0 { // deleted meanwhile
		keys = []domain.Key{k}
	}
	out.Body = s.newRoom(keys, in.host)
	out.Body.Key = k.Secret
	return out, nil
}

type updateRoomInput struct {
	HostInput
	Room string `path:"room" maxLength:"128"`
	Body struct {
		Description string `json:"description" maxLength:"256" doc:"Free text about the room."`
	}
}

func (s *server) updateRoom(ctx context.Context, in *updateRoomInput) (*oneRoom, error) {
	err := domain.CheckRoom(in.Room)
	if err == nil {
		err = domain.CheckDescription(in.Body.Description)
	}
	if err == nil {
		err = s.Keys.Describe(context.WithoutCancel(ctx), in.Room, in.Body.Description)
	}
	if err != nil {
		return nil, humaError(s.storeError("update room", "", in.Room, err))
	}
	s.Log.Info("control", "action", "update room", "room", in.Room)
	return s.getRoom(ctx, &roomInput{HostInput: in.HostInput, Room: in.Room})
}

type removeRoomInput struct {
	Room string `path:"room" maxLength:"128"`
	App  string `query:"app" maxLength:"128" doc:"Only keys and streams of this app. Absent: of every app."`
}

func (s *server) removeRoom(ctx context.Context, in *removeRoomInput) (*struct{}, error) {
	err := domain.CheckRoom(in.Room)
	if err == nil && in.App != "" {
		err = domain.CheckApp(in.App)
	}
	if err == nil {
		err = s.deleteRoom(ctx, in.App, in.Room)
	}
	if err != nil {
		return nil, humaError(err)
	}
	s.Log.Info("control", "action", "delete", "app", in.App, "room", in.Room)
	return nil, nil
}
