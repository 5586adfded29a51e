// Package playout publishes files, one after the other, as one live stream. It reads lists of
// files, joins their timestamps, and sends the frames in real time to an RTMP server,
// reconnecting when the connection is lost. It encodes nothing itself; ffmpeg can encode the
// tracks that RTMP does not support.
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
	In, Out  time.Duration // bounds of the part; Out 0: to the end
	Duration time.Duration // after which the next entry starts, whatever the file's length; 0: at the end of the file
	ListLine string        // "list.txt:3" if a list names it, for error messages
}

const (
	maxListSize = 1 << 20 // bytes
	maxEntries  = 10_000
)

// Entries returns the entries of paths, in order. A list in the format of ffmpeg's concat demuxer
// stands for its files.
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
		list, err := parseList(p, text)
		if err != nil {
			return nil, err
		}
		if all = append(all, list...); len(all) > maxEntries {
			return nil, fmt.Errorf("more than %d files", maxEntries)
		}
	}
	return all, nil
}

// readList returns the text of a list, nil for a file that is not one: its first word is neither
// file nor ffconcat. A file that cannot be read is not a list; opening it reports the error.
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
		return nil, fmt.Errorf("%s: list of %d bytes exceeds the limit of %d bytes", path, info.Size(), maxListSize)
	}
	rest, err := io.ReadAll(io.LimitReader(f, maxListSize))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return append(head[:n], rest...), nil
}

// isListUTF16 reports whether head is a list in UTF-16.
func isListUTF16(head []byte) bool {
	_, err := textfile.Decode(head)
	return err != nil && isList(bytes.ReplaceAll(bytes.Trim(head, "\xff\xfe"), []byte{0}, nil))
}

// isList reports whether the first word of a text is one that starts a list.
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

// parseList parses a list in the format of ffmpeg's concat demuxer: a line for each file, with
// "file" and its path, which is relative to the list and may be quoted as in a shell. Lines with
// "duration", "inpoint" and "outpoint" apply to the file before them. Errors name the list and
// the line.
func parseList(path string, text []byte) ([]Entry, error) {
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
		return nil, fmt.Errorf("%s: the list names no file", path)
	}
	return list, nil
}

// parseDirective parses one line of a list.
func parseDirective(list []Entry, words []string, dir, at string) ([]Entry, error) {
	word := words[0]
	if len(words) != 2 && word != "ffconcat" {
		return nil, fmt.Errorf("%q takes one value (quote a path that has spaces)", word)
	}
	switch word {
	case "ffconcat":
		if len(words) != 3 || words[1] != "version" || words[2] != "1.0" {
			return nil, errors.New("unsupported ffconcat version: must be 1.0")
		}
		return list, nil
	case "file":
		p := strings.TrimPrefix(words[1], "file:")
		if source.IsAddress(p) {
			return nil, errors.New("a list may not contain URLs, only files")
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
		return nil, fmt.Errorf("unknown word %q: a list has file, duration, inpoint and outpoint", word)
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
		return nil, errors.New("outpoint must be after inpoint")
	}
	return list, nil
}

// splitWords splits a line into words as ffmpeg does: at spaces, except in single quotes or after
// a backslash.
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
		return nil, errors.New("unclosed quote")
	}
	if in {
		words = append(words, string(word))
	}
	return words, nil
}
