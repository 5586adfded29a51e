// Package logging is what the server says about itself: the log's handler, a writer that never
// blocks who logs, and a brake on lines that repeat. It knows nothing of what is logged, only what
// must not be: keys and query strings.
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
	Level  string // "trace", "debug", "info", "warn" or "warning", "error"; anything else is info
	Format string // "text", "json", or "auto": colours on a terminal, text elsewhere
	TTY    bool   // w is a terminal
}

// New returns a logger that writes to w, with push keys left out of all of it, and the queries of URLs out of values.
func New(w io.Writer, o Options) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level(o.Level), ReplaceAttr: redactAttr}
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

func level(name string) slog.Level {
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

// redactAttr is the last line of defence: callers leave secrets out, but errors of the libraries quote addresses.
func redactAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.MessageKey {
		// Messages are our own words, and may show a person the address to ask for a key.
		a.Value = slog.StringValue(MaskKeys(a.Value.String()))
		return a
	}
	switch v := a.Value.Any().(type) {
	case string:
		if !isName(a.Key, v) {
			a.Value = slog.StringValue(Redact(v))
		}
	case fmt.Stringer:
		if text := v.String(); Redact(text) != text {
			a.Value = slog.StringValue(Redact(text))
		}
	case error:
		// A handler may show an error in its own way: one without a secret stays an error.
		if text := v.Error(); Redact(text) != text {
			a.Value = slog.StringValue(Redact(text))
		}
	}
	return a
}

// jsonAttr also writes durations in seconds, as the rest of livego's JSON has them; slog writes nanoseconds.
func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		return a
	}
	return redactAttr(groups, a)
}

// terminalAttr also keeps values from steering the terminal; the other formats quote them by themselves.
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

// printable returns s with an escape in place of each character that does not print.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }

var (
	// keyPattern is as many characters of the alphabet of push keys as a key has, or more: a key that
	// was pasted twice, or behind something else, is a key still.
	keyPattern = regexp.MustCompile(`[0-9A-Za-z]{48,}`)
	urlQuery   = regexp.MustCompile(`(/[^\s"'?]*)\?[^\s"']*`)
	userInfo   = regexp.MustCompile(`(\w://)[^\s/@"']*@`)
)

const hiddenKey = "[key]"

// Redact returns s, free text, without what may hold a push key, without the query of each URL or
// path, and without the user and password of each URL.
func Redact(s string) string {
	s = urlQuery.ReplaceAllString(MaskKeys(s), "$1")
	return userInfo.ReplaceAllString(s, "$1")
}

// MaskKeys returns s without what may hold a push key: so many characters in a row of which keys are made.
func MaskKeys(s string) string { return keyPattern.ReplaceAllString(s, hiddenKey) }

// isName reports whether an attribute is the name of a stream, a room or an app, which is shown as
// it is, however long it is. Callers give these attributes to names that exist or were checked; see
// Stream.
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

// StreamAttr returns the attribute "stream". A name that somebody asks for while it does not exist
// may be a key in the wrong place: it is free text.
func StreamAttr(name domain.Name, exists bool) slog.Attr {
	if exists {
		return slog.String("stream", name.String())
	}
	return slog.String("stream", MaskKeys(name.String()))
}
