package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"livego/internal/ops/atomicfile"
)

// overridesFile is the name of the file in the data directory that holds the settings of the API: a
// JSON object with the values by key, as in flags.
const overridesFile = "settings.json"

// overridePlace returns the prefix of an error about a setting of the API.
func (l *loader) overridePlace(key string) string {
	if l.overridesPath != "" {
		return l.overridesPath + ": " + key + ": "
	}
	return key + " (of the API): "
}

// readOverrides returns the settings of the API in dir. Commands other than the server may run as
// another user: there are none in a directory that this user may not enter, as in one that does not
// exist, and a file that the user may not read is a warning. CheckOverrides returns an error for both.
func (l *loader) readOverrides(out *Loaded, dir string) map[string]string {
	path := filepath.Join(dir, overridesFile)
	overrides := map[string]string{}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return overrides
	}
	if errors.Is(err, fs.ErrPermission) {
		out.unread = err
		return overrides
	}
	l.overridesPath = path
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("it is larger than %v", Bytes(maxFile))
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		out.unread = err
		out.Warnings = append(out.Warnings, out.CheckOverrides().Error())
	case err != nil:
		l.fail(path+": ", "%w", err)
	default:
		if err := json.Unmarshal(data, &overrides); err != nil {
			l.fail(path+": ", "must be a JSON object with text values: %w", err)
			return nil // not those before the mistake
		} else if overrides == nil { // null
			l.fail(path+": ", "must be a JSON object with text values")
		}
	}
	return overrides
}

// CheckOverrides returns an error if the user may not read the settings of the API. A server must not
// run without them: they may protect it, and the next change would replace them.
func (l *Loaded) CheckOverrides() error {
	if l.unread == nil {
		return nil
	}
	return fmt.Errorf("the settings of the API are unknown: %w", l.unread)
}

// setOverrides sets the settings of the API, and warns of values in the file that they replace.
func (l *loader) setOverrides(out *Loaded) {
	l.origin = FromAPI
	for _, key := range slices.Sorted(maps.Keys(out.overrides)) {
		i := slices.IndexFunc(l.fields, func(f field) bool { return f.Key == key })
		if i < 0 {
			place := fmt.Sprintf("%.64q: ", key)
			if l.overridesPath != "" {
				place = l.overridesPath + ": " + place
			}
			l.fail(place, "unknown setting%s", suggest(key, l.settingKeys()))
			continue
		}
		f := &l.fields[i]
		if f.Writer == WriterNone {
			l.fail(l.overridePlace(key), "cannot be set through the API")
			continue
		}
		inFile := l.origins[key] == FromFile
		place := l.place(key)
		if old, ok := l.places[f.Old]; ok && f.Old != "" {
			place = old
		}
		l.set(key, out.overrides[key], l.overridePlace(key))
		if inFile && f.text(&out.base) != f.text(&l.cfg) {
			out.Warnings = append(out.Warnings,
				place+"the value has no effect, because another was set through the API (see GET /api/v1/settings/diff)")
		}
	}
}

// settingKeys returns the keys of all settings.
func (l *loader) settingKeys() []string {
	var keys []string
	for _, f := range l.fields {
		keys = append(keys, f.Key)
	}
	return keys
}

// WithChanges loads the settings with changed settings of the API, by key; nil removes one. It uses
// the file as it was read: a file that is being edited has no effect yet.
func (l *Loaded) WithChanges(changes map[string]*string) (*Loaded, error) {
	overrides := maps.Clone(l.overrides)
	for key, text := range changes {
		if text == nil {
			delete(overrides, key)
		} else {
			overrides[key] = *text
		}
	}
	return load(l.sources, l.DataDir, overrides, &l.file)
}

// SaveOverrides writes the settings of the API to the data directory. When it returns they are on
// the disk.
func (l *Loaded) SaveOverrides() error {
	data, err := json.MarshalIndent(l.overrides, "", "  ")
	if err != nil {
		return err
	}
	if len(data) >= maxFile {
		return fmt.Errorf("they are larger than %v", Bytes(maxFile))
	}
	return atomicfile.Write(filepath.Join(l.DataDir, overridesFile), append(data, '\n'))
}
