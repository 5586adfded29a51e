package api

import (
	"context"
	"io"
	"mime"
	"net/http"
	"os"
	"path"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"livego/internal/domain"
	"livego/internal/ops/httpx"
)

const (
	recordingsPath = v1 + "/recordings"
	// downloadTimeout is how long a client may take to read a piece of a file, of maxPiece bytes.
	downloadTimeout = 30 * time.Second
	maxPiece        = 64 << 10
)

func (s *server) routeRecordings(api huma.API) {
	huma.Register(api, operation("GET", recordingsPath, "list-recordings",
		"List current recordings and the files of earlier ones, newest first"), s.listRecordings)
	huma.Register(api, operation("GET", recordingsPath+"/{id}", "get-recording", "Get a recording", http.StatusNotFound),
		s.getRecording)
	huma.Register(api, operation("DELETE", recordingsPath+"/{id}", "delete-recording",
		"Delete a finished recording and its file", http.StatusNotFound, http.StatusConflict), s.deleteRecording)
	file := operation("GET", recordingsPath+"/{id}/file", "get-recording-file",
		"Download the file of a recording, or ranges of it; of a running one, as far as it is written", http.StatusNotFound,
		http.StatusRequestedRangeNotSatisfiable)
	content := map[string]*huma.MediaType{flvType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	file.Responses = map[string]*huma.Response{
		"200": {Description: "The file", Content: content}, "206": {Description: "A range of the file", Content: content},
	}
	huma.Register(api, file, s.sendRecording)
}

const flvType = "video/x-flv"

type recording struct {
	ID       string    `json:"id,omitempty" doc:"Absent while there is no file."`
	App      string    `json:"app"`
	Room     string    `json:"room"`
	File     string    `json:"file,omitempty" doc:"Path below flv_dir. Absent while there is no file."`
	Started  time.Time `json:"started"`
	Bytes    int64     `json:"bytes"`
	Duration float64   `json:"duration" doc:"In seconds."`
	Gaps     int       `json:"gaps" doc:"Number of gaps, in which frames are missing from the file."`
	State    string    `json:"state" enum:"recording,stalled,waiting,finished,unfinished" doc:"unfinished: another process writes the file, or a crash has left it."`
	Reason   string    `json:"reason,omitempty" enum:"ended,changed,full,failed,mended" doc:"Why the file is finished."`
	Error    string    `json:"error,omitempty" doc:"The error of the file system."`
}

func newRecording(r domain.Recording) recording {
	return recording{
		ID: r.ID(), App: r.Name.App, Room: r.Name.Room, File: r.File, Started: r.Started, Bytes: r.Bytes,
		Duration: r.Duration.Seconds(), Gaps: r.Gaps, State: string(r.State), Reason: string(r.Reason), Error: r.Error,
	}
}

type recordingsInput struct {
	App    string    `query:"app" maxLength:"128" doc:"Only recordings of this app."`
	Room   string    `query:"room" maxLength:"128" doc:"Only recordings of this room."`
	State  string    `query:"state" enum:"recording,stalled,waiting,finished,unfinished" doc:"Only recordings in this state."`
	Since  time.Time `query:"since" doc:"Only recordings that started at or after this time."`
	Until  time.Time `query:"until" doc:"Only recordings that started at or before this time."`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string    `query:"cursor" maxLength:"512" doc:"next of the page before."`
}

type recordingList struct {
	Body struct {
		Recordings []recording `json:"recordings"`
		Next       string      `json:"next,omitempty" doc:"Cursor of the next page; absent on the last page."`
	}
}

func (s *server) listRecordings(ctx context.Context, in *recordingsInput) (*recordingList, error) {
	list, next, err := s.Recordings.List(ctx, domain.RecordingFilter{App: in.App, Room: in.Room,
		State: domain.RecordingState(in.State), Since: in.Since, Until: in.Until}, in.Cursor, in.Limit)
	if err != nil {
		return nil, humaError(err)
	}
	out := new(recordingList)
	out.Body.Recordings, out.Body.Next = make([]recording, 0, len(list)), next
	for _, r := range list {
		out.Body.Recordings = append(out.Body.Recordings, newRecording(r))
	}
	return out, nil
}

type recordingInput struct {
	ID string `path:"id" maxLength:"512"`
}

type oneRecording struct{ Body recording }

func (s *server) getRecording(ctx context.Context, in *recordingInput) (*oneRecording, error) {
	r, err := s.Recordings.Get(ctx, in.ID)
	if err != nil {
		return nil, humaError(err)
	}
	return &oneRecording{newRecording(r)}, nil
}

func (s *server) deleteRecording(ctx context.Context, in *recordingInput) (*struct{}, error) {
	if err := s.Recordings.Delete(context.WithoutCancel(ctx), in.ID); err != nil {
		return nil, humaError(err)
	}
	return nil, nil
}

func (s *server) sendRecording(ctx context.Context, in *recordingInput) (*huma.StreamResponse, error) {
	rec, f, err := s.Recordings.Open(ctx, in.ID)
	if err != nil {
		return nil, humaError(err)
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer f.Close()
		r, w := humago.Unwrap(ctx)
		serveRecording(w, r, rec, f)
	}}, nil
}

// serveRecording sends the file of rec, or the ranges that the client requests. The file of a
// current recording has no validators, because it changes.
func serveRecording(w http.ResponseWriter, r *http.Request, rec domain.Recording, f *os.File) {
	name := path.Base(rec.File)
	w.Header().Set("Content-Type", flvType)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	httpx.LimitRanges(r)
	var modified time.Time
	if info, err := f.Stat(); err == nil && rec.State == domain.RecordingFinished {
		modified = info.ModTime()
	}
	// The timeouts of the server are for short requests.
	d := &downloadWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	if d.control.SetReadDeadline(time.Time{}) == nil {
		http.ServeContent(d, r, name, modified, io.NewSectionReader(f, 0, rec.Bytes))
	}
}

// A downloadWriter extends the deadline of a response with each piece of it.
type downloadWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *downloadWriter) Write(b []byte) (n int, err error) {
	for err == nil && n < len(b) {
		if err = w.control.SetWriteDeadline(time.Now().Add(downloadTimeout)); err != nil {
			return n, err
		}
		var m int
		m, err = w.ResponseWriter.Write(b[n:min(len(b), n+maxPiece)])
		n += m
	}
	return n, err
}
