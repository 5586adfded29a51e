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

// Sources are where settings come from besides the file.
type Sources struct {
	Flags map[string]string // by key, as written
	Env   []string          // as os.Environ returns it
}

// Load returns the settings of flags, environment, file and defaults, in this order of precedence,
// and warnings about what has no effect. The error, when there is one, has a line for each mistake,
// each with its place: "livego.yaml:3: rtmp_adr: unknown key", "LIVEGO_RTMP_ADDR: ...",
// "--rtmp_addr: ...". No error shows the value of a secret.
func Load(s Sources) (Config, []string, error) {
	l := loader{cfg: Default(), fields: fields(), places: map[string]string{}}
	env, warnings := l.readEnv(s.Env)
	l.readFile(s.Flags, env)
	for _, f := range l.fields {
		if v, ok := env[f.Key]; ok {
			l.set(f.Key, v.text, v.place)
		}
		if text, ok := s.Flags[f.Key]; ok {
			l.set(f.Key, text, "--"+f.Key+": ")
			if f.exposesSecret(text) {
				warnings = append(warnings, fmt.Sprintf(
					"--%s is visible to every user of this machine in the list of processes: use %s", f.Key, f.fileEnv()))
			}
		}
	}
	// A setting that could not be read would only lead to more complaints about others.
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

// loader puts a Config together and remembers where each value came from.
type loader struct {
	cfg    Config
	fields []field
	places map[string]string // key -> what to begin a complaint about it with
	errs   []error
}

func (l *loader) field(key string) *field {
	i := slices.IndexFunc(l.fields, func(f field) bool { return f.Key == key })
	if i < 0 {
		return nil
	}
	return &l.fields[i]
}

// set sets a key of the table to text; place begins the complaint when it cannot be.
func (l *loader) set(key, text, place string) {
	l.places[key] = place
	f := l.field(key)
	if err := f.set(&l.cfg, text); err != nil {
		l.fail(place, "%w", err)
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

// readFile reads the file that flags, environment or default name. Only one that was named has to be there.
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
	l.cfg.ConfigFile = path // whatever the file says of itself
}

// A value is a setting as written, and what an error about it starts with.
type value struct{ text, place string }

// readEnv sorts the variables of ours into settings, by key, and a warning about the rest. It reads the files that hold
// secrets: those that variables name, and the credentials that systemd passes.
func (l *loader) readEnv(environ []string) (env map[string]value, warnings []string) {
	env = map[string]value{}
	byName := map[string]*field{}
	for i := range l.fields {
		f := &l.fields[i]
		byName[f.Env] = f
		if f.secret != "" {
			byName[f.fileEnv()] = f
		}
	}
	files := map[string]string{} // by key
	credentials := ""
	var unknown []string
	for _, kv := range environ {
		name, text, _ := strings.Cut(kv, "=")
		if f, ok := byName[name]; ok && name == f.Env {
			env[f.Key] = value{text, f.Env + ": "}
		} else if ok && text != "" {
			files[f.Key] = text
		} else if name == credentialsEnv {
			credentials = text
		} else if !ok && strings.HasPrefix(name, envPrefix) && !kubernetesVars.MatchString(name) {
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

// kubernetesVars matches what Kubernetes sets in every container next to a service that is called livego.
var kubernetesVars = regexp.MustCompile(`^LIVEGO_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// suggest returns " (did you mean X?)" for the nearest of known, "" when none is near.
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

// editDistance counts the letters to insert, remove or replace that make a into b.
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
