package probe

import (
	"slices"
	"time"

	"livego/internal/health"
	"livego/internal/media"
)

// An examination is that of a source by the rules for live streams. A file is examined as if it came in
// real time.
type examination struct {
	analyzer health.Analyzer
	began    time.Time     // arrival of the first frame
	first    time.Duration // DTS of the first frame
	now      time.Time     // arrival of the newest frame
	ticked   time.Time     // end of the newest second
	found    []health.Finding
	over     []string // codes of findings that were cleared
}

func (e *examination) observe(f *media.Frame, live bool) {
	if e.began.IsZero() {
		e.began, e.first = time.Now(), f.DTS
		e.now, e.ticked = e.began, e.began
	}
	arrived := time.Now()
	if !live {
		arrived = e.began.Add(f.DTS - e.first)
	}
	if arrived.After(e.now) {
		e.now = arrived
	}
	// A jump of a file's timestamps takes no time. It is a remark of its own.
	if gap := e.now.Sub(e.ticked); !live && gap > time.Minute {
		e.ticked = e.now
	}
	for ; e.now.Sub(e.ticked) >= time.Second; e.ticked = e.ticked.Add(time.Second) {
		appeared, cleared := e.analyzer.Tick(e.ticked.Add(time.Second), health.Facts{})
		e.found = append(e.found, appeared...)
		for _, f := range cleared {
			e.over = append(e.over, f.Code)
		}
	}
	e.analyzer.Observe(f, f.DTS, e.now)
}

// findings returns each finding once, with its newest sentence.
func (e *examination) findings() (list []health.Finding) {
	for _, f := range append(e.analyzer.Findings(), e.found...) {
		if !slices.ContainsFunc(list, func(other health.Finding) bool { return other.Code == f.Code }) {
			list = append(list, f)
		}
	}
	return list
}

// sameRemark returns the code of the remark that says the same as a finding, "" if there is none.
func sameRemark(finding string) string {
	return map[string]string{
		"keyframe_interval": "gop", "timestamp_jumps": "jump", "pixel_format": "profile", "sample_rate": "sample-rate",
		"video_change": "changes", "no_audio": "no-frames", "no_video": "no-frames",
	}[finding]
}

// forFiles reports whether a finding is a problem of a file too. Others are about the encoder and its
// network, or are what the makers of a film may want: B-frames, a still, silence for a while.
func (e *examination) forFiles(f health.Finding) bool {
	switch f.Code {
	case "variable_frame_rate", "bitrate_peaks", "audio_drift", "audio_gaps":
		return true
	case "silent_audio":
		return f.Since.Sub(e.began) < 30*time.Second && !slices.Contains(e.over, f.Code)
	}
	return false
}

// addFindings adds a remark for each finding that no remark is about yet.
func (r *Report) addFindings() {
	for _, f := range r.examined.findings() {
		known := slices.ContainsFunc(r.Remarks, func(m Remark) bool { return m.Code == sameRemark(f.Code) })
		if !known && (r.Live || r.examined.forFiles(f)) {
			r.add(Remark{Code: f.Code, Text: f.Text})
		}
	}
}
