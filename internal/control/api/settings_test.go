package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/ops/config"
)

// fakeSettings records changes, and returns err.
type fakeSettings struct {
	changes map[string]*string
	err     error
}

func (f *fakeSettings) SettingStates() []config.State {
	return []config.State{
		{Setting: config.Setting{Key: "relay_max", Reload: config.ReloadLive}, Default: 100, Value: 1, Next: 1, File: 1},
		{Setting: config.Setting{Key: "jwt.secret", Secret: true}, IsSet: true, Differs: true, Origin: config.FromAPI},
		{Setting: config.Setting{Key: "ring_time"}, Value: "30s", Next: "40s", File: "30s", Pending: true, Differs: true},
	}
}

func (f *fakeSettings) Reload(context.Context) (config.Report, error) {
	return config.Report{Applied: []string{"relay_max"}}, f.err
}

func (f *fakeSettings) CheckSettings(map[string]*string) (config.Report, error) {
	return config.Report{}, f.err
}

func (f *fakeSettings) ChangeSettings(_ context.Context, changes map[string]*string) (config.Report, error) {
	f.changes = changes
	return config.Report{Restart: slices.Sorted(maps.Keys(changes))}, f.err
}

// operators authorizes requests as the role operate.
type operators struct{ allowAll }

func (operators) Authorize(_ *http.Request, need auth.Access) error {
	if need.Rights > auth.Operate {
		return &domain.Error{Kind: domain.Denied, Err: auth.ErrRights}
	}
	return nil
}

func TestSettings(t *testing.T) {
	settings := &fakeSettings{}
	s := newFixture(t, func(o *Options) { o.Settings = settings })
	var list struct{ Settings []map[string]any }
	if err := json.Unmarshal(s.get("/api/v1/settings").Body.Bytes(), &list); err != nil || len(list.Settings) != 3 {
		t.Fatal(err, list)
	}
	if list.Settings[0]["kind"] != "number" || list.Settings[1]["kind"] != "text" {
		t.Errorf("kinds: %v", list.Settings)
	}
	if _, shown := list.Settings[1]["value"]; shown || list.Settings[1]["set"] != true {
		t.Errorf("a secret: %v", list.Settings[1])
	}
	if p := list.Settings[2]; p["pending"] != "40s" || p["value"] != "30s" || p["restart"] != true {
		t.Errorf("a setting that needs a restart: %v", p)
	}
	if w := s.get("/api/v1/settings/diff"); w.Body.String() != `{"settings":[{"key":"jwt.secret","source":"api"},`+
		`{"key":"ring_time","value":"40s","file":"30s","source":""}]}` {
		t.Errorf("diff: %s", w.Body)
	}
	w := s.do("PATCH", "/api/v1/settings", `{"relay_max":2,"private":["live"],"jwt.strict":true,"level":null}`,
		"Content-Type: application/json")
	got := map[string]string{}
	for key, text := range settings.changes {
		if got[key] = "null"; text != nil {
			got[key] = *text
		}
	}
	want := map[string]string{"relay_max": "2", "private": "live", "jwt.strict": "true", "level": "null"}
	if w.Code != 200 || !maps.Equal(got, want) {
		t.Errorf("%d %s: %v", w.Code, w.Body, got)
	}
	if w := s.do("DELETE", "/api/v1/settings/no_such", ""); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := s.do("PATCH", "/api/v1/settings", `{"relay_max":1.5,"level":{}}`, "Content-Type: application/json"); w.Code !=
		400 || strings.Count(w.Body.String(), `"message"`) != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	settings.err = domain.Errorf(domain.Conflict, "livego.yaml:1: a: wrong\nlivego.yaml:2: b: wrong")
	if w := s.do("POST", "/api/v1/config/reload", ""); w.Code != 409 ||
		strings.Count(w.Body.String(), "livego.yaml") != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	settings.err = context.Canceled
	if w := s.do("POST", "/api/v1/config/reload", ""); w.Code != 500 || strings.Contains(w.Body.String(), "canceled") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestSettingsOfAdmins changes settings with the role operate.
func TestSettingsOfAdmins(t *testing.T) {
	settings := &fakeSettings{}
	s := newFixture(t, func(o *Options) { o.Settings, o.Auth = settings, func() Auth { return operators{} } })
	for body, status := range map[string]int{
		`{"relay_max":2}`: 200, `{"relay_max":2,"admin_token":"x"}`: 403, `{"rtmp_addr":null}`: 403,
		`{"hook.on_play":"http://h/"}`: 403, `{"data_dir":"/x"}`: 403, `{"api_allow":["0.0.0.0/0"]}`: 403,
	} {
		for _, request := range []string{"PATCH /api/v1/settings", "POST /api/v1/settings/validate"} {
			method, path, _ := strings.Cut(request, " ")
			settings.changes = nil
			if w := s.do(method, path, body, "Content-Type: application/json"); w.Code != status {
				t.Errorf("%s %s: %d %s", request, body, w.Code, w.Body)
			}
			if status == 403 && settings.changes != nil {
				t.Errorf("%s %s has changed %v", request, body, settings.changes)
			}
		}
	}
	if w := s.do("DELETE", "/api/v1/settings/jwt.secret", ""); w.Code != 403 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
