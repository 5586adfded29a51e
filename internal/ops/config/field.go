package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Setting describes a setting, for flags and documents.
type Setting struct {
	Key     string // "rtmp_addr", "jwt.secret"
	Old     string // deprecated key, "" for none
	Env     string // the environment variable
	Group   string
	Default string   // as in the file, "" for none
	Help    string   // one or two sentences
	Bool    bool     // a flag without a value means true
	Values  string   // allowed values, such as "a duration" or "idle, always or never"
	OneOf   []string // all allowed values, nil if there is no list of them
	Secret  bool     // no output shows the value
	Reload  Reload   // when a changed value takes effect
	Writer  Writer   // who may change it through the API
}

// A Reload is when a changed value of a setting takes effect in a running server.
type Reload string

// Values of Reload.
const (
	ReloadLive        Reload = "live"            // at once
	ReloadStreams     Reload = "new streams"     // for streams that start later
	ReloadConnections Reload = "new connections" // for connections that are opened later
	ReloadRestart     Reload = "restart"         // after a restart of the server
)

// A Writer is the role that an operator needs to change a setting through the API.
type Writer string

// Values of Writer.
const (
	WriterOperate Writer = "operate"
	WriterAdmin   Writer = "admin"
	WriterNone    Writer = "no" // it cannot be changed through the API
)

// Settings returns all settings in the order of the table. It does not include the entries of
// server, which have no flags and no environment variables.
func Settings() []Setting {
	var all []Setting
	for _, f := range fields() {
		all = append(all, f.Setting)
	}
	return all
}

// field is a Setting and its field in Config.
type field struct {
	Setting
	index    []int
	typ      reflect.Type
	min, max string
	words    map[string]string // that stand for numbers, as values of the deprecated name
	secret   string            // "" if not secret; secretURL for a URL that may contain a secret
	nonempty bool
}

// secretURL is the tag value of a setting that is secret only if it contains a password or a query.
const secretURL = "url"

// fields reads the table from the tags of Config.
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
			if sf.Type.Kind() == reflect.Struct && sf.Type != reflect.TypeFor[BatchWindow]() &&
				sf.Type != reflect.TypeFor[FreeSpace]() {
				walk(sf.Type, prefix+key+".", at)
				continue
			}
			f := field{
				index: at, typ: sf.Type, min: sf.Tag.Get("min"), max: sf.Tag.Get("max"),
				secret: sf.Tag.Get("secret"), nonempty: sf.Tag.Get("nonempty") != "", words: map[string]string{},
			}
			for _, entry := range splitList(sf.Tag.Get("words")) {
				word, number, _ := strings.Cut(entry, "=")
				f.words[word] = number
			}
			var oneOf []string
			if list := sf.Tag.Get("oneof"); list != "" {
				oneOf = strings.Split(list, ",")
			}
			f.Setting = Setting{
				Key: prefix + key, Old: sf.Tag.Get("old"), Env: envName(prefix + key), Group: group, Default: sf.Tag.Get("default"),
				Help: sf.Tag.Get("help"), Bool: sf.Type.Kind() == reflect.Bool, OneOf: oneOf,
				Secret: f.secret != "", Reload: Reload(sf.Tag.Get("reload")),
				Writer: cmp.Or(Writer(sf.Tag.Get("write")), WriterAdmin),
			}
			f.Values = f.values()
			all = append(all, f)
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return all
}

// keys returns the keys of f: the deprecated one, if any, and the current one.
func (f *field) keys() []string {
	if f.Old == "" {
		return []string{f.Key}
	}
	return []string{f.Old, f.Key}
}

// envPrefix is the prefix of the environment variables for settings.
const envPrefix = "LIVEGO_"

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (f *field) in(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.index) }

// text returns the field's value in c as written in the file.
func (f *field) text(c *Config) string {
	if v, ok := f.in(c).Interface().([]string); ok {
		return strings.Join(v, ",")
	}
	return fmt.Sprint(f.in(c).Interface())
}

// set parses text, checks it and stores it in c. The error starts with a verb, to follow the name
// of the setting.
func (f *field) set(c *Config, text string) error {
	v, err := f.parse(text)
	if err != nil {
		return err
	}
	if f.nonempty && text == "" {
		return errors.New("must not be empty")
	}
	if f.OneOf != nil && !slices.Contains(f.OneOf, text) {
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
		v, err = strconv.Atoi(cmp.Or(f.words[text], text))
	case time.Duration:
		v, err = parseDuration(text)
	case Bytes:
		v, err = parseBytes(text)
	case []string:
		return splitList(text), nil
	case Mode:
		v, err = parseMode(text)
	case FreeSpace:
		v, err = parseFreeSpace(text)
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

// checkRange checks a number against min and max. A BatchWindow must not be negative.
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

// bound parses a min or max tag.
func (f *field) bound(text string) int64 {
	v, err := f.parse(text)
	if err != nil {
		panic("config: a bound of " + f.Key + " " + err.Error())
	}
	if w, ok := v.(BatchWindow); ok {
		return int64(w.Fixed)
	}
	return reflect.ValueOf(v).Int()
}

// values returns the allowed values as text.
func (f *field) values() string {
	if f.OneOf != nil {
		last := len(f.OneOf) - 1
		return strings.Join(f.OneOf[:last], ", ") + " or " + f.OneOf[last]
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
	case FreeSpace:
		return "a percentage below 100 such as 2%, or a size such as 5GiB, at least 1MiB"
	case BatchWindow:
		return "auto or a duration such as 50ms"
	}
	return "a text"
}

// parseDuration parses "10s", and "30d" for days; a plain number is seconds, as in the earlier server
// of this name.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(text)
}

// parseBytes parses "8MiB"; a plain number is bytes.
func parseBytes(text string) (Bytes, error) {
	size := Bytes(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, size = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32) // so that n GiB does not overflow
	return Bytes(n) * size, err
}

// parseFreeSpace parses "2%" or "5GiB".
func parseFreeSpace(text string) (f FreeSpace, err error) {
	percent, ok := strings.CutSuffix(text, "%")
	if !ok {
		f.Size, err = parseBytes(text)
	} else if f.Percent, err = strconv.ParseFloat(strings.TrimSpace(percent), 64); !(f.Percent < 100) { // not NaN either
		err = errors.New("out of range")
	}
	if f.Percent < 0 || f.Size != 0 && f.Size < 1<<20 { // a number without a unit is a mistake
		err = errors.New("out of range")
	}
	return f, err
}

// parseMode parses "0640" or "640". The owner must be able to read and write; execute bits are not
// allowed.
func parseMode(text string) (Mode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err == nil && (n&0o600 != 0o600 || n&^0o666 != 0) {
		err = errors.New("out of range")
	}
	return Mode(n), err
}

// splitList parses "a, b".
func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
