// Package cmcd parses what players say about playback with their requests: Common Media Client Data, version 1
// (CTA-5004) and the keys of version 2 (CTA-5004-B) for which livego has a use. It knows no streams.
package cmcd

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	// maxText is the maximum length of the data of a request, in bytes.
	maxText = 2 << 10
	// maxItems is the maximum number of keys, and of items of a list.
	maxItems = 64
	// maxSession is the maximum length of a session ID, in bytes (CTA-5004, key sid).
	maxSession = 64
	// maxErrors is how many error codes of a report are read.
	maxErrors = 4
	// maxNumber is above every number that makes sense: more than eleven days in milliseconds.
	maxNumber = 1_000_000_000
)

// Unknown is the value of a number that the player has not sent.
const Unknown = -1

// Data are what a player says in one request. Numbers are Unknown or from 0 to a billion.
type Data struct {
	Session string // sid: the playback session; the player chooses it. "" if it is missing

	Starved bool // bs: the picture has stopped since the request before
	Startup bool // su: the buffer is not full yet, at the start or after the picture has stopped

	Buffer     int // bl: media in the buffer, in ms
	Throughput int // mtp: measured by the player, in kbit/s
	Bitrate    int // br: of the requested object, in kbit/s

	// Version 2. The counts are totals since the session started.
	Stalls     int      // bsa: how often the picture has stopped
	StallTime  int      // bsda: for how long, in ms
	Dropped    int      // dfa: frames that were not shown
	Latency    int      // ltc: from the server to the screen, in ms
	StartDelay int      // msd: from the start of the player to the first picture, in ms
	Errors     []string // ec: codes of errors since the report before, at most 4

	// Keys of livego's player. They are totals too.
	Frames   int // livego-frames: frames that were shown or dropped
	Switches int // livego-switches: how often the player has changed the protocol
	// Before is livego-before: the totals when the player connected last, if it had played and reported before that; else
	// nil.
	Before *Counts
}

// Counts are totals of a session, in the order of livego-before.
type Counts struct{ Stalls, StallTime, Dropped, Frames, Switches int }

// countsLength is the number of fields of Counts.
const countsLength = 5

// queryKey is the name of the query parameter.
const queryKey = "CMCD"

// ParseQuery returns the data in the query of a URL: false if there is none, or if it is invalid.
func ParseQuery(rawQuery string) (Data, bool) {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if value, found := strings.CutPrefix(pair, queryKey+"="); found && len(value) <= 3*maxText {
			text, err := url.QueryUnescape(value)
			if err != nil {
				break
			}
			d := New()
			return d, d.parse(text)
		}
	}
	return Data{}, false
}

// ParseRequest returns the data in the query or in the header of r: false if there is none, or if it is invalid. It
// allocates nothing for a request without data.
func ParseRequest(r *http.Request) (Data, bool) {
	if strings.Contains(r.URL.RawQuery, queryKey+"=") {
		return ParseQuery(r.URL.RawQuery)
	}
	d, found := New(), false
	for _, field := range [...]string{"Cmcd-Object", "Cmcd-Request", "Cmcd-Session", "Cmcd-Status"} {
		for _, text := range r.Header[field] {
			if found = true; !d.parse(text) {
				return Data{}, false
			}
		}
	}
	return d, found
}

// New returns Data of which nothing is known.
func New() Data {
	return Data{Buffer: Unknown, Throughput: Unknown, Bitrate: Unknown, Stalls: Unknown, StallTime: Unknown,
		Dropped: Unknown, Latency: Unknown, StartDelay: Unknown, Frames: Unknown, Switches: Unknown}
}

// parse parses a list of keys and values into d. Unknown keys and values of another type are ignored. It reports
// false if the syntax is invalid.
func (d *Data) parse(text string) bool {
	if len(text) > maxText {
		return false
	}
	for n := 0; ; n++ {
		text = strings.TrimLeft(text, " ")
		if text == "" {
			return true
		}
		key, rest := cutKey(text)
		if key == "" || n == maxItems {
			return false
		}
		v := value{boolean: true}
		if value, found := strings.CutPrefix(rest, "="); found {
			var ok bool
			if v, rest, ok = parseValue(value); !ok {
				return false
			}
		}
		d.set(key, v)
		rest = strings.TrimLeft(rest, " ")
		following, found := strings.CutPrefix(rest, ",")
		if !found && rest != "" {
			return false
		}
		text = following
	}
}

func cutKey(text string) (key, rest string) {
	i := 0
	for i < len(text) && isKeyByte(text[i]) {
		i++
	}
	return text[:i], text[i:]
}

func isKeyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.*", c) >= 0
}

// A value is one of a key: the fields of other types are zero. A list has its first numbers, the sum of all, the least
// of them, and its strings.
type value struct {
	boolean bool
	number  int
	least   int
	numeric bool
	numbers [countsLength]int
	count   int    // of numbers in the list
	text    string // a string or a token
	texts   []string
}

// parseValue parses a value at the start of text, with its parameters, and returns the rest.
func parseValue(text string) (v value, rest string, ok bool) {
	list, found := strings.CutPrefix(text, "(")
	if !found {
		if v, rest, ok = parseItem(text); ok {
			rest, ok = skipParameters(rest)
		}
		return v, rest, ok
	}
	for n := 0; n <= maxItems; n++ {
		list = strings.TrimLeft(list, " ")
		if rest, found := strings.CutPrefix(list, ")"); found {
			return v, rest, true
		}
		item, rest, ok := parseItem(list)
		if ok {
			rest, ok = skipParameters(rest)
		}
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != ')' {
			return v, "", false
		}
		if item.numeric {
			if !v.numeric {
				v.least = item.least
			}
			v.numeric, v.number, v.least = true, min(v.number+item.number, maxNumber), min(v.least, item.least)
			if v.count < countsLength {
				v.numbers[v.count] = item.number
			}
			v.count++
		} else if item.text != "" && len(v.texts) < maxErrors {
			v.texts = append(v.texts, item.text)
		}
		list = rest
	}
	return v, "", false
}

// parseItem parses a number, a string, a boolean or a token at the start of text.
func parseItem(text string) (v value, rest string, ok bool) {
	switch {
	case text == "":
		return v, "", false
	case text[0] == '"':
		return parseString(text[1:])
	case strings.HasPrefix(text, "?0"), strings.HasPrefix(text, "?1"):
		return value{boolean: text[1] == '1'}, text[2:], true
	}
	i := 0
	for i < len(text) && (isKeyByte(text[i]) || strings.IndexByte("+:/%", text[i]) >= 0) {
		i++
	}
	if i == 0 {
		return v, "", false
	}
	// Numbers may have decimals in version 2.
	if n, err := strconv.ParseFloat(text[:i], 64); err == nil && (text[0] == '-' || '0' <= text[0] && text[0] <= '9') {
		v.number, v.numeric = int(max(0, min(n, maxNumber))), n >= 0
		v.least = v.number
		return v, text[i:], true
	}
	return value{text: text[:i]}, text[i:], true
}

// parseString parses a string after its opening quote.
func parseString(text string) (v value, rest string, ok bool) {
	end := strings.IndexAny(text, `"\`)
	if end < 0 {
		return v, "", false
	}
	if text[end] == '"' {
		return value{text: text[:end]}, text[end+1:], true
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return value{text: b.String()}, text[i+1:], true
		case '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return v, "", false
			}
			fallthrough
		default:
			b.WriteByte(text[i])
		}
	}
	return v, "", false
}

// skipParameters skips the parameters of an item, as in 2000;v.
func skipParameters(text string) (rest string, ok bool) {
	for n := 0; strings.HasPrefix(text, ";"); n++ {
		key, rest := cutKey(strings.TrimLeft(text[1:], " "))
		if key == "" || n == maxItems {
			return "", false
		}
		if value, found := strings.CutPrefix(rest, "="); found {
			if _, rest, ok = parseItem(value); !ok {
				return "", false
			}
		}
		text = rest
	}
	return text, true
}

// set sets the field of a key. Of two values of a key the last one holds.
func (d *Data) set(key string, v value) {
	number := func(to *int) {
		if v.numeric {
			*to = v.number
		}
	}
	switch key {
	case "sid":
		if len(v.text) <= maxSession {
			d.Session = v.text
		}
	case "bs":
		d.Starved = v.boolean
	case "su":
		d.Startup = v.boolean
	case "bl": // in version 2 a list, by type of media: the picture stops when one is empty
		v.number = v.least
		number(&d.Buffer)
	case "mtp":
		number(&d.Throughput)
	case "br":
		number(&d.Bitrate)
	case "bsa":
		number(&d.Stalls)
	case "bsda":
		number(&d.StallTime)
	case "dfa":
		number(&d.Dropped)
	case "ltc":
		number(&d.Latency)
	case "msd":
		number(&d.StartDelay)
	case "ec":
		d.Errors = v.texts
	case "livego-frames":
		number(&d.Frames)
	case "livego-switches":
		number(&d.Switches)
	case "livego-before":
		if n := v.numbers; v.count == countsLength {
			d.Before = &Counts{Stalls: n[0], StallTime: n[1], Dropped: n[2], Frames: n[3], Switches: n[4]}
		}
	}
}
