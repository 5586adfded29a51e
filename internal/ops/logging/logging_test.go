package logging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"livego/internal/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRedact(t *testing.T) {
	key := domain.NewSecret()
	for in, want := range map[string]string{
		"":                                     "",
		"is it live? yes":                      "is it live? yes",
		"live/movie":                           "live/movie",
		"key " + key + " used":                 "key [key] used",
		"rtmp://h/live/" + key + "?token=x":    "rtmp://h/live/[key]",
		"GET /live/movie.flv?token=x HTTP/1.1": "GET /live/movie.flv HTTP/1.1",
		`Get "http://u:p@h:80/a?b=c&d": EOF`:   `Get "http://h:80/a": EOF`,
		"live" + key:                           "[key]",
		"rtmp://h/live/" + key + key + "/x":    "rtmp://h/live/[key]/x",
		"app " + key + "_x":                    "app [key]_x",
		"x_" + key + "é":                       "x_[key]é",
		"47: " + key[1:]:                       "47: " + key[1:],
		"a sha256: " + strings.Repeat("0", 64): "a sha256: [key]",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	key := domain.NewSecret()
	for _, o := range []Options{{Format: "json"}, {Format: "text", TTY: true}, {Format: "auto", TTY: true},
		{Format: "auto"}} {
		var b strings.Builder
		log := New(&b, o).With("url", "rtmp://h/live/"+key).WithGroup("g")
		log.Info("refused "+key, "err", fmt.Errorf("dial rtmp://u:p@h/live/x?token=%s: %w", key, io.EOF), "key", key)
		if out := b.String(); strings.Contains(out, key) || strings.Contains(out, "u:p@") || !strings.Contains(out, "EOF") {
			t.Errorf("%+v: %s", o, out)
		}
	}
}

// TestStreamNamesAreNotRedacted checks that valid names of streams, rooms and apps are logged
// unchanged, whatever their length.
func TestStreamNamesAreNotRedacted(t *testing.T) {
	key := domain.NewSecret()
	long := strings.Repeat("abcdefghij", 6)
	for _, c := range []struct {
		attr slog.Attr
		want string
	}{
		{slog.String("room", long), long},
		{slog.String("app", long), long},
		{slog.String("stream", "live/"+long), "live/" + long},
		{StreamAttr(domain.Name{App: "live", Room: long}, true), "live/" + long},
		{StreamAttr(domain.Name{App: "live", Room: key + key}, false), "live/[key]"},
		{slog.String("name", long), "[key]"},
		{slog.String("reason", "nobody publishes live/"+long), "nobody publishes live/[key]"},
		{slog.String("room", key), "[key]"},
		{slog.String("stream", "live/"+key), "live/[key]"},
		{slog.String("stream", key+key), "[key]"},
		{slog.String("room", "/"+key+key), "/[key]"},
		{slog.Any("url", &url.URL{Scheme: "rtmp", Host: "h", Path: "/live/" + key + key}), "rtmp://h/live/[key]"},
		{slog.Any("err", errors.New("x"+key)), "[key]"},
	} {
		for _, o := range []Options{{Format: "json"}, {Format: "text"}, {Format: "auto", TTY: true}} {
			var b strings.Builder
			New(&b, o).LogAttrs(t.Context(), slog.LevelInfo, "m", c.attr)
			if out := b.String(); !strings.Contains(out, c.want) || strings.Contains(out, key) {
				t.Errorf("%+v: %v is logged as %s, want %s", o, c.attr, out, c.want)
			}
		}
	}
}

func TestMessagesKeepURLQueries(t *testing.T) {
	var b strings.Builder
	New(&b, Options{Format: "text"}).Info("get a stream key with GET http://localhost:8090/control/get?room=movie")
	if !strings.Contains(b.String(), "/control/get?room=movie") {
		t.Errorf("the hint is cut: %s", &b)
	}
}

// TestDurations checks that durations are seconds in JSON, and have a unit in text.
func TestDurations(t *testing.T) {
	for format, want := range map[string]string{"json": `"took":1.5,"g":{"left":-0.25}`,
		"text": "took=1.5s g.left=-250ms"} {
		var b strings.Builder
		New(&b, Options{Format: format}).Info("m", "took", 1500*time.Millisecond,
			slog.Group("g", "left", -250*time.Millisecond))
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s: %s, want %s", format, b.String(), want)
		}
	}
}

// TestRecordIsOneLine logs values with line breaks and terminal control characters.
func TestRecordIsOneLine(t *testing.T) {
	for _, o := range []Options{{Format: "json"}, {Format: "text"}, {Format: "auto", TTY: true}} {
		for _, bad := range []string{"x\n2026 level=INFO msg=fake", "x\r", "\x1b[2J", "\x00", "\u202e", "\xff"} {
			var b strings.Builder
			New(&b, o).Info("refused", "name", bad, "err", errors.New(bad))
			out := strings.TrimSuffix(b.String(), "\n")
			if strings.Contains(out, "\n") || strings.Contains(out, bad) && o.Format != "json" ||
				strings.Contains(out, "\x1b[2J") {
				t.Errorf("%+v wrote %q as %q", o, bad, out)
			}
		}
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]string{
		"trace": "debug info warn error", "debug": "debug info warn error", "info": "info warn error", "": "info warn error",
		"warn": "warn error", "warning": "warn error", "error": "error",
	} {
		var b strings.Builder
		log := New(&b, Options{Level: ParseLevel(name), Format: "json"})
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
		log.Error("error")
		var got []string
		for d := json.NewDecoder(strings.NewReader(b.String())); d.More(); {
			var line struct{ Msg string }
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			got = append(got, line.Msg)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("level %q logs %q, want %q", name, got, want)
		}
	}
}

// blockedWriter is a writer that blocks until release is closed.
type blockedWriter struct {
	strings.Builder
	release chan struct{}
}

func (s *blockedWriter) Write(p []byte) (int, error) {
	<-s.release
	return s.Builder.Write(p)
}

func TestWriterNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &blockedWriter{release: make(chan struct{})}
		w := NewWriter(sink)
		log := slog.New(slog.NewTextHandler(w, nil))
		log.Info("first")
		synctest.Wait() // the writer's goroutine has the line, the queue is empty
		for i := range queueLines + 7 {
			log.Info("line", "i", i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close of a stuck sink: %v", err)
		}
		close(sink.release)
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		log.Info("after the end")
		out := sink.String()
		if n := strings.Count(out, "msg=line"); n != queueLines || !strings.Contains(out, "msg=first") ||
			strings.Contains(out, "after") {
			t.Errorf("%d lines were written", n)
		}
		if !strings.Contains(out, "log: 7 lines dropped") {
			t.Error("the log does not report dropped lines")
		}
	})
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limiter{Interval: time.Minute}
		expect := func(reason string, suppressed int, ok bool) {
			t.Helper()
			if n, yes := l.Allow(reason); n != suppressed || yes != ok {
				t.Errorf("Allow(%s) = %d, %v; want %d, %v", reason, n, yes, suppressed, ok)
			}
		}
		expect("a", 0, true)
		expect("a", 0, false)
		expect("b", 0, true)
		<-time.After(59 * time.Second)
		expect("a", 0, false)
		<-time.After(time.Second)
		expect("a", 2, true)
		expect("a", 0, false)
		for i := range 10 * maxReasons {
			l.Allow(fmt.Sprint(i))
		}
		if len(l.seen) > maxReasons {
			t.Errorf("%d reasons are kept", len(l.seen))
		}
	})
}
