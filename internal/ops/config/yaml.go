package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"livego/internal/domain"
	"livego/internal/ops/textfile"
)

// maxFile is the maximum size of the settings file in bytes, ten times that of a file with a
// thousand apps.
const maxFile = 1 << 20

// readYAML reads settings from the syntax tree of a file, which has the line numbers. It accepts
// mappings, lists and plain values, but no aliases, merges, tags or duplicate keys.
func (l *loader) readYAML(path string, data []byte) {
	data, err := textfile.Decode(data)
	if err != nil {
		l.fail(path+": ", "%w", err)
		return
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()) // mapping reports duplicate keys
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			l.fail(fmt.Sprintf("%s:%d: ", path, syntax.Token.Position.Line), "%s", syntax.Message)
		} else {
			l.fail(path+": ", "%w", err)
		}
		return
	}
	y := yamlReader{l, path}
	for i, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if i > 0 {
			l.fail(y.position(doc.Body, ""), "only one YAML document is allowed")
			return
		}
		y.mapping(doc.Body, "", y.knownKeys(""), y.setting)
	}
}

type yamlReader struct {
	*loader
	path string
}

// position returns the prefix of an error about key at node: "livego.yaml:12: rtmp_addr: ".
func (y yamlReader) position(n ast.Node, key string) string {
	if key != "" {
		key += ": "
	}
	return fmt.Sprintf("%s:%d: %s", y.path, n.GetToken().Position.Line, key)
}

// knownKeys returns the valid keys of the block with that prefix, "" for the file itself.
func (y yamlReader) knownKeys(prefix string) []string {
	seen := map[string]bool{}
	var keys []string
	add := func(k string) {
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, f := range y.fields {
		for _, key := range f.keys() {
			if rest, ok := strings.CutPrefix(key, prefix); ok {
				block, _, _ := strings.Cut(rest, ".")
				add(block)
			}
		}
	}
	if prefix == "" {
		add("server")
	}
	return keys
}

// mapping calls fn for each member of a block. name is the name of the block, "" for the file
// itself.
func (y yamlReader) mapping(n ast.Node, name string, known []string, fn func(key string, keyNode, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		y.fail(y.position(n, name), "must have lines of the form key: value")
		return
	}
	lines := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		keyNode := it.Key()
		key, full := keyNode.GetToken().Value, strings.TrimPrefix(name+"."+keyNode.GetToken().Value, ".")
		if first, ok := lines[key]; ok {
			y.fail(y.position(keyNode, full), "duplicate key: first in line %d", first)
			continue
		}
		lines[key] = keyNode.GetToken().Position.Line
		if i := strings.IndexFunc(key, invisible); i >= 0 {
			r, _ := utf8.DecodeRuneInString(key[i:])
			y.fail(y.position(keyNode, strings.Map(dropInvisible, full)),
				"the key contains the invisible character %U: remove it", r)
			continue
		}
		if !slices.Contains(known, key) {
			y.fail(y.position(keyNode, full), "unknown key%s", suggest(key, known))
			continue
		}
		fn(full, keyNode, it.Value())
	}
}

// setting reads a key of the file itself or of a block in the table.
func (y yamlReader) setting(key string, keyNode, value ast.Node) {
	if key == "server" {
		y.places[key] = y.position(keyNode, key)
		y.servers(value)
		return
	}
	f := y.field(key)
	if f == nil { // a block; an empty one changes nothing
		if value.Type() != ast.NullType {
			y.mapping(value, key, y.knownKeys(key+"."), y.setting)
		}
		return
	}
	text, ok := plainText(value, f.typ)
	if !ok && f.words[text] == "" {
		y.fail(y.position(keyNode, key), "%s", typeError(f, value))
		return
	}
	y.set(key, text, y.position(keyNode, key))
}

// typeError returns the error for a value of the wrong type, without the value, which may be a
// secret.
func typeError(f *field, n ast.Node) string {
	switch {
	case n.Type() == ast.NullType:
		return "has no value"
	case f.typ.Kind() == reflect.String:
		return "must be a text: put it in quotes"
	}
	return "must be " + f.Values
}

// plainText returns the text of a plain value if its YAML type fits t.
func plainText(n ast.Node, t reflect.Type) (text string, ok bool) {
	if seq, isList := n.(*ast.SequenceNode); isList && t == reflect.TypeFor[[]string]() {
		var parts []string
		for _, v := range seq.Values {
			s, ok := plainText(v, reflect.TypeFor[string]())
			if !ok || strings.Contains(s, ",") {
				return "", false
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), true
	}
	sized := t == reflect.TypeFor[Bytes]() || t == reflect.TypeFor[Mode]() || t == reflect.TypeFor[FreeSpace]()
	timed := t == reflect.TypeFor[time.Duration]() || t == reflect.TypeFor[BatchWindow]()
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, t.Kind() == reflect.String || timed || sized
	case *ast.LiteralNode:
		return n.Value.Value, t.Kind() == reflect.String
	case *ast.IntegerNode:
		return n.GetToken().Value, timed || t.Kind() == reflect.Int || sized
	case *ast.BoolNode:
		return n.GetToken().Value, t.Kind() == reflect.Bool
	}
	return "", false
}

// servers reads the list of apps.
func (y yamlReader) servers(n ast.Node) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok || len(seq.Values) == 0 {
		y.fail(y.position(n, "server"), "must be a list of apps, each starting with - appname:")
		return
	}
	y.cfg.Apps = nil
	for i, entry := range seq.Values {
		y.app(fmt.Sprintf("server[%d]", i), entry)
	}
}

// app reads one entry of server. Switches that it does not have are true.
func (y yamlReader) app(name string, n ast.Node) {
	app := newApp("")
	switches := map[string]*bool{"live": &app.Live, "hls": &app.HLS, "flv": &app.FLV, "api": &app.API}
	y.mapping(n, name, []string{"appname", "live", "hls", "flv", "api", "static_push"},
		func(key string, keyNode, value ast.Node) {
			place := y.position(keyNode, key)
			member := keyNode.GetToken().Value
			switch member {
			case "appname":
				text, ok := plainText(value, reflect.TypeFor[string]())
				if !ok {
					y.fail(place, "must be a text: put it in quotes")
				} else if err := domain.CheckApp(text); err != nil {
					y.fail(place, "%w", err)
				}
				app.Name = text
			case "static_push":
				app.StaticPush = y.targets(place, value)
			default:
				b, ok := value.(*ast.BoolNode)
				if !ok {
					y.fail(place, "must be true or false")
					return
				}
				*switches[member] = b.Value
			}
		})
	for _, other := range y.cfg.Apps {
		if app.Name != "" && other.Name == app.Name {
			y.fail(y.position(n, name), "duplicate app %q", app.Name)
		}
	}
	if app.Name == "" {
		y.fail(y.position(n, name), "appname is missing")
	}
	y.cfg.Apps = append(y.cfg.Apps, app)
}

// targets reads a list of distinct URLs. No error shows a URL, which may contain a secret.
func (y yamlReader) targets(place string, n ast.Node) (list Targets) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		y.fail(place, "must be a list of URLs")
		return nil
	}
	for i, v := range seq.Values {
		text, ok := plainText(v, reflect.TypeFor[string]())
		u, err := url.Parse(text)
		if !ok || err != nil || u.Scheme != "rtmp" && u.Scheme != "rtmps" || u.Hostname() == "" ||
			strings.Trim(u.Path, "/") == "" || strings.Contains(text, "#") || len(text) > maxTarget {
			y.fail(place, "entry %d must be a URL of the form rtmp://host/app", i+1)
			continue
		}
		if slices.Contains(list, text) {
			y.fail(place, "entry %d is a duplicate", i+1)
		}
		list = append(list, text)
	}
	return list
}

// maxTarget is the maximum length of a URL in static_push, in bytes. The room is appended to it.
const maxTarget = 1024

// invisible reports whether an editor does not show r, such as a byte-order mark, a no-break space
// or a zero-width space.
func invisible(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

// dropInvisible is a mapping for strings.Map that removes invisible characters.
func dropInvisible(r rune) rune {
	if invisible(r) {
		return -1
	}
	return r
}
