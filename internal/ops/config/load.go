package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Sources are the sources of settings besides the file.
type Sources struct {
	Flags map[string]string // by key, as written
	Env   []string          // as os.Environ returns it
}

// Load returns the settings from flags, environment, file and defaults, in this order of
// precedence, and warnings. The error has a line for each mistake, which starts with its place:
// "livego.yaml:3: rtmp_adr: unknown key", "LIVEGO_RTMP_ADDR: ...", "--rtmp_addr: ...". No error
// contains the value of a secret.
func Load(s Sources) (Config, []string, error) {
	l := loader{cfg: Default(), fields: fields(), places: map[string]string{}}
	env, warnings := l.readEnv(s.Env)
	l.readFile(s.Flags, env)
	for i := range l.fields {
		f := &l.fields[i]
		for _, key := range f.keys() {
			if v, ok := env[key]; ok {
				l.set(key, v.text, v.place)
			}
			if text, ok := s.Flags[key]; ok {
				l.set(key, text, "--"+key+": ")
				if f.exposesSecret(text) {
					warnings = append(warnings, fmt.Sprintf(
						"--%s is visible to every user of this machine in the list of processes: use %s", key, f.fileEnv()))
				}
			}
		}
	}
	l.checkDeprecated()
	// Without the values that could not be read, these checks would report follow-up errors.
	if len(l.errs) == 0 {
		for _, p := range l.cfg.problems() {
			l.errs = append(l.errs, errors.New(l.place(p.key)+p.text))
		}
	}
	if len(l.errs) > 0 {
		return Config{}, warnings, errors.Join(l.errs...)
	}
	return l.cfg, append(warnings, l.cfg.warnings()...), nil
}

// loader builds a Config and records where each value came from.
type loader struct {
	cfg    Config
	fields []field
	places map[string]string // by key: the place, as the prefix of an error
	errs   []error
}

// field returns the field with that key, current or deprecated, nil for none.
func (l *loader) field(key string) *field {
	i := slices.IndexFunc(l.fields, func(f field) bool { return slices.Contains(f.keys(), key) })
	if i < 0 {
		return nil
	}
	return &l.fields[i]
}

// set sets the field of a key, current or deprecated, to text. place is the prefix of an error about it.
func (l *loader) set(key, text, place string) {
	l.places[key] = place
	f := l.field(key)
	if err := f.set(&l.cfg, text); err != nil {
		l.fail(place, "%w", err)
	}
}

// checkDeprecated records the deprecated keys that were used. It is an error to use both keys of a
// setting, whatever the sources: which one is meant is not clear.
func (l *loader) checkDeprecated() {
	for _, f := range l.fields {
		place, used := l.places[f.Old]
		if f.Old == "" || !used {
			continue
		}
		if _, both := l.places[f.Key]; both {
			l.fail(place, "deprecated name of %s, which is set too: remove %s", f.Key, f.Old)
		}
		l.places[f.Key] = place
		l.cfg.Deprecated = append(l.cfg.Deprecated, DeprecatedName{Old: f.Old, New: f.Key})
	}
}

func (l *loader) fail(place, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%s"+format, append([]any{place}, args...)...))
}

func (l *loader) place(key string) string {
	if p, ok := l.places[key]; ok {
		return p
	}
	return key + ": "
}

// readFile reads the settings file of the flag, the environment variable or the default. A missing
// file is an error only if it was named.
func (l *loader) readFile(flags map[string]string, env map[string]value) {
	const key = "config_file"
	path, named := flags[key]
	if !named {
		var v value
		v, named = env[key]
		path = v.text
	}
	if !named {
		path = l.cfg.ConfigFile
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s is larger than %v", path, Bytes(maxFile))
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		l.fail(key+": ", "%w", err)
		return
	}
	l.readYAML(path, data)
	l.cfg.ConfigFile = path // the key in the file has no effect
}

// A value is a setting as written, and the prefix of errors about it.
type value struct{ text, place string }

// readEnv returns the settings in environment variables, by key, and a warning about unknown ones.
// It also reads the files with secrets: those that variables name, and systemd credentials.
func (l *loader) readEnv(environ []string) (env map[string]value, warnings []string) {
	env = map[string]value{}
	keys, fileKeys := map[string]string{}, map[string]string{} // by variable
	for i := range l.fields {
		f := &l.fields[i]
		for _, key := range f.keys() {
			keys[envName(key)] = key
		}
		if f.secret != "" {
			fileKeys[f.fileEnv()] = f.Key
		}
	}
	files := map[string]string{} // by key
	credentials := ""
	var unknown []string
	for _, kv := range environ {
		name, text, _ := strings.Cut(kv, "=")
		key, isSetting := keys[name]
		fileKey, isFile := fileKeys[name]
		switch {
		case isSetting:
			env[key] = value{text, name + ": "}
		case isFile:
			if text != "" {
				files[fileKey] = text
			}
		case name == credentialsEnv:
			credentials = text
		case strings.HasPrefix(name, envPrefix) && !kubernetesVars.MatchString(name):
			unknown = append(unknown, name)
		}
	}
	l.readSecretFiles(env, files, credentials)
	if len(unknown) > 0 {
		slices.Sort(unknown)
		warnings = append(warnings, "unknown environment variables have no effect: "+strings.Join(unknown, ", "))
	}
	return env, warnings
}

// kubernetesVars matches the variables that Kubernetes sets in every container for a service named
// livego.
var kubernetesVars = regexp.MustCompile(`^LIVEGO_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
	`PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// suggest returns " (did you mean X?)" with the most similar known word, or "".
func suggest(word string, known []string) string {
	best, distance := "", 1+len(word)/3
	for _, k := range known {
		if d := editDistance(word, k); d <= distance {
			best, distance = k, d-1
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// editDistance returns the Levenshtein distance of a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
