package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"livego/internal/domain"
	"livego/internal/health"
)

// fakeHealth has 600 samples and one finding of each stream.
type fakeHealth struct{}

var healthTime = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

func (fakeHealth) FindingsOf(name domain.Name) []health.Finding {
	return []health.Finding{{Code: "keyframe_interval", Severity: health.Warning, Text: "Of " + name.String() + ".",
		Since: healthTime, LastSeen: healthTime.Add(time.Minute)}}
}

func (fakeHealth) History(domain.Name) (list []health.Sample) {
	for i := range health.HistoryLength {
		list = append(list, health.Sample{Time: healthTime.Add(time.Duration(i) * time.Second), VideoKbps: 2500.1234,
			FrameRate: 29.97, GOP: 2, SkewMS: -7, Viewers: int32(i),
			Protocols: map[string]int{"ws": i}, Silent: true})
	}
	return list
}

// TestFindingCodes checks that the API names the code of every rule.
func TestFindingCodes(t *testing.T) {
	var codes []string
	for _, r := range health.Rules() {
		codes = append(codes, r.Code)
	}
	field, _ := reflect.TypeFor[finding]().FieldByName("Code")
	if got, want := field.Tag.Get("enum"), strings.Join(codes, ","); got != want || want == "" {
		t.Errorf("the tag enum of finding.Code is %q, want %q", got, want)
	}
}

// TestStreamHistory checks the problems and the samples of a stream.
func TestStreamHistory(t *testing.T) {
	s := newFixture(t, nil)
	s.publish(domain.Name{App: "live", Room: "movie"}, domain.KeyRef{})
	w := s.get("/api/v1/streams/live/movie/history?seconds=2")
	wantStatus(t, w, 200)
	const want = `{"health":[{"code":"keyframe_interval","severity":"warning","text":"Of live/movie.",` +
		`"since":"2030-01-31T12:00:00Z","last_seen":"2030-01-31T12:01:00Z"}],"samples":[{"at":"2030-01-31T12:09:58Z",` +
		`"video_kbps":2500.12,"audio_kbps":0,"frame_rate":29.97,"jitter_ms":0,"gop":2,"skew_ms":-7,"lag_ms":0,`
	if got := w.Body.String(); !strings.HasPrefix(got, want) || !strings.Contains(got, `"silent":true`) ||
		!strings.Contains(got, `"viewers":599,"viewers_by_protocol":{"ws":599},`) {
		t.Errorf("%s, want %s...", got, want)
	}
	if got := decode[streamInfo](t, s.get("/api/v1/streams/live/movie"), 200).Health; len(got) != 1 ||
		got[0].Text != "Of live/movie." {
		t.Errorf("the stream has the problems %+v", got)
	}
	for target, n := range map[string]int{"": health.HistoryLength, "?seconds=600": 600, "?seconds=1": 1} {
		w := s.get("/api/v1/streams/live/movie/history" + target)
		wantStatus(t, w, 200)
		var out struct{ Samples []json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Samples) != n {
			t.Errorf("%q: %d samples, %v, want %d", target, len(out.Samples), err, n)
		}
	}
	for target, status := range map[string]int{
		"live/movie/history?seconds=0": 400, "live/movie/history?seconds=601": 400, "live/other/history": 404,
		"live/.../history": 404,
	} {
		wantStatus(t, s.get(fmt.Sprintf("/api/v1/streams/%s", target)), status)
	}
}
