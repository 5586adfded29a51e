package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Sources are the sources of settings besides the file and the API.
type Sources struct {
	Flags map[string]string // by key, as written
	Env   []string          // as os.Environ returns it
}

// An Origin is where the value of a setting comes from.
type Origin string

// Origins, in order of precedence.
const (
	FromFlag        Origin = "flag"
	FromEnvironment Origin = "environment"
	FromAPI         Origin = "api"
	FromFile        Origin = "file"
	FromDefault     Origin = "default"
)

// A Loaded holds the result of Load: the settings, and where each comes from. It is immutable.
type Loaded struct {
	Config
	Warnings []string

	sources   Sources
	overrides map[string]string // settings of the API, by key, as written
	unread    error             // why the user may not read them, nil if they were read
	origins   map[string]Origin // of the settings that are not defaults, by key
	file      settingsFile      // as it was read
	base      Config            // the settings of the file and the defaults alone
}

// A settingsFile is the content of the settings file.
type settingsFile struct {
	path string
	info fs.FileInfo // before it was read; nil if there is no file
	data []byte      // nil if there is no file
}

// Load returns the settings from flags, environment, API, file and defaults, in this order of
// precedence. The error has a line for each mistake, which starts with its place:
// "livego.yaml:3: rtmp_adr: unknown key", "LIVEGO_RTMP_ADDR: ...", "--rtmp_addr: ...". No error
// contains the value of a secret. The warnings are returned with an error too.
func Load(s Sources) (*Loaded, error) { return load(s, "", nil, nil) }

// Reload loads the settings again from the same sources. The data directory stays the same, since it
// is in use.
func (l *Loaded) Reload() (*Loaded, error) {
	next, err := load(l.sources, l.DataDir, nil, nil)
	if err == nil {
		err = next.CheckOverrides()
	}
	return next, err
}

// FileInfo returns the state of the settings file when it was read; nil if there was none.
func (l *Loaded) FileInfo() fs.FileInfo { return l.file.info }

// load loads the settings. dataDir holds the settings of the API; "" means data_dir. overrides and
// file replace what is on the disk, nil for none.
func load(s Sources, dataDir string, overrides map[string]string, file *settingsFile) (*Loaded, error) {
	l := newLoader()
	env, warnings := l.readEnv(s.Env)
	out := &Loaded{Warnings: warnings, sources: s, origins: l.origins}
	l.origin = FromFile
	if file == nil {
		file = l.readFile(s.Flags, env)
	}
	out.file = *file
	if out.file.data != nil {
		l.readYAML(out.file.path, out.file.data)
		l.cfg.ConfigFile = out.file.path // the key in the file has no effect
	}
	out.base = l.cfg
	if overrides == nil {
		overrides = l.readOverrides(out, cmp.Or(dataDir, s.Flags["data_dir"], env["data_dir"].text, l.cfg.DataDir))
	}
	out.overrides = overrides
	l.setOverrides(out)
	for i := range l.fields {
		f := &l.fields[i]
		for _, key := range f.keys() {
			l.origin = FromEnvironment
			if v, ok := env[key]; ok {
				l.set(key, v.text, v.place)
			}
			l.origin = FromFlag
			if text, ok := s.Flags[key]; ok {
				l.set(key, text, "--"+key+": ")
				if f.exposesSecret(text) {
					out.Warnings = append(out.Warnings, fmt.Sprintf(
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
		return out, errors.Join(l.errs...)
	}
	out.Config = l.cfg
	out.Warnings = append(out.Warnings, l.cfg.warnings()...)
	return out, nil
}

// loader builds a Config and records where each value came from.
type loader struct {
	cfg    Config
	fields []field
	places map[string]string // by key: the place, as the prefix of an error
	errs   []error

	overridesPath string // the file with the settings of the API; "" if they are those of a request

	origin  Origin            // of the values that are set now
	origins map[string]Origin // by current key
}

func newLoader() *loader {
	return &loader{cfg: Default(), fields: fields(), places: map[string]string{}, origins: map[string]Origin{}}
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
	l.origins[f.Key] = l.origin
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
		if other, both := l.places[f.Key]; !both {
			l.places[f.Key] = place
		} else if other != l.overridePlace(f.Key) { // the API knows the current name only
			l.fail(place, "deprecated name of %s, which is set too: remove %s", f.Key, f.Old)
		}
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

// readFile returns the settings file of the flag, the environment variable or the default. A missing
// file is an error only if it was named.
func (l *loader) readFile(flags map[string]string, env map[string]value) *settingsFile {
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
		return &settingsFile{path: path}
	}
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s is larger than %v", path, Bytes(maxFile))
	}
	data := []byte{}
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		l.fail(key+": ", "%w", err)
		return &settingsFile{path: path}
	}
	return &settingsFile{path, info, data}
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
		case strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, ctlPrefix) && !kubernetesVars.MatchString(name):
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

// ctlPrefix is the prefix of the variables of livego ctl.
const ctlPrefix = envPrefix + "CTL_"

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
