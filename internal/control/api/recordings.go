package api

import (
	"context"
	"time"

	"livego/internal/domain"
)

type recording struct {
	App      string    `json:"app"`
	Room     string    `json:"room"`
	File     string    `json:"file,omitempty" doc:"Path below flv_dir. Absent while there is no file."`
	Started  time.Time `json:"started"`
	Bytes    int64     `json:"bytes"`
	Duration float64   `json:"duration" doc:"In seconds."`
	Gaps     int       `json:"gaps" doc:"Number of gaps, in which frames are missing from the file."`
	State    string    `json:"state" enum:"recording,stalled,waiting,finished"`
	Reason   string    `json:"reason,omitempty" enum:"ended,changed,failed,mended" doc:"Why the file is finished."`
	Error    string    `json:"error,omitempty" doc:"The error of the file system."`
}

type recordingList struct {
	Body struct {
		Recordings []recording `json:"recordings"`
	}
}

func (s *server) listRecordings(context.Context, *struct{}) (*recordingList, error) {
	var all []domain.Recording
	if s.Recordings != nil {
		all = s.Recordings()
	}
	out := new(recordingList)
	out.Body.Recordings = make([]recording, 0, len(all))
	for _, r := range all {
		out.Body.Recordings = append(out.Body.Recordings, recording{
			App: r.Name.App, Room: r.Name.Room, File: r.File, Started: r.Started, Bytes: r.Bytes, Duration: r.Duration.Seconds(),
			Gaps: r.Gaps, State: string(r.State), Reason: string(r.Reason), Error: r.Error,
		})
	}
	return out, nil
}
