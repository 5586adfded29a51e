// Package playout plays files, one after the other, as one live stream: it reads lists, joins the
// times of the files, and sends the frames in real time to an RTMP server, over connections that
// may break. It encodes nothing; for tracks that no server takes it can have ffmpeg do so.
package playout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"livego/internal/ops/textfile"
	"livego/internal/source"
)

// An Entry is one file to play, or a part of it.
type Entry struct {
	Path     string
	In, Out  time.Duration // of the part; Out 0: to the end
	Duration time.Duration // after which the next begins, whatever the file says; 0: when the file is over
	ListLine string        // "list.txt:3" where a list named it, for people
}

const (
	maxListSize = 1 << 20 // bytes
	maxEntries  = 10_000
)

// Entries returns what is to be played of sources: files, and lists in the form of ffmpeg's concat
// demuxer in their place.
func Entries(paths []string) ([]Entry, error) {
	var all []Entry
	for _, p := range paths {
		text, err := readList(p)
		if err != nil {
			return nil, err
		}
		if text == nil {
			all = append(all, Entry{Path: p})
			continue
		}
		list, err := ParseList(p, text)
		if err != nil {
			return nil, err
		}
		if all = append(all, list...); len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d files", maxEntries)
		}
	}
	return all, nil
}

// readList returns the text of a list, nil for a file that is none: one whose first word is neither
// file nor ffconcat. What cannot be read is found out again when it is opened, and better told
// then.
func readList(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil
	}
	if isListUTF16(head[:n]) {
		return nil, fmt.Errorf("%s: %w", path, textfile.ErrUTF16)
	}
	if !isList(head[:n]) {
		return nil, nil
	}
	if info.Size() > maxListSize {
		return nil, fmt.Errorf("%s: a list of %d bytes is above the limit of %d", path, info.Size(), maxListSize)
	}
	rest, err := io.ReadAll(io.LimitReader(f, maxListSize))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return append(head[:n], rest...), nil
}

// isListUTF16 reports whether head would start a list if its UTF-16 characters were single bytes.
func isListUTF16(head []byte) bool {
	_, err := textfile.Decode(head)
	return err != nil && isList(bytes.ReplaceAll(bytes.Trim(head, "\xff\xfe"), []byte{0}, nil))
}

// isList reports whether the first word of a text is one that lists begin with.
func isList(head []byte) bool {
	for line := range bytes.Lines(bytes.TrimPrefix(head, []byte("\xEF\xBB\xBF"))) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		word, _, _ := strings.Cut(string(line), " ")
		return word == "file" || word == "ffconcat" || strings.HasPrefix(word, "file\t")
	}
	return false
}

// ParseList reads a list in the form of ffmpeg's concat demuxer: a line for each file, "file" and
// its path, which is relative to the list and may be quoted as in a shell; "duration", "inpoint"
// and "outpoint" behind it are about that file. Errors name file and line.
func ParseList(path string, text []byte) ([]Entry, error) {
	var list []Entry
	n := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\xEF\xBB\xBF"))) {
		n++
		at := fmt.Sprintf("%s:%d", path, n)
		words, err := splitWords(string(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if list, err = parseDirective(list, words, filepath.Dir(path), at); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if len(list) > maxEntries {
			return nil, fmt.Errorf("%s: more than %d files", at, maxEntries)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: a list without a file", path)
	}
	return list, nil
}

// parseDirective takes one line of a list.
func parseDirective(list []Entry, words []string, dir, at string) ([]Entry, error) {
	word := words[0]
	if len(words) != 2 && word != "ffconcat" {
		return nil, fmt.Errorf("%q takes one value (quote a path that has spaces)", word)
	}
	switch word {
	case "ffconcat":
		if len(words) != 3 || words[1] != "version" || words[2] != "1.0" {
			return nil, errors.New("only ffconcat version 1.0 is known")
		}
		return list, nil
	case "file":
		p := strings.TrimPrefix(words[1], "file:")
		if source.IsAddress(p) {
			return nil, errors.New("a list is of files: an address cannot be played")
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		return append(list, Entry{Path: p, ListLine: at}), nil
	}
	var field func(*Entry) *time.Duration
	switch word {
	case "duration":
		field = func(e *Entry) *time.Duration { return &e.Duration }
	case "inpoint":
		field = func(e *Entry) *time.Duration { return &e.In }
	case "outpoint":
		field = func(e *Entry) *time.Duration { return &e.Out }
	default:
		return nil, fmt.Errorf("%q is not known here: a list has file, duration, inpoint and outpoint", word)
	}
	d, err := source.ParseDuration(words[1])
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, fmt.Errorf("%q before the first file", word)
	}
	e := &list[len(list)-1]
	if *field(e) = d; e.Out > 0 && e.Out <= e.In {
		return nil, errors.New("outpoint is not behind inpoint")
	}
	return list, nil
}

// splitWords cuts a line into words as ffmpeg does: at spaces, but for those in single quotes or behind a backslash.
func splitWords(line string) ([]string, error) {
	var words []string
	var word []byte
	in, quoted, escaped := false, false, false
	for _, c := range []byte(strings.TrimRight(line, "\r\n")) {
		switch {
		case escaped:
			word, escaped = append(word, c), false
		case quoted && c == '\'':
			quoted = false
		case quoted:
			word = append(word, c)
		case c == '\'':
			in, quoted = true, true
		case c == '\\':
			in, escaped = true, true
		case c == ' ' || c == '\t':
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		case c == '#' && !in && len(words) == 0:
			return nil, nil
		default:
			word, in = append(word, c), true
		}
	}
	if quoted {
		return nil, errors.New("a quote that is not closed")
	}
	if in {
		words = append(words, string(word))
	}
	return words, nil
}
