// Package source opens media for reading: a file of any supported container, detected by its
// content, or a live stream at an RTMP, HTTP-FLV or HLS URL. It returns the frames in the order
// of their decoding times.
package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"livego/internal/codec"
	"livego/internal/container/es"
	"livego/internal/container/flv"
	"livego/internal/container/mkv"
	"livego/internal/container/mp4"
	"livego/internal/container/ts"
	"livego/internal/media"
	"livego/internal/ops/textfile"
)

// A Source is an open file or live stream. Not for concurrent use.
type Source struct {
	Name string // for messages: the path as given, or the URL without secrets
	// mp4, mov, fragmented mp4, matroska, webm, mpegts, flv, adts, mp3, ac3, eac3; of live streams
	// rtmp, http-flv, hls
	Container string
	Live      bool
	Size      int64         // bytes of the file
	Duration  time.Duration // 0 if unknown

	frames   frames
	seek     func(time.Duration) error
	problems func() string
	skips    *media.Skips // nil if the container counts no skips
	close    func() error
	stat     func() (os.FileInfo, error)

	reorder reorderBuffer
	err     error
}

// frames is the part of a container reader that all of them share.
type frames interface {
	Next() (*media.Frame, error)
	Streams() []media.Stream
}

// Open opens a file. Its error names the file.
func Open(path string) (*Source, error) {
	s, err := open(path)
	if err != nil {
		return nil, wrapError(path, err)
	}
	return s, nil
}

// A FileError is an error with the name of its file.
type FileError struct {
	Name string
	Err  error
}

func (e *FileError) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// wrapError returns err with the name of the source, and without the path that other packages put
// into it.
func wrapError(name string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the file is truncated: its header is incomplete")
	}
	return &FileError{name, err}
}

func open(path string) (*Source, error) {
	info, err := os.Stat(path) // before opening, since opening a named pipe blocks
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a file but a device, a pipe or a socket")
	case info.Size() == 0:
		return nil, errors.New("the file is empty")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := openContainer(f, info.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	s.Name, s.Size, s.close, s.stat = path, info.Size(), f.Close, f.Stat
	return s, nil
}

// sniffSize is how many bytes of a file the container is detected by: some packets of a transport
// stream, and ID3 tags with a picture.
const sniffSize = 64 << 10

// openContainer detects the container and reads the head of the file.
func openContainer(r io.ReaderAt, size int64) (*Source, error) {
	head := make([]byte, min(size, sniffSize))
	if n, err := r.ReadAt(head, 0); n < len(head) && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case isMP4(head):
		return readMP4(r, size, head)
	case strings.HasPrefix(string(head), "FLV\x01"):
		return readFLV(r, size)
	case strings.HasPrefix(string(head), "\x1A\x45\xDF\xA3"):
		return readMKV(r, size)
	case ts.Detect(head):
		return readTS(r, size)
	}
	if err := unsupportedContainer(head); err != nil {
		return nil, err
	}
	if err := textError(head); err != nil {
		return nil, err
	}
	return readES(r, size)
}

// isMP4 reports whether a file starts with a box that MP4 or QuickTime files start with.
func isMP4(head []byte) bool {
	if len(head) < 8 {
		return false
	}
	switch string(head[4:8]) {
	case "ftyp", "moov", "mdat", "wide", "free", "skip", "styp", "moof", "pnot":
		return true
	}
	return false
}

// An UnsupportedContainerError is returned for a file in a container that ffmpeg reads and livego
// does not.
type UnsupportedContainerError struct {
	Container string
	AudioOnly bool
}

func (e *UnsupportedContainerError) Error() string {
	return "unsupported container: " + e.Container
}

// unsupportedContainer returns an error for a known container that livego does not read, an
// *UnsupportedContainerError if ffmpeg can convert it.
func unsupportedContainer(head []byte) error {
	for _, c := range []struct {
		magic string
		UnsupportedContainerError
	}{
		{"OggS", UnsupportedContainerError{"Ogg", false}},
		{"\x30\x26\xB2\x75", UnsupportedContainerError{"ASF (WMV)", false}},
		{"\x00\x00\x01\xBA", UnsupportedContainerError{"an MPEG program stream", false}},
		{".RMF", UnsupportedContainerError{"RealMedia", false}},
		{"fLaC", UnsupportedContainerError{"a native FLAC file", true}}, {"FORM", UnsupportedContainerError{"AIFF", true}},
	} {
		if strings.HasPrefix(string(head), c.magic) {
			return &c.UnsupportedContainerError
		}
	}
	if len(head) >= 12 && string(head[:4]) == "RIFF" {
		switch form := string(head[8:12]); form {
		case "AVI ":
			return &UnsupportedContainerError{"AVI", false}
		case "WAVE":
			return &UnsupportedContainerError{"WAV", true}
		default:
			return fmt.Errorf("unsupported container: RIFF of form %q", form)
		}
	}
	for magic, name := range map[string]string{
		"#EXTM3U": "a playlist", "GIF8": "GIF", "\x89PNG": "PNG", "\xFF\xD8\xFF": "JPEG",
	} {
		if strings.HasPrefix(string(head), magic) {
			return fmt.Errorf("unsupported container: %s", name)
		}
	}
	return nil
}

// textError returns the error for a text file that looks like a list of files, nil for other
// files.
func textError(head []byte) error {
	if _, err := textfile.Decode(head); err != nil { // a list that an editor saved in UTF-16
		if narrow := bytes.ReplaceAll(bytes.Trim(head, "\xff\xfe"), []byte{0}, nil); textError(narrow) == nil {
			return nil
		}
		return err
	}
	if !isText(head) {
		return nil
	}
	n := 0
	for line := range bytes.Lines(bytes.TrimPrefix(head, []byte("\xEF\xBB\xBF"))) {
		n++
		line = bytes.Trim(bytes.TrimSpace(line), `"`) // with the quotes of Windows' "Copy as path"
		word, _, _ := strings.Cut(strings.ReplaceAll(string(line), "\t", " "), " ")
		switch {
		case len(line) == 0 || line[0] == '#':
			continue
		case word == "file" || word == "ffconcat":
			return errors.New("a list of files: livego push plays it; give livego probe the files one by one")
		case !isMediaFileName(string(line)):
			return nil
		}
		quoted := "'" + strings.ReplaceAll(string(line), "'", `'\''`) + "'"
		return fmt.Errorf("a list of files needs the word file before each name: line %d, write file %s", n, quoted)
	}
	return nil
}

// isMediaFileName reports whether a line ends like the name of a media file: in a dot and some
// letters or digits.
func isMediaFileName(line string) bool {
	ext := strings.TrimPrefix(filepath.Ext(line), ".")
	const shortest, longest = 2, 5
	return len(ext) >= shortest && len(ext) <= longest &&
		!strings.ContainsFunc(ext, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// isText reports whether head is text: UTF-8 without control characters.
func isText(head []byte) bool {
	const enough = 4096
	if len(head) > enough { // the cut may be within a character
		head = bytes.TrimRightFunc(head[:enough], func(r rune) bool { return r == utf8.RuneError })
	}
	binary := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }
	return utf8.Valid(head) && !bytes.ContainsFunc(head, binary)
}

func readMP4(r io.ReaderAt, size int64, head []byte) (*Source, error) {
	m, err := mp4.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	s := &Source{Container: "mp4", Duration: m.Duration(), frames: m, seek: m.Seek}
	if len(head) >= 12 && string(head[4:8]) != "ftyp" || string(head[8:12]) == "qt  " {
		s.Container = "mov"
	}
	if m.Fragmented() {
		s.Container = "fragmented " + s.Container
	}
	return s, nil
}

func readMKV(r io.ReaderAt, size int64) (*Source, error) {
	m, err := mkv.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	s := &Source{
		Container: "matroska", Duration: m.Duration(), frames: m, seek: m.Seek, problems: m.Problems,
	}
	if m.DocType() == "webm" {
		s.Container = "webm"
	}
	return s, nil
}

func readFLV(r io.ReaderAt, size int64) (*Source, error) {
	f, err := flv.OpenFile(r, size)
	if err != nil {
		return nil, err
	}
	s := &Source{Container: "flv", Duration: f.Duration(), frames: f, seek: f.Seek, skips: f.Skips}
	s.problems = func() string {
		var parts []string
		if f.Skipped > 0 {
			parts = append(parts, fmt.Sprintf("%d malformed tags, the first: %v", f.Skipped, f.FirstError))
		}
		if odd := f.Anomalies().String(); odd != "" {
			parts = append(parts, odd)
		}
		return strings.Join(parts, "; ")
	}
	return s, nil
}

func readTS(r io.ReaderAt, size int64) (*Source, error) {
	t, err := ts.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	return &Source{Container: "mpegts", Duration: t.Duration(), frames: t, seek: t.Seek,
		problems: t.Problems}, nil
}

func readES(r io.ReaderAt, size int64) (*Source, error) {
	e, err := es.NewReader(r, size)
	if err != nil {
		return nil, errors.New("unsupported container: livego reads MP4, MOV, MPEG-TS, FLV, Matroska, WebM, " +
			"ADTS, MP3 and AC-3")
	}
	s := &Source{Duration: e.Duration(), frames: e, seek: e.Seek}
	t := e.Streams()[0].Track
	s.Container = map[media.Codec]string{media.AAC: "adts", media.MP3: "mp3", media.AC3: "ac3", media.EAC3: "eac3",
		media.Passthrough: t.Label}[t.Codec]
	s.problems = func() string {
		if n := e.Skipped(); n > 0 {
			return fmt.Sprintf("%d bytes outside of frames", n)
		}
		return ""
	}
	return s, nil
}

// Streams returns the tracks as far as the container declares them; those of a live stream that
// declares none, as far as they have come. The tracks in frames may have later descriptions.
func (s *Source) Streams() []media.Stream { return s.frames.Streams() }

// Problems describes the input skipped so far, "" if there is none.
func (s *Source) Problems() string {
	if s.problems == nil {
		return ""
	}
	return s.problems()
}

// Unusable returns the tracks found to be unusable so far.
func (s *Source) Unusable() []media.UnusableTrack { return s.skips.Stats().Unusable }

// Close closes the file or the connection.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// A TruncatedError is returned if a file ends within a structure, or changed while it was read.
type TruncatedError struct {
	Name    string
	At      time.Duration // time of the last frame before the end
	Growing bool          // another process is writing to it
}

func (e *TruncatedError) Error() string {
	if e.Growing {
		return fmt.Sprintf("%s: the file is still being written: it was %.1f s long when it was opened", e.Name,
			e.At.Seconds())
	}
	return fmt.Sprintf("%s: the file is truncated or damaged at %.1f s", e.Name, e.At.Seconds())
}

// Next returns the next frame in the order of decoding times, io.EOF after the last, and a
// *TruncatedError if the file ends too early. All frames before an error are returned first.
func (s *Source) Next() (*media.Frame, error) {
	for s.err == nil && !s.reorder.ready() {
		f, err := s.frames.Next()
		if err != nil {
			s.err = s.finalError(err)
			break
		}
		if f.Duration == 0 {
			f.Duration = codec.Duration(f.Track, f.Payload)
		}
		s.reorder.push(f)
	}
	if f := s.reorder.pop(); f != nil {
		return f, nil
	}
	return nil, s.err
}

// finalError converts the error that ended the frames into that of Next.
func (s *Source) finalError(err error) error {
	grew := false
	if s.stat != nil {
		info, statErr := s.stat()
		grew = statErr == nil && info.Size() > s.Size
	}
	switch {
	case grew && (err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)), errors.Is(err, io.ErrUnexpectedEOF):
		return &TruncatedError{s.Name, s.reorder.newest, grew}
	case err == io.EOF:
		return err
	}
	return wrapError(s.Name, err)
}

// Seek goes to the last keyframe at or before a time since the start.
func (s *Source) Seek(to time.Duration) error {
	if s.seek == nil {
		return fmt.Errorf("%s: cannot seek in a live stream", s.Name)
	}
	s.reorder, s.err = reorderBuffer{kinds: s.reorder.kinds}, nil
	if err := s.seek(to); err != nil {
		return wrapError(s.Name, err)
	}
	return nil
}

// IsAddress reports whether name is the URL of a live stream rather than the path of a file.
func IsAddress(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	switch scheme {
	case "rtmp", "rtmps", "http", "https":
		return ok
	}
	return false
}

// OpenAny opens a file, or the live stream at a URL. ctx ends a live stream.
func OpenAny(ctx context.Context, name string) (*Source, error) {
	if IsAddress(name) {
		return Dial(ctx, name)
	}
	return Open(name)
}
