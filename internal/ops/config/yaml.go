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

// maxFile bounds the file: one with a thousand apps has a tenth of it.
const maxFile = 1 << 20

// readYAML reads a file's settings off its syntax tree, which still knows the lines. Of YAML it
// takes mappings, lists and plain values: no aliases, merges or tags, and a key once.
func (l *loader) readYAML(path string, data []byte) {
	data, err := textfile.Decode(data)
	if err != nil {
		l.fail(path+": ", "%w", err)
		return
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()) // the complaint about those is ours
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
			l.fail(y.position(doc.Body, ""), "a second document begins here: there may be one")
			return
		}
		y.mapping(doc.Body, "", y.knownKeys(""), y.setting)
	}
}

type yamlReader struct {
	*loader
	path string
}

// position begins a complaint about key position node: "livego.yaml:12: rtmp_addr: ".
func (y yamlReader) position(n ast.Node, key string) string {
	if key != "" {
		key += ": "
	}
	return fmt.Sprintf("%s:%d: %s", y.path, n.GetToken().Position.Line, key)
}

// knownKeys returns the keys that may stand in the block that prefix names, "" for the file itself.
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
		if rest, ok := strings.CutPrefix(f.Key, prefix); ok {
			block, _, _ := strings.Cut(rest, ".")
			add(block)
		}
	}
	if prefix == "" {
		add("server")
	}
	return keys
}

// mapping calls fn for each member of a block; name is the block's, "" for the file itself.
func (y yamlReader) mapping(n ast.Node, name string, known []string, fn func(key string, keyNode, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		y.fail(y.position(n, name), "wants lines of the form key: value")
		return
	}
	lines := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		keyNode := it.Key()
		key, full := keyNode.GetToken().Value, strings.TrimPrefix(name+"."+keyNode.GetToken().Value, ".")
		if first, ok := lines[key]; ok {
			y.fail(y.position(keyNode, full), "is there twice: first in line %d", first)
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

// setting reads a key of the file itself or of a block of the table.
func (y yamlReader) setting(key string, keyNode, value ast.Node) {
	if key == "server" {
		y.places[key] = y.position(keyNode, key)
		y.servers(value)
		return
	}
	f := y.field(key)
	if f == nil { // a block, and one that is empty or commented out says nothing
		if value.Type() != ast.NullType {
			y.mapping(value, key, y.knownKeys(key+"."), y.setting)
		}
		return
	}
	text, ok := plainText(value, f.typ)
	if !ok {
		y.fail(y.position(keyNode, key), "%s", typeError(f, value))
		return
	}
	y.set(key, text, y.position(keyNode, key))
}

// typeError says what is wrong with the type of a value, without the value: it may be a secret.
func typeError(f *field, n ast.Node) string {
	switch {
	case n.Type() == ast.NullType:
		return "has no value"
	case f.typ.Kind() == reflect.String:
		return "must be a text: put it in quotes"
	}
	return "must be " + f.Values
}

// plainText returns the text of a plain value whose YAML type fits t.
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
	sized := t == reflect.TypeFor[Bytes]() || t == reflect.TypeFor[Mode]()
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
		y.fail(y.position(n, "server"), "wants a list of apps, each beginning with - appname:")
		return
	}
	y.cfg.Apps = nil
	for i, entry := range seq.Values {
		y.app(fmt.Sprintf("server[%d]", i), entry)
	}
}

// app reads one entry of server. What an entry does not say is true: it means what it says.
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
			y.fail(y.position(n, name), "there is an app %q already", app.Name)
		}
	}
	if app.Name == "" {
		y.fail(y.position(n, name), "has no appname")
	}
	y.cfg.Apps = append(y.cfg.Apps, app)
}

// targets reads a list of URLs, each behind one of its own. No complaint shows one: it may hold a secret.
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
			y.fail(place, "entry %d is no URL of the form rtmp://host/app", i+1)
			continue
		}
		if slices.Contains(list, text) {
			y.fail(place, "entry %d is there already", i+1)
		}
		list = append(list, text)
	}
	return list
}

// maxTarget bounds a URL of static_push, in bytes: a room comes behind it.
const maxTarget = 1024

// invisible reports whether r does not show in an editor: a byte-order mark between two lines, a
// no-break or zero-width space.
func invisible(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

// dropInvisible is a function for strings.Map that removes invisible characters.
func dropInvisible(r rune) rune {
	if invisible(r) {
		return -1
	}
	return r
}
