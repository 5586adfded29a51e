// Package logging provides the server's log handler, a writer that never blocks, and a limiter for
// repeated log lines. It keeps stream keys and query strings out of the log.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lmittmann/tint"

	"livego/internal/domain"
)

// Options configure New.
type Options struct {
	Level  slog.Leveler // nil means slog.LevelInfo
	Format string       // "text", "json", or "auto": colours on a terminal, text elsewhere
	TTY    bool         // w is a terminal
}

// New returns a logger that writes to w. It masks stream keys, and removes the queries of URLs in
// attributes.
func New(w io.Writer, o Options) *slog.Logger {
	opt := &slog.HandlerOptions{Level: o.Level, ReplaceAttr: redactAttr}
	switch {
	case o.Format == "json":
		opt.ReplaceAttr = jsonAttr
		return slog.New(slog.NewJSONHandler(w, opt))
	case o.Format == "text" || !o.TTY:
		return slog.New(slog.NewTextHandler(w, opt))
	}
	return slog.New(tint.NewTextHandler(w,
		&tint.Options{Level: opt.Level, ReplaceAttr: terminalAttr, TimeFormat: time.TimeOnly}))
}

// ParseLevel returns the level of that name: "trace", "debug", "info", "warn" or "warning", "error";
// anything else is info.
func ParseLevel(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// redactAttr is a second line of defense: callers leave secrets out, but errors of libraries
// contain URLs.
func redactAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.MessageKey {
		// Messages are fixed strings of this program, and may contain a URL for the user.
		a.Value = slog.StringValue(MaskKeys(a.Value.String()))
		return a
	}
	switch v := a.Value.Any().(type) {
	case string:
		if !isName(a.Key, v) {
			a.Value = slog.StringValue(redact(v))
		}
	case fmt.Stringer:
		if text := v.String(); redact(text) != text {
			a.Value = slog.StringValue(redact(text))
		}
	case error:
		// Keep an error without secrets as it is: a handler may format errors in its own way.
		if text := v.Error(); redact(text) != text {
			a.Value = slog.StringValue(redact(text))
		}
	}
	return a
}

// jsonAttr also writes durations in seconds, as in livego's other JSON; slog writes nanoseconds.
func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		return a
	}
	return redactAttr(groups, a)
}

// terminalAttr also escapes control characters, which would change the terminal; the other handlers
// quote them.
func terminalAttr(groups []string, a slog.Attr) slog.Attr {
	a = redactAttr(groups, a)
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(printable(v))
	case error:
		if text := v.Error(); printable(text) != text {
			a.Value = slog.StringValue(printable(text))
		}
	}
	return a
}

// printable returns s with non-printable characters escaped.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }

var (
	// keyPattern matches runs of the characters of stream keys that are at least as long as a key,
	// so that a key with a prefix or suffix is found too.
	keyPattern = regexp.MustCompile(`[0-9A-Za-z]{48,}`)
	urlQuery   = regexp.MustCompile(`(/[^\s"'?]*)\?[^\s"']*`)
	userInfo   = regexp.MustCompile(`(\w://)[^\s/@"']*@`)
)

const hiddenKey = "[key]"

// redact returns free text without what may be a stream key, the queries of URLs and paths, and the
// user and password of URLs.
func redact(s string) string {
	s = urlQuery.ReplaceAllString(MaskKeys(s), "$1")
	return userInfo.ReplaceAllString(s, "$1")
}

// MaskKeys returns s with every possible stream key replaced: a run of at least as many key
// characters as a key has.
func MaskKeys(s string) string { return keyPattern.ReplaceAllString(s, hiddenKey) }

// isName reports whether an attribute is the valid name of a stream, a room or an app, which is not
// redacted, whatever its length. Callers use these attributes for names that exist or were checked;
// see StreamAttr.
func isName(key, value string) bool {
	switch key {
	case "stream":
		app, room, ok := strings.Cut(value, "/")
		return ok && domain.CheckApp(app) == nil && domain.CheckRoom(room) == nil
	case "room":
		return domain.CheckRoom(value) == nil
	case "app":
		return domain.CheckApp(value) == nil
	}
	return false
}

// StreamAttr returns the attribute "stream". The name of a stream that does not exist is redacted:
// it may be a misplaced key.
func StreamAttr(name domain.Name, exists bool) slog.Attr {
	if exists {
		return slog.String("stream", name.String())
	}
	return slog.String("stream", MaskKeys(name.String()))
}
