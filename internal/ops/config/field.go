package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Setting is one line of the table, for whoever makes flags or documents of it.
type Setting struct {
	Key     string // "rtmp_addr", "jwt.secret"
	Env     string // the environment variable
	Group   string
	Default string // as in the file, "" for none
	Help    string // one or two sentences
	Bool    bool   // a flag without a value means true
	Values  string // what may be written, such as "a duration" or "idle, always or never"
}

// Settings returns the table in its order. The blocks of server are not in it: they have no flags and no variables.
func Settings() []Setting {
	var all []Setting
	for _, f := range fields() {
		all = append(all, f.Setting)
	}
	return all
}

// field is a Setting and where it lives in a Config.
type field struct {
	Setting
	index    []int
	typ      reflect.Type
	min, max string
	oneof    []string
	secret   string // "": not a secret; secretURL: a URL that may hold one
	nonempty bool
}

// secretURL is the tag of a setting that is a secret only with a password or a query in it.
const secretURL = "url"

// fields reads the table off the tags of Config.
func fields() []field {
	var all []field
	group := ""
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			sf := t.Field(i)
			key, ok := sf.Tag.Lookup("key")
			if !ok {
				continue
			}
			at := append(slices.Clone(index), i)
			if g := sf.Tag.Get("group"); g != "" {
				group = g
			}
			if sf.Type.Kind() == reflect.Struct && sf.Type != reflect.TypeFor[BatchWindow]() {
				walk(sf.Type, prefix+key+".", at)
				continue
			}
			f := field{
				index: at, typ: sf.Type, min: sf.Tag.Get("min"), max: sf.Tag.Get("max"),
				secret: sf.Tag.Get("secret"), nonempty: sf.Tag.Get("nonempty") != "",
			}
			if list := sf.Tag.Get("oneof"); list != "" {
				f.oneof = strings.Split(list, ",")
			}
			f.Setting = Setting{
				Key: prefix + key, Env: envName(prefix + key), Group: group, Default: sf.Tag.Get("default"),
				Help: sf.Tag.Get("help"), Bool: sf.Type.Kind() == reflect.Bool, Values: f.values(),
			}
			all = append(all, f)
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return all
}

// envPrefix begins the name of every environment variable that is a setting.
const envPrefix = "LIVEGO_"

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (f *field) in(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.index) }

// text returns the field's value in c as it is written in the file.
func (f *field) text(c *Config) string {
	if v, ok := f.in(c).Interface().([]string); ok {
		return strings.Join(v, ",")
	}
	return fmt.Sprint(f.in(c).Interface())
}

// set parses text and puts it into c, if it is in range. The error says what is wanted and begins with a verb.
func (f *field) set(c *Config, text string) error {
	v, err := f.parse(text)
	if err != nil {
		return err
	}
	if f.nonempty && text == "" {
		return errors.New("must not be empty")
	}
	if f.oneof != nil && !slices.Contains(f.oneof, text) {
		return fmt.Errorf("must be %s, not %q", f.Values, text)
	}
	if err := f.checkRange(v); err != nil {
		return fmt.Errorf("%w, not %s", err, text)
	}
	f.in(c).Set(reflect.ValueOf(v))
	return nil
}

func (f *field) parse(text string) (v any, err error) {
	switch reflect.Zero(f.typ).Interface().(type) {
	case string:
		return text, nil
	case bool:
		v, err = strconv.ParseBool(text)
	case int:
		v, err = strconv.Atoi(text)
	case time.Duration:
		v, err = parseDuration(text)
	case Bytes:
		v, err = parseBytes(text)
	case []string:
		return splitList(text), nil
	case Mode:
		v, err = parseMode(text)
	case BatchWindow:
		if text == "auto" {
			return BatchWindow{Auto: true}, nil
		}
		var d time.Duration
		d, err = parseDuration(text)
		v = BatchWindow{Fixed: d}
	default:
		panic("config: " + f.Key + " has a type without a parser")
	}
	if err != nil {
		return nil, fmt.Errorf("must be %s, not %q", f.Values, text)
	}
	return v, nil
}

// checkRange holds a number to min and max. Gather has its lower bound from its type.
func (f *field) checkRange(v any) error {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case time.Duration:
		n = int64(v)
	case Bytes:
		n = int64(v)
	case BatchWindow:
		if n = int64(v.Fixed); n < 0 {
			return errors.New("must not be negative")
		}
	default:
		return nil
	}
	if f.min != "" && n < f.bound(f.min) {
		return fmt.Errorf("must be at least %s", f.min)
	}
	if f.max != "" && n > f.bound(f.max) {
		return fmt.Errorf("must be at most %s", f.max)
	}
	return nil
}

// bound reads a min or max tag.
func (f *field) bound(text string) int64 {
	v, err := f.parse(text)
	if err != nil {
		panic("config: a bound of " + f.Key + " " + err.Error())
	}
	if g, ok := v.(BatchWindow); ok {
		return int64(g.Fixed)
	}
	return reflect.ValueOf(v).Int()
}

// values says in words what the field takes.
func (f *field) values() string {
	if f.oneof != nil {
		last := len(f.oneof) - 1
		return strings.Join(f.oneof[:last], ", ") + " or " + f.oneof[last]
	}
	switch reflect.Zero(f.typ).Interface().(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case time.Duration:
		return "a duration such as 10s or 500ms"
	case Bytes:
		return "a size such as 8MiB"
	case Mode:
		return "a mode in octal, from 0600 to 0666"
	case []string:
		return "a list"
	case BatchWindow:
		return "auto or a duration such as 50ms"
	}
	return "a text"
}

// parseDuration reads "10s"; a plain number is seconds, as an earlier server of this name had it.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(text)
}

// parseBytes reads "8MiB"; a plain number is bytes.
func parseBytes(text string) (Bytes, error) {
	size := Bytes(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, size = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32) // times a GiB still fits
	return Bytes(n) * size, err
}

// parseMode reads "0640" or "640". The owner reads and writes; nobody executes.
func parseMode(text string) (Mode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err == nil && (n&0o600 != 0o600 || n&^0o666 != 0) {
		err = errors.New("out of range")
	}
	return Mode(n), err
}

// splitList reads "a, b".
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
