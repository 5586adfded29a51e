package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// A value is a JSON value. Unlike a map, it keeps the order of members, which is that of the API's
// documentation.
type value struct {
	kind   valueKind
	text   string   // of a scalar
	quoted bool     // the scalar is a text
	items  []value  // of an array or an object
	names  []string // of the items of an object
}

type valueKind int

const (
	null valueKind = iota
	scalar
	array
	object
)

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(data []byte) (err error) {
	*v, err = parseValue(data)
	return err
}

func parseValue(data []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return decodeValue(d)
}

// decodeValue decodes the next value. Its depth is limited by the decoder.
func decodeValue(d *json.Decoder) (v value, err error) {
	token, err := d.Token()
	if err != nil {
		return v, err
	}
	open, isDelim := token.(json.Delim)
	switch {
	case token == nil:
		return v, nil
	case !isDelim:
		_, quoted := token.(string)
		return value{kind: scalar, text: fmt.Sprint(token), quoted: quoted}, nil
	}
	v.kind = array
	if open == '{' {
		v.kind = object
	}
	for d.More() {
		if v.kind == object {
			name, err := d.Token()
			if err != nil {
				return v, err
			}
			v.names = append(v.names, fmt.Sprint(name))
		}
		item, err := decodeValue(d)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, item)
	}
	_, err = d.Token()
	return v, err
}

// member returns a member of an object, null if it is absent.
func (v value) member(name string) value {
	for i, n := range v.names {
		if n == name {
			return v.items[i]
		}
	}
	return value{}
}

// printJSON prints v, indented; nothing for an empty response.
func (v value) printJSON(w io.Writer) error {
	if v.kind == null {
		return nil
	}
	var out bytes.Buffer
	if err := json.Indent(&out, v.appendJSON(nil), "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(w)
	return err
}

// appendJSON appends v to b.
func (v value) appendJSON(b []byte) []byte {
	quote := func(s string) {
		text, _ := json.Marshal(s) // a string has no error
		b = append(b, text...)
	}
	switch {
	case v.kind == null:
		return append(b, "null"...)
	case v.kind == scalar && v.quoted:
		quote(v.text)
		return b
	case v.kind == scalar:
		return append(b, v.text...)
	}
	open, end := byte('['), byte(']')
	if v.kind == object {
		open, end = '{', '}'
	}
	b = append(b, open)
	for i, item := range v.items {
		if i > 0 {
			b = append(b, ',')
		}
		if v.kind == object {
			quote(v.names[i])
			b = append(b, ':')
		}
		b = item.appendJSON(b)
	}
	return append(b, end)
}

// print prints the response of a call as tables.
func (v value) print(w io.Writer, call apiCall) error {
	if call.list != "" {
		return v.printTable(w, call.columns)
	}
	if v.kind != object {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var tables []int
	for i, item := range v.items {
		if item.isTable() {
			tables = append(tables, i)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\n", printable(v.names[i]), v.cell(v.names[i]))
	}
	err := table.Flush()
	for _, i := range tables {
		_, printErr := fmt.Fprintf(w, "\n%s\n", strings.ToUpper(printable(v.names[i])))
		err = errors.Join(err, printErr, v.items[i].printTable(w, nil))
	}
	return err
}

// isTable reports whether v is a list of objects.
func (v value) isTable() bool {
	return v.kind == array && len(v.items) > 0 && v.items[0].kind == object
}

// printTable prints a list of objects, with these members or with all.
func (v value) printTable(w io.Writer, columns []string) error {
	if columns == nil {
		for _, entry := range v.items {
			columns = union(columns, entry.names)
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		fmt.Fprint(table, strings.ToUpper(strings.ReplaceAll(printable(c), "_", " ")), separator(i, columns))
	}
	for _, entry := range v.items {
		for i, c := range columns {
			fmt.Fprint(table, entry.cell(c), separator(i, columns))
		}
	}
	return table.Flush()
}

func separator(i int, columns []string) string {
	if i == len(columns)-1 {
		return "\n"
	}
	return "\t"
}

// union returns list with those of more that it lacks.
func union(list, more []string) []string {
	have := map[string]bool{}
	for _, s := range list {
		have[s] = true
	}
	for _, s := range more {
		if !have[s] {
			list = append(list, s)
		}
	}
	return list
}

// cell returns a member as a table shows it, "-" if it is absent. The member "stream" is app and
// room.
func (v value) cell(name string) string {
	m := v.member(name)
	text := m.inLine(name)
	if name == "stream" && m.kind == null {
		text = strings.Trim(v.member("app").text+"/"+v.member("room").text, "/")
	}
	return dash(printable(text))
}

// inLine returns v, the value of the member name, in one line.
func (v value) inLine(name string) string {
	switch v.kind {
	case null:
		return ""
	case scalar:
		return formatScalar(name, v.text)
	case array, object:
	}
	var parts []string
	for i, item := range v.items {
		switch {
		case name == "tracks":
			parts = append(parts, formatTrack(item))
		case name == "health":
			parts = append(parts, item.member("code").text)
		case name == "apps" && item.kind == object:
			parts = append(parts, item.member("app").text+" "+item.member("state").text)
		case name == "keys" && item.kind == object:
			parts = append(parts, cmp.Or(item.member("label").text, "default"))
		case v.kind == object:
			parts = append(parts, v.names[i]+"="+item.inLine(""))
		default:
			parts = append(parts, item.inLine(""))
		}
	}
	if v.kind == object || name == "health" {
		return strings.Join(parts, " ")
	}
	return strings.Join(parts, ", ")
}

// formatTrack returns a track in few words: h264 1920x1080 30 fps.
func formatTrack(v value) string {
	parts := []string{v.member("codec").text}
	if w, h := v.member("width").text, v.member("height").text; w != "" && h != "" {
		parts = append(parts, w+"x"+h)
	}
	if fps := v.member("measured_frame_rate").text; fps != "" {
		rate, _ := strconv.ParseFloat(fps, 64)
		parts = append(parts, strconv.FormatFloat(rate, 'f', 0, 64)+" fps")
	}
	if rate := v.member("sample_rate").text; rate != "" {
		parts = append(parts, rate+" Hz")
	}
	return strings.Join(parts, " ")
}

// formatScalar returns the value of the member name for people. Names have units, as in the API's
// documentation.
func formatScalar(name, text string) string {
	number, err := strconv.ParseFloat(text, 64)
	isNumber := err == nil
	switch {
	case isNumber && (strings.HasPrefix(name, "bytes") || strings.HasSuffix(name, "_bytes")):
		return formatBytes(int64(number))
	case isNumber && name == "bitrate":
		return text + " kbit/s"
	case isNumber && strings.HasSuffix(name, "_ms"):
		return text + " ms"
	case isNumber && (name == "uptime" || name == "duration"):
		return (time.Duration(number) * time.Second).String()
	case isNumber && name == "gop":
		return strconv.FormatFloat(number, 'f', 1, 64) + " s"
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC().Format("2006-01-02T15:04:05Z")
	}
	return text
}

// formatBytes returns a size with a binary prefix.
func formatBytes(n int64) string {
	size := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if size < 1024 {
			return strconv.FormatFloat(size, 'f', min(1, len(unit)-1), 64) + " " + unit
		}
		size /= 1024
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " TiB"
}

// printable returns s without characters that control a terminal or a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
