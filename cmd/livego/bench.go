package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"livego/internal/tools/bench"
)

type benchCmd struct {
	Publish  string        `placeholder:"URL" help:"Where to publish, such as rtmp://host/live/key. Default: the livego on this machine, with a key from --api. {n} is replaced by the number of the stream."`
	Play     []string      `placeholder:"URL" sep:"none" help:"Where to play: rtmp://, http://….flv, ws://….flv or http://….m3u8, also with TLS; llhls+http://….m3u8 for low latency. May be repeated: viewers are spread evenly. {n} as above. Default: by --proto."`
	PlayOnly bool          `help:"Publish nothing; play existing streams."`
	Proto    []string      `default:"rtmp" enum:"rtmp,flv,ws,hls,llhls,rtmps,https-flv,wss,https-hls,https-llhls" help:"Protocols to play if --play is not given: rtmp, flv, ws, hls, llhls (low latency), or with TLS rtmps, https-flv, wss, https-hls and https-llhls, separated by commas."`
	Room     string        `default:"bench" help:"The room to publish to if --publish is not given; with several streams bench1, bench2 and so on."`
	API      string        `name:"api" placeholder:"URL" help:"The operator's HTTP of livego. Default: from the settings."`
	Viewers  int           `short:"n" default:"100" help:"Number of viewers."`
	Streams  int           `default:"1" help:"Number of streams to publish."`
	Join     time.Duration `default:"2s" help:"Time over which the viewers join."`
	Settle   time.Duration `default:"2s" help:"How long the streams run before the first viewer. Memory that a server fills after that counts as its viewers': use a minute to measure memory."`
	Duration time.Duration `short:"d" default:"20s" help:"How long to measure after all have joined."`

	Storm     int           `placeholder:"N" help:"N more viewers join when the measurement starts. They are reported apart: the latency is that of the viewers that were watching."`
	StormJoin time.Duration `default:"5s" help:"Time over which the viewers of --storm join."`
	Poll      string        `placeholder:"URL" help:"Request this URL ten times a second during the measurement, such as the statistics of the server."`
	HTTP2     bool          `name:"http2" help:"Play https:// by HTTP/2."`
	TLSResume bool          `name:"tls-resume" help:"Viewers resume a TLS session instead of a full handshake."`

	File    string        `placeholder:"FLV" help:"A file to publish in a loop, instead of the built-in stream."`
	Bitrate int           `default:"2670" placeholder:"KBIT" help:"Bitrate of the built-in stream in kbit/s, with audio."`
	FPS     int           `default:"30" help:"Frame rate of the built-in stream."`
	GOP     time.Duration `name:"gop" default:"2s" help:"Keyframe interval of the built-in stream."`

	PID      []int `name:"pid" help:"Processes of the server under test, for CPU and memory. Default: the processes on this machine that listen at the addresses."`
	RecvBuf  int   `name:"recv-buffer" placeholder:"BYTES" help:"Receive buffer of a viewer. Default: half a second of the stream; -1: the system's default, which hides delay."`
	Check    int   `default:"50" help:"Every Nth viewer compares all video bytes with those that were sent; 0: none."`
	Insecure bool  `help:"Accept any certificate."`
	JSON     bool  `name:"json" help:"Write the result as JSON."`
}

// Help is shown by livego bench --help.
func (benchCmd) Help() string {
	return `Publishes a test stream to a server, plays it with many viewers, and reports what arrived, how late,
and how much CPU and memory it took. Examples:

  livego bench --viewers 500                       # against the livego on this machine
  livego bench --viewers 500 --proto flv,hls
  livego bench --publish rtmp://host/live/x --play rtmp://host/live/x --play http://host:8080/live/x.flv

The exit code is 1 if the run failed, if viewers or frames were lost, or if the bench itself was the bottleneck.`
}

// Run measures, shows the progress on stderr, and writes the result to stdout.
func (c benchCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := c.options(ctx, e)
	if err != nil {
		return err
	}
	show := newProgress(e.stderr, 30)
	o.Progress = func(s bench.Progress) { showProgress(show, s) }
	result, err := bench.Run(ctx, o)
	show.clear()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(result)
	} else {
		err = result.WriteText(e.stdout)
	}
	if err != nil {
		return err
	}
	if len(result.Failures()) > 0 {
		return errors.New(strings.Join(result.Failures(), "\n"))
	}
	return nil
}

// options converts the flags to options. Without --publish and --play it uses the addresses of a
// livego on this machine.
func (c benchCmd) options(ctx context.Context, e *env) (bench.Options, error) {
	if c.Viewers < 1 || c.Streams < 1 || c.Duration <= 0 || min(c.Settle, c.Join, c.StormJoin) < 0 ||
		min(c.Check, c.Storm) < 0 {
		return bench.Options{}, &failure{exitUsage, errors.New("--viewers, --streams and --duration must be positive, " +
			"and --settle, --join, --check, --storm and --storm-join not negative")}
	}
	o := bench.Options{
		Bitrate: c.Bitrate * 1000, FPS: c.FPS, GOP: c.GOP, File: c.File,
		Settle: c.Settle, Viewers: c.Viewers, Join: c.Join, Duration: c.Duration, Check: c.Check,
		PIDs: c.PID, RecvBuffer: c.RecvBuf, Insecure: c.Insecure,
		Storm: c.Storm, StormJoin: c.StormJoin, HTTP2: c.HTTP2, TLSResume: c.TLSResume, Poll: c.Poll,
	}
	play := c.Play
	if len(play) == 0 {
		for _, p := range c.Proto {
			play = append(play, defaultPlay[p]+c.roomPattern()+playSuffix[p])
		}
	}
	for _, pattern := range play {
		for n := 1; n <= c.Streams; n++ {
			o.Play = append(o.Play, expandNumber(pattern, n))
		}
	}
	if c.PlayOnly {
		return o, nil
	}
	for n := 1; n <= c.Streams; n++ {
		at := expandNumber(c.Publish, n)
		if at == "" {
			key, err := e.fetchKey(ctx, c.API, expandNumber(c.roomPattern(), n))
			if err != nil {
				return o, err
			}
			at = "rtmp://127.0.0.1:1935/live/" + key
		}
		o.Publish = append(o.Publish, at)
	}
	return o, nil
}

// roomPattern returns the name of the room; with several streams it contains {n}.
func (c benchCmd) roomPattern() string {
	if c.Streams == 1 {
		return c.Room
	}
	return c.Room + "{n}"
}

func expandNumber(pattern string, n int) string {
	return strings.ReplaceAll(pattern, "{n}", fmt.Sprint(n))
}

// Default addresses of a livego on this machine, by protocol.
var (
	defaultPlay = map[string]string{
		"rtmp": "rtmp://127.0.0.1:1935/live/", "rtmps": "rtmps://127.0.0.1:1936/live/",
		"flv": "http://127.0.0.1:7001/live/", "https-flv": "https://127.0.0.1:7443/live/",
		"ws": "ws://127.0.0.1:7001/live/", "wss": "wss://127.0.0.1:7443/live/",
		"hls": "http://127.0.0.1:7002/live/", "https-hls": "https://127.0.0.1:7443/live/",
		"llhls": "llhls+http://127.0.0.1:7002/live/", "https-llhls": "llhls+https://127.0.0.1:7443/live/",
	}
	playSuffix = map[string]string{
		"flv": ".flv", "https-flv": ".flv", "ws": ".flv", "wss": ".flv",
		"hls": ".m3u8", "https-hls": ".m3u8", "llhls": ".m3u8", "https-llhls": ".m3u8",
	}
)

// fetchKey requests the stream key of a room from the livego at the URL api, or at that of the
// settings if api is "". Only the latter gets the admin token in the data directory.
func (e *env) fetchKey(ctx context.Context, api, room string) (string, error) {
	o := &apiClient{base: strings.TrimSuffix(api, "/"), client: &http.Client{Timeout: apiTimeout}}
	if api == "" {
		cfg, err := e.load()
		if err != nil {
			return "", err
		}
		o = newAPIClient(cfg.Config)
	}
	var answer struct{ Data string }
	err := o.call(ctx, http.MethodGet, "/control/get?room="+url.QueryEscape(room), nil, &answer)
	if _, away := errors.AsType[*net.OpError](err); away {
		return "", fmt.Errorf("cannot reach livego to get a stream key: is it running? (%w)", err)
	}
	if err != nil {
		return "", fmt.Errorf("get the stream key of room %s: %w", room, err)
	}
	return answer.Data, nil
}

// showProgress shows how far a run is.
func showProgress(show *progress, s bench.Progress) {
	text := s.Stage
	if s.Joined > 0 || s.Stage == "joining" {
		text += fmt.Sprintf(", %d of %d viewers", s.Joined, s.Viewers)
	}
	if s.Lost > 0 {
		text += fmt.Sprintf(", %d lost", s.Lost)
	}
	show.update(s.Done, text, s.Stage)
}
