package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/ops/config"
)

const (
	settingsPath = v1 + "/settings"
	reloadPath   = v1 + "/config/reload"
)

// routeSettings registers the routes for settings.
func (s *server) routeSettings(api huma.API) {
	huma.Register(api, operation("GET", settingsPath, "list-settings", "List settings with their values (role operate)"),
		s.listSettings)
	huma.Register(api, operation("GET", settingsPath+"/diff", "diff-settings",
		"List settings whose value is not that of the settings file, or the default (role operate)"), s.diffSettings)
	validate := operation("POST", settingsPath+"/validate", "validate-settings",
		"Say what changed settings would do, without a change")
	change := operation("PATCH", settingsPath, "change-settings",
		"Change settings, or remove those that are null from the settings of the API")
	remove := operation("DELETE", settingsPath+"/{key}", "remove-setting",
		"Remove a setting from the settings of the API: the value of the settings file is used again",
		http.StatusNotFound)
	for _, op := range []*huma.Operation{&validate, &change, &remove} {
		op.Middlewares = huma.Middlewares{withRequest}
	}
	huma.Register(api, validate, s.validateSettings)
	huma.Register(api, change, s.changeSettings)
	huma.Register(api, remove, s.removeSetting)
	huma.Register(api, operation("POST", reloadPath, "reload-config",
		"Load the settings from their sources again", http.StatusConflict), s.reloadConfig)
}

// requestKey is the key of the *http.Request in the context of a handler.
type requestKey struct{}

func withRequest(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	next(huma.WithValue(ctx, requestKey{}, r))
}

type setting struct {
	Key     string   `json:"key"`
	Group   string   `json:"group"`
	Value   any      `json:"value,omitempty" doc:"The value in use: a boolean, a whole number, a list of texts, or a text as in the settings file. Absent for a secret."`
	Set     *bool    `json:"set,omitempty" doc:"Whether a secret has a value; only for secrets."`
	Default any      `json:"default,omitempty"`
	Source  string   `json:"source" enum:"flag,environment,api,file,default" doc:"Where the value comes from."`
	Reload  string   `json:"reload" enum:"live,new connections,new streams,restart" doc:"When a changed value takes effect."`
	Pending any      `json:"pending,omitempty" doc:"The value after a restart, if that is another."`
	Restart bool     `json:"restart,omitempty" doc:"A changed value takes effect after a restart."`
	Write   string   `json:"write" enum:"operate,admin,no" doc:"The role that may change it through the API."`
	Kind    string   `json:"kind" enum:"boolean,number,list,choice,text" doc:"The kind of the value."`
	Choices []string `json:"choices,omitempty" doc:"All allowed values, if kind is choice."`
	Values  string   `json:"values" doc:"The allowed values."`
	Help    string   `json:"help"`
}

type settingList struct {
	Body struct {
		Settings []setting `json:"settings"`
	}
}

func (s *server) listSettings(context.Context, *struct{}) (*settingList, error) {
	out := new(settingList)
	for _, st := range s.Settings.SettingStates() {
		item := setting{
			Key: st.Key, Group: st.Group, Value: st.Value, Default: st.Default, Source: string(st.Origin),
			Reload: string(st.Reload), Restart: st.Pending, Write: string(st.Writer), Values: st.Values, Help: st.Help,
			Kind: settingKind(st), Choices: st.OneOf,
		}
		if st.Pending {
			item.Pending = st.Next
		}
		if st.Secret {
			item.Set = &st.IsSet
		}
		out.Body.Settings = append(out.Body.Settings, item)
	}
	return out, nil
}

// settingKind returns the kind of the value of a setting.
func settingKind(st config.State) string {
	if st.OneOf != nil {
		return "choice"
	}
	switch st.Default.(type) {
	case bool:
		return "boolean"
	case int:
		return "number"
	case []string:
		return "list"
	}
	return "text"
}

type settingDiff struct {
	Key    string `json:"key"`
	Value  any    `json:"value,omitempty" doc:"The value that the sources say. Absent for a secret."`
	File   any    `json:"file,omitempty" doc:"The value of the settings file, or the default. Absent for a secret."`
	Source string `json:"source" enum:"flag,environment,api" doc:"Where the value comes from."`
}

type settingDiffs struct {
	Body struct {
		Settings []settingDiff `json:"settings"`
	}
}

func (s *server) diffSettings(context.Context, *struct{}) (*settingDiffs, error) {
	out := new(settingDiffs)
	out.Body.Settings = []settingDiff{}
	for _, st := range s.Settings.SettingStates() {
		if st.Differs {
			out.Body.Settings = append(out.Body.Settings, settingDiff{st.Key, st.Next, st.File, string(st.Origin)})
		}
	}
	return out, nil
}

type settingsInput struct {
	// Body has values by key: true or false, a whole number, a list of texts, or a text as in the file.
	Body map[string]any `doc:"Values by key. null removes a setting from the settings of the API."`
}

type reloadReport struct {
	Body struct {
		Applied  []string `json:"applied" doc:"Changed settings that have taken effect, or do so for new connections or streams."`
		Restart  []string `json:"restart" doc:"Changed settings that need a restart. They keep their values until then."`
		Warnings []string `json:"warnings"`
	}
}

func newReloadReport(r config.Report, err error) (*reloadReport, error) {
	if err != nil {
		return nil, settingsError(err)
	}
	out := new(reloadReport)
	notNil := func(list []string) []string { return append([]string{}, list...) }
	out.Body.Applied, out.Body.Restart, out.Body.Warnings = notNil(r.Applied), notNil(r.Restart), notNil(r.Warnings)
	return out, nil
}

// settingsError returns err, which has a line for each mistake, as problem details with a member of
// errors for each.
func settingsError(err error) error {
	text := clientMessage(err)
	if kind := domain.KindOf(err); kind != domain.Invalid && kind != domain.Conflict {
		return humaError(err)
	}
	var details []error
	for line := range strings.SplitSeq(text, "\n") {
		details = append(details, &huma.ErrorDetail{Message: line})
	}
	return huma.NewError(statusOf(err), "the settings are invalid: nothing is changed", details...)
}

func (s *server) validateSettings(ctx context.Context, in *settingsInput) (*reloadReport, error) {
	changes, err := s.settingChanges(ctx, in.Body)
	if err != nil {
		return nil, settingsError(err)
	}
	return newReloadReport(s.Settings.CheckSettings(changes))
}

func (s *server) changeSettings(ctx context.Context, in *settingsInput) (*reloadReport, error) {
	changes, err := s.settingChanges(ctx, in.Body)
	if err != nil {
		return nil, settingsError(err)
	}
	return newReloadReport(s.Settings.ChangeSettings(ctx, changes))
}

type settingKey struct {
	Key string `path:"key" maxLength:"64"`
}

func (s *server) removeSetting(ctx context.Context, in *settingKey) (*reloadReport, error) {
	if !slices.ContainsFunc(config.Settings(), func(st config.Setting) bool { return st.Key == in.Key }) {
		return nil, humaError(domain.Errorf(domain.NotFound, "there is no such setting"))
	}
	changes, err := s.settingChanges(ctx, map[string]any{in.Key: nil})
	if err != nil {
		return nil, settingsError(err)
	}
	return newReloadReport(s.Settings.ChangeSettings(ctx, changes))
}

func (s *server) reloadConfig(ctx context.Context, _ *struct{}) (*reloadReport, error) {
	return newReloadReport(s.Settings.Reload(ctx))
}

// settingChanges returns the values as texts, nil for those to remove, if the client may change all
// of them.
func (s *server) settingChanges(ctx context.Context, values map[string]any) (map[string]*string, error) {
	changes := make(map[string]*string, len(values))
	var wrong []string
	for key, value := range values {
		if changes[key] = nil; value == nil {
			continue
		}
		text, err := config.Text(value)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%.64q: %v", key, err))
			continue
		}
		changes[key] = &text
	}
	for _, st := range config.Settings() {
		if _, changed := changes[st.Key]; !changed || st.Writer == config.WriterOperate {
			continue
		}
		r, _ := ctx.Value(requestKey{}).(*http.Request)
		if err := s.Auth().Authorize(r, auth.Access{Rights: auth.Admin}); err != nil {
			s.logRefusal(r, err)
			return nil, &domain.Error{Kind: domain.Denied, Err: adminSettingError{st.Key, err}}
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return nil, domain.Errorf(domain.Invalid, "%s", strings.Join(wrong, "\n"))
	}
	return changes, nil
}

// adminSettingError is a refusal to change a setting.
type adminSettingError struct {
	key string
	err error
}

func (e adminSettingError) Error() string { return e.key + ": " + domain.Reason(e.err) }
func (e adminSettingError) Unwrap() error { return e.err }
