package metrics

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"livego/internal/control/auth"
	"livego/internal/domain"
	"livego/internal/health"
	"livego/internal/ops/histogram"
	"livego/internal/quality"
	"livego/internal/stream"
)

// A collector reads the metrics of table.
type collector struct {
	Options
	desc map[string]*prometheus.Desc // by name
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range table {
		ch <- c.desc[f.name]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := samples{c.desc, ch}
	s.gauge("livego_build_info", 1, c.Version, goVersion())
	s.gauge("livego_ready", isNil(c.Ready()))
	totals := c.Hub.Totals()
	s.addStreams(totals)
	c.collectFindings(s)
	c.collectPlayback(s)
	c.collectAccess(s, totals.Conflicts)
	c.collectHLS(s)
	thumbnails := c.Thumbnails.Statistics()
	s.histogram("livego_thumbnail_duration_seconds", thumbnails.Duration)
	s.counter("livego_thumbnail_failures_total", thumbnails.Failures)
	c.collectRecordings(s)
	c.collectRelays(s)
	c.collectWebhooks(s)
	c.collectStore(s)
	if c.MaxStreams > 0 {
		c.collectEachStream(s)
	}
}

// samples sends the values of metrics. The names are those of table: another one panics.
type samples struct {
	desc map[string]*prometheus.Desc
	ch   chan<- prometheus.Metric
}

func (s samples) gauge(name string, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.desc[name], prometheus.GaugeValue, v, labels...)
}

func (s samples) counter(name string, v uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.desc[name], prometheus.CounterValue, float64(v), labels...)
}

func (s samples) seconds(name string, d time.Duration, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.desc[name], prometheus.CounterValue, d.Seconds(), labels...)
}

func (s samples) histogram(name string, h histogram.Snapshot, labels ...string) {
	buckets, below := make(map[float64]uint64, len(h.Bounds)), uint64(0)
	for i, bound := range h.Bounds {
		below += h.Counts[i]
		buckets[bound.Seconds()] = below
	}
	s.ch <- prometheus.MustNewConstHistogram(s.desc[name], h.Count(), h.Sum.Seconds(), buckets, labels...)
}

// isNil returns 1 for no error, otherwise 0.
func isNil(err error) float64 {
	if err != nil {
		return 0
	}
	return 1
}

func (s samples) addStreams(t stream.Totals) {
	s.gauge("livego_streams", float64(t.Live), "live")
	s.gauge("livego_streams", float64(t.Held), "held")
	s.counter("livego_stream_starts_total", t.Starts)
	s.counter("livego_stream_holds_total", t.Holds)
	s.counter("livego_stream_resumes_total", t.Resumes)
	s.counter("livego_stream_ends_total", t.Ends)
	s.counter("livego_publisher_takeovers_total", t.Takeovers)
	s.counter("livego_publisher_switches_total", t.Switches)
	for proto, bytes := range t.Received {
		s.gauge("livego_publishers", float64(t.Publishers[proto]), proto)
		s.counter("livego_publisher_received_bytes_total", bytes, proto)
	}
	for proto, v := range t.Viewers {
		s.gauge("livego_viewers", float64(v.Viewers), proto)
		s.counter("livego_viewer_joins_total", v.Joins, proto)
		s.counter("livego_viewer_sent_bytes_total", v.Bytes, proto)
		s.counter("livego_viewer_skips_total", v.Skips, proto)
		if v.Delay.Count() > 0 {
			s.histogram("livego_viewer_delay_seconds", v.Delay, proto)
		}
		s.histogram("livego_viewer_first_frame_seconds", v.FirstFrame, proto)
	}
}

func (c *collector) collectFindings(s samples) {
	streams := map[string]int{}
	for _, f := range c.Health.Findings() {
		streams[f.Code]++
	}
	for _, r := range health.Rules() {
		s.gauge("livego_stream_findings", float64(streams[r.Code]), r.Code, string(r.Severity))
	}
}

// collectPlayback collects what players report.
func (c *collector) collectPlayback(s samples) {
	totals, reports := c.Quality.Statistics()
	for result, n := range reports {
		s.counter("livego_player_reports_total", n, result)
	}
	s.counter("livego_player_reports_total", c.Reports.Limited(), "limited")
	for proto, t := range totals {
		s.counter("livego_player_sessions_total", t.Players, proto)
		s.seconds("livego_player_played_seconds_total", t.Played, proto)
		s.counter("livego_player_stalls_total", t.Stalls, proto)
		s.seconds("livego_player_stalled_seconds_total", t.StallTime, proto)
		s.counter("livego_player_frames_total", t.Frames, proto)
		s.counter("livego_player_dropped_frames_total", t.Dropped, proto)
		s.counter("livego_player_switches_total", t.Switches, proto)
		for _, code := range quality.ErrorCodes() {
			s.counter("livego_player_errors_total", t.Errors[code], proto, code)
		}
		s.histogram("livego_player_start_seconds", t.Start.Snapshot(), proto)
		s.histogram("livego_player_delay_seconds", t.Latency.Snapshot(), proto)
	}
}

// collectAccess collects refusals, events and connections. conflicts is how many publishers were
// refused because there was another one.
func (c *collector) collectAccess(s samples, conflicts uint64) {
	refusals := c.Authorizer.Refusals()
	conflict := auth.RefusalReason{Action: domain.Publish.String(), Reason: domain.Conflict.String()}
	s.counter("livego_refusals_total", refusals[conflict]+conflicts, conflict.Action, conflict.Reason)
	delete(refusals, conflict)
	for r, n := range refusals {
		s.counter("livego_refusals_total", n, r.Action, r.Reason)
	}
	for r, n := range c.AdminAuth.Refusals() {
		s.counter("livego_refusals_total", n, r.Action, r.Reason)
	}
	counts := c.Events.Counts()
	for _, t := range domain.EventTypes() {
		s.counter("livego_events_total", counts[t], string(t))
	}
	for listener, l := range c.Limiters {
		conns := l.Statistics()
		s.gauge("livego_connections", float64(conns.Connections), listener)
		for reason, n := range conns.Limited {
			s.counter("livego_connections_limited_total", n, listener, reason)
		}
	}
}

func (c *collector) collectHLS(s samples) {
	h := c.HLS.Statistics()
	s.counter("livego_hls_segments_total", h.Segments)
	s.counter("livego_hls_parts_total", h.Parts)
	s.counter("livego_hls_rendered_segments_total", h.RenderedSegments)
	s.counter("livego_hls_rendered_parts_total", h.RenderedParts)
	s.gauge("livego_hls_blocked_requests", float64(h.Blocked))
	s.counter("livego_hls_blocked_requests_total", h.BlockedTotal)
	s.counter("livego_hls_blocked_request_timeouts_total", h.BlockedTimeouts)
}

func (c *collector) collectRecordings(s samples) {
	r := c.Recorder.Statistics()
	for _, state := range []domain.RecordingState{
		domain.RecordingActive, domain.RecordingStalled, domain.RecordingWaiting,
	} {
		s.gauge("livego_recordings", float64(r.States[state]), string(state))
	}
	for _, reason := range []domain.RecordingReason{
		domain.EndOfStream, domain.CodecChanged, domain.DiskFull, domain.DiskFailed, domain.AfterCrash,
	} {
		s.counter("livego_recording_files_total", r.Files[reason], string(reason))
	}
	s.counter("livego_recording_written_bytes_total", uint64(r.Bytes))
	s.counter("livego_recording_gaps_total", r.Gaps)
}

func (c *collector) collectRelays(s samples) {
	type relays struct{ direction, state string }
	count := map[relays]int{}
	for _, r := range c.Relays.List() {
		count[relays{r.Direction, r.State}]++
	}
	failures := c.Relays.Failures()
	for _, direction := range []string{domain.Push, domain.Pull} {
		for _, state := range []string{"waiting", "connecting", "running", "failed"} {
			s.gauge("livego_relays", float64(count[relays{direction, state}]), direction, state)
		}
		s.counter("livego_relay_failures_total", failures[direction], direction)
	}
}

func (c *collector) collectWebhooks(s samples) {
	for _, action := range []domain.Action{domain.Publish, domain.Play} {
		r := c.Webhooks.Statistics(action)
		s.histogram("livego_webhook_request_duration_seconds", r.Duration, "on_"+action.String())
		s.counter("livego_webhook_failures_total", r.Failed, "on_"+action.String())
	}
	if c.Outbox == nil {
		return
	}
	o := c.Outbox.Statistics()
	s.histogram("livego_webhook_request_duration_seconds", o.Duration, "events")
	s.counter("livego_webhook_failures_total", o.Failed, "events")
	age := time.Duration(0)
	if !o.WaitingSince.IsZero() {
		age = max(0, time.Since(o.WaitingSince))
	}
	s.gauge("livego_webhook_queue_bytes", float64(o.QueueBytes))
	s.gauge("livego_webhook_queue_age_seconds", age.Seconds())
	s.counter("livego_webhook_events_delivered_total", o.Delivered)
	s.counter("livego_webhook_events_lost_total", o.Lost)
}

func (c *collector) collectStore(s samples) {
	s.gauge("livego_store_ready", isNil(c.Store.Ready()))
	for op, m := range c.Store.Statistics() {
		s.histogram("livego_store_operation_duration_seconds", m.Duration, op)
		s.counter("livego_store_failures_total", m.Failures, op)
	}
}

// collectEachStream collects the series of the MaxStreams streams that started first, so that a stream
// that has series keeps them.
func (c *collector) collectEachStream(s samples) {
	streams := c.Hub.Snapshot()
	slices.SortFunc(streams, func(a, b stream.Info) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Epoch, b.Epoch))
	})
	s.gauge("livego_streams_without_series", float64(max(0, len(streams)-c.MaxStreams)))
	for _, in := range streams[:min(len(streams), c.MaxStreams)] {
		app, room := in.Name.App, in.Name.Room
		up, received := 1.0, uint64(0)
		if in.Held {
			up = 0
		}
		for _, p := range in.Publishers {
			received += p.VideoBytes + p.AudioBytes
		}
		s.gauge("livego_stream_up", up, app, room)
		s.counter("livego_stream_received_bytes_total", received, app, room)
		for proto, v := range in.Viewers {
			s.gauge("livego_stream_viewers", float64(v.Viewers), app, room, proto)
			s.counter("livego_stream_sent_bytes_total", v.Bytes, app, room, proto)
			s.counter("livego_stream_skips_total", v.Skips, app, room, proto)
		}
	}
}
