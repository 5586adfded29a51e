package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// appsKey is the key of the list of apps, which is not in the table.
const appsKey = "server"

// A Report says what new settings change in a running server.
type Report struct {
	Applied  []string // the keys of changed settings that take effect without a restart
	Restart  []string // the keys of changed settings that need a restart, and keep their values until then
	Warnings []string
}

// ChangeTo returns the settings with which a server that runs with c can run after next was loaded:
// those that need a restart are the old ones. The error has a line for each problem of the
// combination.
func (c Config) ChangeTo(next *Loaded) (Config, Report, error) {
	out, report := next.Config, Report{Warnings: next.Warnings}
	for _, f := range fields() {
		was, now := f.in(&c), f.in(&next.Config)
		if reflect.DeepEqual(was.Interface(), now.Interface()) {
			continue
		}
		if f.Reload == ReloadRestart {
			f.in(&out).Set(was)
			report.Restart = append(report.Restart, f.Key)
		} else {
			report.Applied = append(report.Applied, f.Key)
		}
	}
	if !reflect.DeepEqual(c.Apps, next.Apps) {
		report.Applied = append(report.Applied, appsKey)
	}
	if len(report.Restart) == 0 {
		return out, report, nil
	}
	var errs []error
	for _, p := range out.problems() {
		errs = append(errs, fmt.Errorf("%s: %s (without a restart, these keep their values: %s)", p.key, p.text,
			strings.Join(report.Restart, ", ")))
	}
	return out, report, errors.Join(errs...)
}

// A State is the state of a setting in a running server. Values are bool, int, []string or text as
// in the file; those of secrets are nil.
type State struct {
	Setting
	Default any
	Value   any  // with which the server runs
	IsSet   bool // the value is not empty; for secrets
	Origin  Origin
	Next    any  // the value after a restart
	Pending bool // Next is not Value
	File    any  // the value of the file, or the default
	Differs bool // Next is not File
}

// States returns the state of every setting of a server that runs with running and has loaded l. The
// list of apps is not included.
func (l *Loaded) States(running Config) []State {
	var list []State
	defaults := Default()
	for _, f := range fields() {
		now, next, base := f.in(&running), f.in(&l.Config), f.in(&l.base)
		s := State{
			Setting: f.Setting, Origin: cmp.Or(l.origins[f.Key], FromDefault), IsSet: !now.IsZero(),
			Pending: !reflect.DeepEqual(now.Interface(), next.Interface()),
			Differs: !reflect.DeepEqual(next.Interface(), base.Interface()),
		}
		if !f.Secret {
			s.Default, s.Value, s.Next, s.File = f.plain(&defaults), f.plain(&running), f.plain(&l.Config), f.plain(&l.base)
		}
		list = append(list, s)
	}
	return list
}

// plain returns the field's value in c as a bool, an int, a list or a text.
func (f *field) plain(c *Config) any {
	switch v := f.in(c).Interface().(type) {
	case bool, int:
		return v
	case []string:
		return append([]string{}, v...) // not nil
	case time.Duration:
		return shortDuration(v)
	}
	return f.text(c)
}

// shortDuration returns d as people write it: 1m, not 1m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Text returns a JSON value of the API as the text of a setting: a bool, a whole number, a text or a
// list of texts without commas.
func Text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprint(int64(v)), nil
		}
	case []any:
		var parts []string
		for _, part := range v {
			text, ok := part.(string)
			if !ok || strings.Contains(text, ",") {
				return "", errors.New("must be a list of texts without commas")
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("must be a text, a whole number, true or false, or a list of texts")
}
