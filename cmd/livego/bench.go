package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"

	"livego/internal/tools/bench"
)

type benchCmd struct {
	Publish  string        `placeholder:"URL" help:"Where to publish, such as rtmp://host/live/key. Default: a livego on this machine, whose --api is asked for the key. {n} becomes the number of the stream."`
	Play     []string      `placeholder:"URL" sep:"none" help:"Where to play: rtmp://, http://….flv, ws://….flv or http://….m3u8, also with TLS; llhls+http://….m3u8 for low latency. May be repeated: viewers are spread evenly. {n} as above. Default: by --proto."`
	PlayOnly bool          `help:"Publish nothing: play what is there."`
	Proto    []string      `default:"rtmp" enum:"rtmp,flv,ws,hls,llhls" help:"What to play by where --play is not given: rtmp, flv, ws, hls or llhls (low latency), or several with commas."`
	Room     string        `default:"bench" help:"The room to publish to where --publish is not given; with several streams, bench1 and so on."`
	API      string        `name:"api" placeholder:"URL" help:"The operator's HTTP of the livego. By default that of the settings."`
	Viewers  int           `short:"n" default:"100" help:"How many viewers."`
	Streams  int           `default:"1" help:"How many streams to publish."`
	Join     time.Duration `default:"2s" help:"Over which time the viewers come."`
	Settle   time.Duration `default:"2s" help:"How long the streams run before the first viewer. What a server gathers of a stream by itself counts as its viewers' memory where this is too short: give a minute to measure that."`
	Duration time.Duration `short:"d" default:"20s" help:"How long to measure once they have come."`

	File    string        `placeholder:"FLV" help:"A file to publish in a loop instead of the built-in stream."`
	Bitrate int           `default:"2670" placeholder:"KBIT" help:"kbit/s of the built-in stream, sound included."`
	FPS     int           `default:"30" help:"Frames a second of it."`
	GOP     time.Duration `name:"gop" default:"2s" help:"From key frame to key frame."`

	PID      []int `name:"pid" help:"Processes of the server under test, for CPU and memory. Default: who listens at the addresses, on this machine."`
	RecvBuf  int   `name:"recv-buffer" placeholder:"BYTES" help:"Receive buffer of a viewer. Default: half a second of the stream; -1 leaves it to the system, which hides delay."`
	Check    int   `default:"50" help:"Every which viewer compares all bytes of the picture with what was sent; 0: none."`
	Insecure bool  `help:"Accept any certificate."`
	JSON     bool  `name:"json" help:"Write the result as JSON."`
}

// Help is shown by livego bench --help.
func (benchCmd) Help() string {
	return `Publishes a test stream to a server and plays it many times over, and tells what arrived, how late, and what it cost. Examples:

  livego bench --viewers 500                       # against the livego on this machine
  livego bench --viewers 500 --proto flv,hls
  livego bench --publish rtmp://host/live/x --play rtmp://host/live/x --play http://host:8080/live/x.flv

The exit code is 1 when the run failed, when viewers or frames were lost, and when the bench itself was the bottleneck.`
}

// Run measures, shows where it is on stderr, and writes the result to stdout.
func (c benchCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := c.options(ctx, e)
	if err != nil {
		return err
	}
	show := newProgress(e.stderr)
	o.Progress = show.update
	result, err := bench.Run(ctx, o)
	show.end()
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

// options turns flags into addresses, with those of a livego on this machine where none are given.
func (c benchCmd) options(ctx context.Context, e *env) (bench.Options, error) {
	if c.Viewers < 1 || c.Streams < 1 || c.Duration <= 0 || c.Settle < 0 || c.Join < 0 || c.Check < 0 {
		return bench.Options{}, &failure{exitUsage,
			errors.New("--viewers, --streams and --duration must be above zero, --settle, --join and --check not below")}
	}
	o := bench.Options{
		Bitrate: c.Bitrate * 1000, FPS: c.FPS, GOP: c.GOP, File: c.File,
		Settle: c.Settle, Viewers: c.Viewers, Join: c.Join, Duration: c.Duration, Check: c.Check,
		PIDs: c.PID, RecvBuffer: c.RecvBuf, Insecure: c.Insecure,
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

// roomPattern returns the name of the room, or of each.
func (c benchCmd) roomPattern() string {
	if c.Streams == 1 {
		return c.Room
	}
	return c.Room + "{n}"
}

func expandNumber(pattern string, n int) string {
	return strings.ReplaceAll(pattern, "{n}", fmt.Sprint(n))
}

// Where a livego on this machine is played by default.
var (
	defaultPlay = map[string]string{
		bench.RTMP: "rtmp://127.0.0.1:1935/live/", bench.FLV: "http://127.0.0.1:7001/live/",
		bench.WS: "ws://127.0.0.1:7001/live/", bench.HLS: "http://127.0.0.1:7002/live/",
		bench.LLHLS: "llhls+http://127.0.0.1:7002/live/",
	}
	playSuffix = map[string]string{bench.FLV: ".flv", bench.WS: ".flv", bench.HLS: ".m3u8", bench.LLHLS: ".m3u8"}
)

// fetchKey asks a livego for the key of a room: the one at an address, or with none that of the
// settings, with the token of its data directory, which is nobody else's business.
func (e *env) fetchKey(ctx context.Context, api, room string) (string, error) {
	o := &apiClient{base: strings.TrimSuffix(api, "/"), client: &http.Client{Timeout: apiTimeout}}
	if api == "" {
		cfg, err := e.load()
		if err != nil {
			return "", err
		}
		o = newAPIClient(cfg)
	}
	var answer struct{ Data string }
	err := o.call(ctx, http.MethodGet, "/control/get?room="+url.QueryEscape(room), nil, &answer)
	if _, away := errors.AsType[*net.OpError](err); away {
		return "", fmt.Errorf("no livego to ask for a key: is it running? (%w)", err)
	}
	if err != nil {
		return "", fmt.Errorf("asking for a key of room %s: %w", room, err)
	}
	return answer.Data, nil
}

// A progress shows where a run is: a bar on a terminal, else a line now and then.
type progress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil: lines
	stage string
	last  time.Time
}

// barSteps is the resolution of the bar.
const barSteps = 1000

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if isTerminal(out) {
		p.bar = progressbar.NewOptions(barSteps, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false))
	}
	return p
}

func (p *progress) update(s bench.Progress) {
	const every = 5 * time.Second
	text := s.Stage
	if s.Joined > 0 || s.Stage == "joining" {
		text += fmt.Sprintf(", %d of %d viewers", s.Joined, s.Viewers)
	}
	if s.Lost > 0 {
		text += fmt.Sprintf(", %d lost", s.Lost)
	}
	if p.bar != nil {
		p.bar.Describe(text)
		_ = p.bar.Set(int(s.Done * (barSteps - 1))) // it only draws; full, it would be over
		return
	}
	if s.Stage != p.stage || time.Since(p.last) >= every {
		p.stage, p.last = s.Stage, time.Now()
		fmt.Fprintln(p.out, text)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // it only draws
	}
}
