package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// ctlCmd has a command for each call of the API.
type ctlCmd struct {
	ctlFlags

	Rooms      ctlRoomsCmd      `cmd:"" help:"List, create, change and delete rooms."`
	Keys       ctlKeysCmd       `cmd:"" help:"List, create, revoke, export and import stream keys."`
	Tokens     ctlTokensCmd     `cmd:"" help:"Make tokens for viewers and publishers."`
	Streams    ctlStreamsCmd    `cmd:"" help:"List live streams with their health, and end them."`
	Sessions   ctlSessionsCmd   `cmd:"" help:"List publishers and viewers, and disconnect them."`
	Relays     ctlRelaysCmd     `cmd:"" help:"List, create and delete relays to and from other servers."`
	Recordings ctlRecordingsCmd `cmd:"" help:"List, download and delete recordings."`
	Events     ctlEventsCmd     `cmd:"" help:"List the latest events, or print them as they happen with --watch."`
	Settings   ctlSettingsCmd   `cmd:"" help:"List, check and change settings."`
	Status     ctlStatusCmd     `cmd:"" help:"Show the version and the state of the server, and the addresses to publish and to watch."`
	Reload     ctlReloadCmd     `cmd:"" help:"Load the settings from their sources again."`
	Context    ctlContextCmd    `cmd:"" help:"Store servers and their tokens under names."`
}

// ctlFlags are the flags of all commands of ctl.
type ctlFlags struct {
	Server    string        `xor:"server" help:"The operator's HTTP of the server: https://live.example.com. [LIVEGO_CTL_SERVER, the current context, or the server with the settings of this machine]" placeholder:"URL"`
	Context   string        `name:"context" xor:"server" help:"Use the server and the token of this context. [LIVEGO_CTL_CONTEXT]" placeholder:"NAME"`
	Token     string        `xor:"token" help:"The admin token or a JWT. Other users of this machine can read it: prefer the environment, a file or a context. [LIVEGO_CTL_TOKEN]" placeholder:"TOKEN"`
	TokenFile string        `xor:"token" help:"A file with the admin token or a JWT." placeholder:"FILE"`
	CA        string        `name:"ca" help:"A file with certificates in PEM that the server's certificate is verified by." placeholder:"FILE"`
	JSON      bool          `name:"json" help:"Print the response as JSON, for scripts."`
	Watch     bool          `short:"w" help:"Repeat the request, or print events as they happen, until interrupted."`
	Interval  time.Duration `default:"2s" help:"Time between two requests with --watch. [2s]" placeholder:"DURATION"`
}

// A streamArg is a stream in an argument: app/room, or room in the app live.
type streamArg struct {
	Stream string `arg:"" help:"The stream: app/room, or room for live/room."`
}

func (a streamArg) split() (app, room string) {
	app, room, ok := strings.Cut(a.Stream, "/")
	if !ok {
		return "live", a.Stream
	}
	return app, room
}

func (a streamArg) path() string {
	app, room := a.split()
	return url.PathEscape(app) + "/" + url.PathEscape(room)
}

// An idArg is an entry of a list in an argument.
type idArg struct {
	ID string `arg:"" help:"The ID from the list."`
}

// in returns the path of the entry below list.
func (a idArg) in(list string) string { return list + "/" + url.PathEscape(a.ID) }

// A listFlags selects a part of a list.
type listFlags struct {
	App   string   `help:"Only entries of this app."`
	Room  string   `help:"Only entries of this room."`
	Sort  []string `help:"Fields to sort by; - before a field reverses it." placeholder:"FIELD"`
	Limit int      `help:"At most this many entries. [all]" placeholder:"N"`
}

func (f listFlags) query(more ...string) url.Values {
	q := url.Values{}
	more = append(more, "app", f.App, "room", f.Room, "sort", strings.Join(f.Sort, ","))
	for i := 0; i < len(more); i += 2 {
		if more[i+1] != "" {
			q.Set(more[i], more[i+1])
		}
	}
	return q
}

// parseLimit parses a time in a flag: a time, or how long ago it was. It returns it as the API takes
// it; "" for none.
func parseLimit(flag, text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if d, durErr := time.ParseDuration(text); durErr == nil && d >= 0 {
		at, err = now.Add(-d), nil
	}
	if err != nil {
		return "", &failure{exitUsage, fmt.Errorf("--%s must be a time such as 2030-01-31T12:00:00Z, or a duration such as "+
			"1h", flag)}
	}
	return at.UTC().Format(time.RFC3339Nano), nil
}

type ctlRoomsCmd struct {
	List   ctlRoomsListCmd   `cmd:"" help:"List rooms."`
	Get    ctlRoomsGetCmd    `cmd:"" help:"Show a room with its keys and addresses."`
	Create ctlRoomsCreateCmd `cmd:"" help:"Create a room, if it is not there, and show its stream key."`
	Update ctlRoomsUpdateCmd `cmd:"" help:"Change the description of a room."`
	Delete ctlRoomsDeleteCmd `cmd:"" help:"Delete a room with its keys, and disconnect its publishers and viewers."`
}

type ctlRoomsListCmd struct {
	Prefix string   `help:"Only rooms whose names start with this."`
	App    string   `help:"Only rooms that have a valid key for this app."`
	Live   bool     `help:"Only rooms with a stream that is live or held."`
	Sort   []string `help:"Fields to sort by; - before a field reverses it." placeholder:"FIELD"`
	Limit  int      `help:"At most this many rooms. [all]" placeholder:"N"`
}

func (c ctlRoomsListCmd) Run(e *env) error {
	q := listFlags{App: c.App, Sort: c.Sort}.query("prefix", c.Prefix)
	if c.Live {
		q.Set("live", "true")
	}
	return e.callAPI(apiCall{path: "/rooms", query: q, list: "rooms", limit: c.Limit,
		columns: []string{"room", "apps", "keys", "description"}})
}

type roomArg struct {
	Room string `arg:"" help:"The room."`
}

func (a roomArg) path() string { return "/rooms/" + url.PathEscape(a.Room) }

type ctlRoomsGetCmd struct{ roomArg }

func (c ctlRoomsGetCmd) Run(e *env) error { return e.callAPI(apiCall{path: c.path()}) }

type ctlRoomsCreateCmd struct {
	roomArg
	Description string `help:"A description for people."`
}

func (c ctlRoomsCreateCmd) Run(e *env) error {
	body := map[string]any{}
	if c.Description != "" {
		body["description"] = c.Description
	}
	return e.callAPI(apiCall{method: http.MethodPut, path: c.path(), body: body})
}

type ctlRoomsUpdateCmd struct {
	roomArg
	Description string `required:"" help:"The description; \"\" removes it."`
}

func (c ctlRoomsUpdateCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodPatch, path: c.path(), body: map[string]any{"description": c.Description}})
}

type ctlRoomsDeleteCmd struct{ roomArg }

func (c ctlRoomsDeleteCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodDelete, path: c.path()})
}

type ctlStreamsCmd struct {
	List    ctlStreamsListCmd    `cmd:"" help:"List streams."`
	Get     ctlStreamsGetCmd     `cmd:"" help:"Show a stream."`
	History ctlStreamsHistoryCmd `cmd:"" help:"Show what was measured of a stream in the last ten minutes, a line a second."`
	End     ctlStreamsEndCmd     `cmd:"" help:"End a stream and disconnect its publishers."`
}

type ctlStreamsListCmd struct {
	listFlags
	State string `enum:"live,held," default:"" help:"live, or held for streams that wait for their publisher."`
}

func (c ctlStreamsListCmd) Run(e *env) error {
	return e.callAPI(apiCall{
		path: "/streams", query: c.query("state", c.State), list: "streams", limit: c.Limit,
		columns: []string{"stream", "state", "uptime", "tracks", "bitrate", "gop", "viewers", "bytes_out", "skips", "health"},
	})
}

type ctlStreamsGetCmd struct{ streamArg }

func (c ctlStreamsGetCmd) Run(e *env) error { return e.callAPI(apiCall{path: "/streams/" + c.path()}) }

type ctlStreamsHistoryCmd struct {
	streamArg
	Seconds int `default:"600" help:"How many of the newest seconds. [600]"`
}

func (c ctlStreamsHistoryCmd) Run(e *env) error {
	return e.callAPI(apiCall{
		path: "/streams/" + c.path() + "/history", query: url.Values{"seconds": {strconv.Itoa(c.Seconds)}}, list: "samples",
		columns: []string{"at", "video_kbps", "audio_kbps", "frame_rate", "jitter_ms", "gop", "skew_ms", "lag_ms", "viewers",
			"viewers_behind"},
	})
}

type ctlStreamsEndCmd struct {
	streamArg
	Hold bool `help:"Hold the stream for publish_hold: its viewers stay, and an encoder can continue it."`
}

func (c ctlStreamsEndCmd) Run(e *env) error {
	q := url.Values{}
	if c.Hold {
		q.Set("hold", "true")
	}
	return e.callAPI(apiCall{method: http.MethodDelete, path: "/streams/" + c.path(), query: q})
}

type ctlSessionsCmd struct {
	List ctlSessionsListCmd `cmd:"" help:"List publishers, viewers and relays."`
	Get  ctlSessionsGetCmd  `cmd:"" help:"Show a session."`
	End  ctlSessionsEndCmd  `cmd:"" help:"Disconnect a publisher, viewer or relay, or all viewers of a room."`
}

type ctlSessionsListCmd struct {
	listFlags
	Kind   string `enum:"publisher,viewer," default:"" help:"publisher or viewer."`
	Proto  string `help:"Only sessions of this protocol: rtmp, flv, ws, hls; push or pull for relays."`
	Remote string `help:"Only clients with this address, or in this network." placeholder:"ADDRESS"`
}

func (c ctlSessionsListCmd) Run(e *env) error {
	return e.callAPI(apiCall{
		path: "/sessions", query: c.query("kind", c.Kind, "proto", c.Proto, "remote", c.Remote), list: "sessions",
		limit: c.Limit,
		columns: []string{"id", "kind", "stream", "proto", "remote", "user_agent", "since", "bytes", "bitrate", "delay_ms",
			"skips"},
	})
}

type ctlSessionsGetCmd struct{ idArg }

func (c ctlSessionsGetCmd) Run(e *env) error { return e.callAPI(apiCall{path: c.in("/sessions")}) }

type ctlSessionsEndCmd struct {
	ID   string `arg:"" optional:"" help:"The ID from the list."`
	Room string `help:"Disconnect all viewers of this room instead."`
	App  string `help:"With --room: only viewers of this app."`
}

func (c ctlSessionsEndCmd) Run(e *env) error {
	switch {
	case (c.ID == "") == (c.Room == ""), c.App != "" && c.Room == "":
		return &failure{exitUsage, errors.New("name a session by its ID, or use --room")}
	case c.ID != "":
		return e.callAPI(apiCall{method: http.MethodDelete, path: "/sessions/" + url.PathEscape(c.ID)})
	}
	return e.callAPI(apiCall{method: http.MethodDelete, path: "/sessions",
		query: listFlags{App: c.App, Room: c.Room}.query()})
}

type ctlEventsCmd struct {
	List ctlEventsListCmd `cmd:"" default:"withargs" help:"List the latest events, newest first, or print them as they happen with --watch."`
}

type ctlEventsListCmd struct {
	App   string   `help:"Only events of this app."`
	Room  string   `help:"Only events of this room."`
	Type  []string `help:"Only events of these types: denied, stream.started, or stream for all of streams."`
	Since string   `help:"Only events since this time: 2030-01-31T12:00:00Z, or 1h for the last hour." placeholder:"TIME"`
	Limit int      `help:"At most this many events. [all]" placeholder:"N"`
}

func (c ctlEventsListCmd) Run(e *env) error {
	since, err := parseLimit("since", c.Since, time.Now())
	if err != nil {
		return err
	}
	call := apiCall{
		path: "/events", list: "events", limit: c.Limit,
		query:   listFlags{App: c.App, Room: c.Room}.query("type", strings.Join(c.Type, ","), "since", since),
		columns: []string{"at", "type", "stream", "session", "remote", "reason"},
	}
	if e.ctl.Watch {
		call.path = "/events/stream"
		call.query.Del("since")
		return e.watchEvents(call)
	}
	return e.callAPI(call)
}

type ctlKeysCmd struct {
	List   ctlKeysListCmd   `cmd:"" help:"List keys without their secrets."`
	Create ctlKeysCreateCmd `cmd:"" help:"Create a further key of a room."`
	Rotate ctlKeysRotateCmd `cmd:"" help:"Replace a key by a new one, and show it."`
	Revoke ctlKeysRevokeCmd `cmd:"" help:"Revoke a key, and disconnect its publisher."`
	Export ctlKeysExportCmd `cmd:"" help:"Print all keys with their secrets, for an import."`
	Import ctlKeysImportCmd `cmd:"" help:"Import keys unchanged from an export."`
}

type ctlKeysListCmd struct {
	Room  string `arg:"" optional:"" help:"Only keys of this room."`
	Limit int    `help:"At most this many keys. [all]" placeholder:"N"`
}

func (c ctlKeysListCmd) Run(e *env) error {
	return e.callAPI(apiCall{
		path: "/keys", query: listFlags{Room: c.Room}.query(), list: "keys", limit: c.Limit,
		columns: []string{"id", "room", "app", "label", "role", "created", "expires", "last_used"},
	})
}

type ctlKeysCreateCmd struct{ keysMakeCmd }

func (c ctlKeysCreateCmd) Run(e *env) error {
	k, err := c.key(time.Now())
	if err != nil {
		return &failure{exitUsage, err}
	}
	return e.callAPI(apiCall{method: http.MethodPost, path: "/keys", body: keyBody(k)})
}

type ctlKeysRevokeCmd struct {
	ID string `arg:"" help:"The ID of the key from the list, not the key itself."`
}

func (c ctlKeysRevokeCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodDelete, path: "/keys/" + url.PathEscape(c.ID)})
}

type ctlKeysRotateCmd struct {
	ID    string        `arg:"" help:"The ID of the key from the list, not the key itself."`
	Grace time.Duration `help:"How long the old key stays valid. Only for a key without a label." placeholder:"DURATION"`
}

func (c ctlKeysRotateCmd) Run(e *env) error {
	call := apiCall{method: http.MethodPost, path: "/keys/" + url.PathEscape(c.ID) + "/rotate"}
	if c.Grace > 0 {
		call.query = url.Values{"grace": {c.Grace.String()}}
	}
	return e.callAPI(call)
}

type ctlKeysExportCmd struct{}

func (ctlKeysExportCmd) Run(e *env) error {
	e.ctl.JSON = true
	return e.callAPI(apiCall{path: "/keys/export"})
}

type ctlKeysImportCmd struct {
	File string `arg:"" help:"The file with the export."`
}

func (c ctlKeysImportCmd) Run(e *env) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	if !json.Valid(data) {
		return fmt.Errorf("%s: not JSON", c.File)
	}
	return e.callAPI(apiCall{method: http.MethodPost, path: "/keys/import", body: json.RawMessage(data)})
}

type ctlTokensCmd struct {
	Create ctlTokensCreateCmd `cmd:"" help:"Make a token, and the addresses with it."`
}

type ctlTokensCreateCmd struct {
	Action string `arg:"" enum:"play,publish" help:"play or publish."`
	tokenStream
}

func (c ctlTokensCreateCmd) Run(e *env) error {
	app, room := streamArg{c.Stream}.split()
	body := map[string]any{"action": c.Action, "app": app, "room": room, "for": c.For.String(), "once": c.Once,
		"signed": c.Signed, "viewers": c.Viewers}
	if c.IP != nil {
		body["ip"] = *c.IP
	}
	if c.Session > 0 {
		body["session"] = c.Session.String()
	}
	return e.callAPI(apiCall{method: http.MethodPost, path: "/tokens", body: body})
}

type ctlRelaysCmd struct {
	List   ctlRelaysListCmd   `cmd:"" help:"List relays."`
	Get    ctlRelaysGetCmd    `cmd:"" help:"Show a relay."`
	Create ctlRelaysCreateCmd `cmd:"" help:"Create a relay, if it is not there."`
	Delete ctlRelaysDeleteCmd `cmd:"" help:"Stop and delete a relay."`
}

type ctlRelaysListCmd struct {
	listFlags
	Direction string `enum:"push,pull," default:"" help:"push or pull."`
	State     string `enum:"waiting,connecting,running,failed," default:"" help:"waiting, connecting, running or failed."`
}

func (c ctlRelaysListCmd) Run(e *env) error {
	return e.callAPI(apiCall{
		path: "/relays", query: c.query("direction", c.Direction, "state", c.State), list: "relays", limit: c.Limit,
		columns: []string{"id", "direction", "stream", "url", "state", "since", "attempts", "error"},
	})
}

type ctlRelaysGetCmd struct{ idArg }

func (c ctlRelaysGetCmd) Run(e *env) error { return e.callAPI(apiCall{path: c.in("/relays")}) }

type ctlRelaysCreateCmd struct {
	Direction string `arg:"" enum:"push,pull" help:"push to send a stream to another server, pull to get one."`
	streamArg
	URL     string `arg:"" name:"url" help:"The address on the other server: rtmp://host/app/name."`
	Persist bool   `default:"true" negatable:"" help:"Start the relay again after a restart of the server. [yes]"`
}

func (c ctlRelaysCreateCmd) Run(e *env) error {
	app, room := c.split()
	return e.callAPI(apiCall{method: http.MethodPost, path: "/relays", body: map[string]any{
		"direction": c.Direction, "app": app, "room": room, "url": c.URL, "persist": c.Persist,
	}})
}

type ctlRelaysDeleteCmd struct{ idArg }

func (c ctlRelaysDeleteCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodDelete, path: c.in("/relays")})
}

type ctlRecordingsCmd struct {
	List     ctlRecordingsListCmd     `cmd:"" help:"List recordings, newest first."`
	Get      ctlRecordingsGetCmd      `cmd:"" help:"Show a recording."`
	Download ctlRecordingsDownloadCmd `cmd:"" help:"Download the file of a recording."`
	Delete   ctlRecordingsDeleteCmd   `cmd:"" help:"Delete a finished recording and its file."`
}

type ctlRecordingsListCmd struct {
	App   string `help:"Only recordings of this app."`
	Room  string `help:"Only recordings of this room."`
	State string `help:"Only recordings in this state: recording, stalled, waiting, finished or unfinished."`
	Since string `help:"Only recordings that started since this time: 2030-01-31T12:00:00Z, or 1h for the last hour." placeholder:"TIME"`
	Until string `help:"Only recordings that started until this time." placeholder:"TIME"`
	Limit int    `help:"At most this many recordings. [all]" placeholder:"N"`
}

func (c ctlRecordingsListCmd) Run(e *env) error {
	now := time.Now()
	since, sinceErr := parseLimit("since", c.Since, now)
	until, untilErr := parseLimit("until", c.Until, now)
	if err := cmp.Or(sinceErr, untilErr); err != nil {
		return err
	}
	return e.callAPI(apiCall{
		path: "/recordings", list: "recordings", limit: c.Limit,
		query:   listFlags{App: c.App, Room: c.Room}.query("state", c.State, "since", since, "until", until),
		columns: []string{"id", "stream", "started", "duration", "bytes", "gaps", "state", "reason", "error"},
	})
}

type ctlRecordingsGetCmd struct{ idArg }

func (c ctlRecordingsGetCmd) Run(e *env) error { return e.callAPI(apiCall{path: c.in("/recordings")}) }

type ctlRecordingsDownloadCmd struct {
	idArg
	File string `arg:"" optional:"" help:"The new file; - for standard output. [its name on the server]"`
}

func (c ctlRecordingsDownloadCmd) Run(e *env) error {
	return e.download(c.in("/recordings")+"/file", c.File)
}

type ctlRecordingsDeleteCmd struct{ idArg }

func (c ctlRecordingsDeleteCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodDelete, path: c.in("/recordings")})
}

type ctlSettingsCmd struct {
	List     ctlSettingsListCmd     `cmd:"" help:"List settings with their values."`
	Diff     ctlSettingsDiffCmd     `cmd:"" help:"List settings whose value is not that of the settings file, or the default."`
	Validate ctlSettingsValidateCmd `cmd:"" help:"Say what changed settings would do, without a change."`
	Set      ctlSettingsSetCmd      `cmd:"" help:"Change settings, also over a restart."`
	Unset    ctlSettingsUnsetCmd    `cmd:"" help:"Use the values of the settings file again."`
}

type ctlSettingsListCmd struct{}

func (ctlSettingsListCmd) Run(e *env) error {
	return e.callAPI(apiCall{path: "/settings", list: "settings",
		columns: []string{"key", "value", "source", "reload", "pending", "write"}})
}

type ctlSettingsDiffCmd struct{}

func (ctlSettingsDiffCmd) Run(e *env) error {
	return e.callAPI(apiCall{path: "/settings/diff", list: "settings",
		columns: []string{"key", "value", "file", "source"}})
}

// settingArgs are settings with their values.
type settingArgs struct {
	Settings []string `arg:"" help:"Settings with their values, as in the settings file: gop_num=2." placeholder:"KEY=VALUE"`
}

func (a settingArgs) body() (map[string]any, error) {
	body := map[string]any{}
	for _, pair := range a.Settings {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, &failure{exitUsage, fmt.Errorf("%s: must be KEY=VALUE", strconv.Quote(pair))}
		}
		body[key] = value
	}
	return body, nil
}

type ctlSettingsValidateCmd struct{ settingArgs }

func (c ctlSettingsValidateCmd) Run(e *env) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	return e.callAPI(apiCall{method: http.MethodPost, path: "/settings/validate", body: body})
}

type ctlSettingsSetCmd struct{ settingArgs }

func (c ctlSettingsSetCmd) Run(e *env) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	return e.callAPI(apiCall{method: http.MethodPatch, path: "/settings", body: body})
}

type ctlSettingsUnsetCmd struct {
	Key string `arg:"" help:"The setting."`
}

func (c ctlSettingsUnsetCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodDelete, path: "/settings/" + url.PathEscape(c.Key)})
}

type ctlStatusCmd struct{}

func (ctlStatusCmd) Run(e *env) error { return e.callAPI(apiCall{path: "/server"}) }

type ctlReloadCmd struct{}

func (ctlReloadCmd) Run(e *env) error {
	return e.callAPI(apiCall{method: http.MethodPost, path: "/config/reload"})
}
