package metrics

import "github.com/prometheus/client_golang/prometheus"

// A kind is the type of a metric, as the text format of Prometheus names it.
type kind string

const (
	gauge              kind = "gauge"
	counter            kind = "counter"
	histogramOfSeconds kind = "histogram"
)

// A family is a metric with its labels.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// table lists every metric of this package: docs/metrics.md has the same. Values of labels are words
// of this program, except for the names of streams in those that metrics_streams limits.
var table = []family{
	{"livego_build_info", gauge, []string{"version", "goversion"},
		"The version of the server; always 1."},
	{"livego_ready", gauge, nil,
		"1 if /readyz answers 200, otherwise 0."},

	{"livego_streams", gauge, []string{"state"},
		"Streams: live, or held for their lost publisher."},
	{"livego_stream_starts_total", counter, nil,
		"Streams that a publisher has started."},
	{"livego_stream_holds_total", counter, nil,
		"How often a stream was held because its publisher was lost."},
	{"livego_stream_resumes_total", counter, nil,
		"How often a publisher has continued a held stream, or joined or replaced another one."},
	{"livego_stream_ends_total", counter, nil,
		"Streams that have ended."},
	{"livego_stream_findings", gauge, []string{"code", "severity"},
		"Streams with a problem that the stream doctor has found: see doctor.md."},
	{"livego_publishers", gauge, []string{"proto"},
		"Connected publishers."},
	{"livego_publisher_received_bytes_total", counter, []string{"proto"},
		"Bytes of audio and video received from publishers."},
	{"livego_publisher_takeovers_total", counter, nil,
		"Publishers that replaced another one with the same role."},
	{"livego_publisher_switches_total", counter, nil,
		"How often a stream has switched between its primary and its backup encoder."},

	{"livego_viewers", gauge, []string{"proto"},
		"Viewers."},
	{"livego_viewer_joins_total", counter, []string{"proto"},
		"Viewers that have joined a stream."},
	{"livego_viewer_sent_bytes_total", counter, []string{"proto"},
		"Bytes of audio and video sent to viewers."},
	{"livego_viewer_skips_total", counter, []string{"proto"},
		"How often a viewer has skipped to a newer keyframe because it was too far behind."},
	{"livego_viewer_delay_seconds", histogramOfSeconds, []string{"proto"},
		"How far viewers were behind the newest frame at each write. Not for HLS, whose players decide on their " +
			"delay."},
	{"livego_viewer_first_frame_seconds", histogramOfSeconds, []string{"proto"},
		"Time from joining a stream until the first audio or video was sent; for HLS from the first media " +
			"playlist."},

	{"livego_player_reports_total", counter, []string{"result"},
		"Reports of players: used, early (too soon after another one), refused (no viewer has this session, it is not " +
			"in the sample, or player_reports is off), limited (too many from one address). See watching.md."},
	{"livego_player_sessions_total", counter, []string{"proto"},
		"Players that have reported. The following are of them only."},
	{"livego_player_played_seconds_total", counter, []string{"proto"},
		"Time for which players have played or tried to."},
	{"livego_player_stalls_total", counter, []string{"proto"},
		"Stalls: how often playback stopped, because no media was left or none arrived."},
	{"livego_player_stalled_seconds_total", counter, []string{"proto"},
		"Time for which playback stalled."},
	{"livego_player_frames_total", counter, []string{"proto"},
		"Frames that players have shown or dropped."},
	{"livego_player_dropped_frames_total", counter, []string{"proto"},
		"Frames that players have dropped."},
	{"livego_player_switches_total", counter, []string{"proto"},
		"How often a player has changed to this protocol."},
	{"livego_player_errors_total", counter, []string{"proto", "code"},
		"Errors of players: network, unplayable (the browser cannot play the codecs) and other."},
	{"livego_player_start_seconds", histogramOfSeconds, []string{"proto"},
		"Time from the start of the player to the first picture."},
	{"livego_player_delay_seconds", histogramOfSeconds, []string{"proto"},
		"How far pictures are behind the newest media of the server, as the players estimate it, at each report."},

	{"livego_refusals_total", counter, []string{"action", "reason"},
		"Refused requests to publish, to play and to manage the server, by error code or kind of error."},
	{"livego_events_total", counter, []string{"type"},
		"Events, as GET /api/v1/events lists them."},
	{"livego_connections", gauge, []string{"listener"},
		"Open connections of encoders and viewers (public) and to the operator's HTTP (operator)."},
	{"livego_connections_limited_total", counter, []string{"listener", "reason"},
		"Connections that were refused or closed because a limit was reached."},

	{"livego_hls_segments_total", counter, nil,
		"Segments that were completed."},
	{"livego_hls_parts_total", counter, nil,
		"Parts of low-latency HLS that were completed."},
	{"livego_hls_rendered_segments_total", counter, nil,
		"Segments whose bytes were made for a request, once for each format."},
	{"livego_hls_rendered_parts_total", counter, nil,
		"Parts whose bytes were made for a request."},
	{"livego_hls_blocked_requests", gauge, nil,
		"Requests that wait for the next segment or part."},
	{"livego_hls_blocked_requests_total", counter, nil,
		"Requests that have waited for a segment or part."},
	{"livego_hls_blocked_request_timeouts_total", counter, nil,
		"Requests that have waited for a segment or part that did not come in time."},

	{"livego_thumbnail_duration_seconds", histogramOfSeconds, nil,
		"Time to render a thumbnail by ffmpeg, or until that failed."},
	{"livego_thumbnail_failures_total", counter, nil,
		"Thumbnails that could not be rendered."},

	{"livego_recordings", gauge, []string{"state"},
		"Recordings: recording, stalled by a slow disk, or waiting for a disk that is full or has failed."},
	{"livego_recording_files_total", counter, []string{"reason"},
		"Files of recordings that were closed, by reason."},
	{"livego_recording_written_bytes_total", counter, nil,
		"Bytes written to recordings."},
	{"livego_recording_gaps_total", counter, nil,
		"Gaps in recordings."},

	{"livego_relays", gauge, []string{"direction", "state"},
		"Relays: waiting for a stream, connecting, running, or failed and about to retry."},
	{"livego_relay_failures_total", counter, []string{"direction"},
		"Attempts of relays that have failed."},

	{"livego_webhook_request_duration_seconds", histogramOfSeconds, []string{"hook"},
		"Time until a webhook responded or failed."},
	{"livego_webhook_failures_total", counter, []string{"hook"},
		"Webhook requests without a valid response."},
	{"livego_webhook_queue_bytes", gauge, nil,
		"Size of the events that are not delivered."},
	{"livego_webhook_queue_age_seconds", gauge, nil,
		"Age of the oldest event that is being delivered."},
	{"livego_webhook_events_delivered_total", counter, nil,
		"Events that the receiver of hook.events has accepted, or refused for good."},
	{"livego_webhook_events_lost_total", counter, nil,
		"Events that were lost because the receiver or the disk was unavailable or too slow."},

	{"livego_store_ready", gauge, nil,
		"1 if the key store is available, otherwise 0."},
	{"livego_store_operation_duration_seconds", histogramOfSeconds, []string{"operation"},
		"Duration of the operations of the key store."},
	{"livego_store_failures_total", counter, []string{"operation"},
		"Operations that the key store could not do."},

	{"livego_streams_without_series", gauge, nil,
		"Streams beyond metrics_streams, which have no series of their own. Only with metrics_streams."},
	{"livego_stream_up", gauge, []string{"app", "room"},
		"1 if the stream has a publisher, 0 if it is held. Only with metrics_streams, like the following."},
	{"livego_stream_received_bytes_total", counter, []string{"app", "room"},
		"Bytes of audio and video received from the publishers of the stream that are connected."},
	{"livego_stream_viewers", gauge, []string{"app", "room", "proto"},
		"Viewers of the stream."},
	{"livego_stream_sent_bytes_total", counter, []string{"app", "room", "proto"},
		"Bytes of audio and video sent to viewers of the stream."},
	{"livego_stream_skips_total", counter, []string{"app", "room", "proto"},
		"How often a viewer of the stream has skipped to a newer keyframe."},
}

// descriptions returns the descriptions of table, by name.
func descriptions() map[string]*prometheus.Desc {
	all := make(map[string]*prometheus.Desc, len(table))
	for _, f := range table {
		all[f.name] = prometheus.NewDesc(f.name, f.help, f.labels, nil)
	}
	return all
}
