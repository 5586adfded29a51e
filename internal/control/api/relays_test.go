package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"livego/internal/domain"
)

func TestRelays(t *testing.T) {
	const there = "&url=rtmp%3A%2F%2Fh%2Fa%2Fs3cret"
	for _, tt := range []struct {
		name, target string
		fail         error
		status       int
		asked, data  string // part of the response
	}{
		{"push", "/control/push?oper=start&app=live&name=movie" + there, nil, 200, "start push live/movie rtmp://h/a/s3cret",
			`"data":"<h1>push url start rtmp://h/a/*** ok</h1></br>"`},
		{"stop a push", "/control/push?oper=stop&app=live&name=movie" + there, nil, 200,
			"stop push live/movie rtmp://h/a/s3cret", "push url stop rtmp://h/a/*** ok"},
		{"pull", "/control/pull?oper=start&app=live&name=movie" + there, nil, 200, "start pull live/movie rtmp://h/a/s3cret",
			"pull url start rtmp://h/a/*** ok"},
		{"stop a pull", "/control/pull?oper=stop&app=live&name=movie" + there, nil, 200,
			"stop pull live/movie rtmp://h/a/s3cret", "pull url stop rtmp://h/a/*** ok"},
		{"a push without oper", "/control/push?app=live&name=movie" + there, nil, 200,
			"start push live/movie rtmp://h/a/s3cret", "push url start rtmp://h/a/*** ok"},
		{"a pull with an empty oper", "/control/pull?oper=&app=live&name=movie" + there, nil, 200,
			"start pull live/movie rtmp://h/a/s3cret", "pull url start rtmp://h/a/*** ok"},
		{"oper and nothing else", "/control/pull?oper=start", nil, 400, "", "url: /control/pull?oper=start|stop"},
		{"oper twice", "/control/pull?oper=start&oper=stop&app=live&name=movie" + there, nil, 400, "",
			"oper is given 2 times"},
		{"nothing said", "/control/push", nil, 400, "", "url: /control/push?oper=start|stop"},
		{"another oper", "/control/push?oper=go&app=live&name=movie" + there, nil, 400, "", "oper=start|stop"},
		{"no URL", "/control/push?oper=start&app=live&name=movie", nil, 400, "", "oper=start|stop"},
		{"two URLs", "/control/push?oper=start&app=live&name=movie" + there + there, nil, 400, "", "url is given 2 times"},
		{"bad name", "/control/pull?oper=start&app=live&name=a%2Fb" + there, nil, 400, "", "room name"},
		{"no such app", "/control/pull?oper=start&app=vod&name=movie" + there, nil, 404, "", "is not configured"},
		{"api: false", "/control/pull?oper=start&app=quiet&name=movie" + there, nil, 403, "", "api: false"},
		{"refused", "/control/push?oper=start&app=live&name=movie" + there, domain.Errorf(domain.Denied, "there"), 403,
			"start push", "there"},
		{"twice", "/control/push?oper=start&app=live&name=movie" + there, domain.Errorf(domain.Conflict, "twice"), 409,
			"start push", "twice"},
		{"too many", "/control/push?oper=start&app=live&name=movie" + there, domain.Errorf(domain.Limit, "many"), 429,
			"start push", "many"},
		{"unknown", "/control/push?oper=stop&app=live&name=movie" + there, domain.Errorf(domain.NotFound, "none"), 404,
			"stop push", "none"},
		{"out of reach", "/control/push?oper=start&app=live&name=movie" + there, domain.Errorf(domain.Unavailable, "away"),
			502, "start push", "away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relays := &fakeRelays{err: tt.fail}
			s := newFixture(t, func(o *Options) { o.Relays = relays })
			w := s.get(tt.target)
			wantStatus(t, w, tt.status)
			if !strings.Contains(w.Body.String(), tt.data) || !strings.HasPrefix(relays.lastCall, tt.asked) || tt.asked == "" &&
				relays.lastCall != "" {
				t.Errorf("response %s, relay call %q", w.Body, relays.lastCall)
			}
			if strings.Contains(s.log.String()+w.Body.String(), "s3cret") {
				t.Errorf("the URL is shown: %s %s", s.log, w.Body)
			}
		})
	}
}

const movieRelay = `{"id":"1","direction":"push","app":"live","room":"movie","url":"rtmp://h/a/***","persist":false,` +
	`"state":"running","since":"0001-01-01T00:00:00Z","attempts":0,"bytes":0,"bitrate":0}`

// TestListRelays lists relays by pages, with filters and in other orders.
func TestListRelays(t *testing.T) {
	relays := &fakeRelays{}
	for i := range 5 {
		relays.more = append(relays.more, domain.RelayStatus{ID: strconv.Itoa(i + 2), Direction: domain.Pull, App: "live",
			Room: "a" + strconv.Itoa(i%2), URL: "rtmp://h/a/***", State: "failed", Bytes: uint64(i)})
	}
	s := newFixture(t, func(o *Options) { o.Relays = relays })
	for _, c := range []struct {
		query string
		want  string // IDs, by pages; "" for a refused request
	}{
		{"", "246351"},
		{"limit=4&", "2463 51"},
		{"limit=2&sort=-bytes&", "65 43 12"},
		{"direction=push&", "1"},
		{"state=failed&room=a1&app=live&", "35"},
		{"app=vod&", " "},
		{"direction=aside&", ""},
		{"sort=secret&", ""},
	} {
		var pages []string
		for cursor := ""; ; {
			w := s.get("/api/v1/relays?" + c.query + "cursor=" + cursor)
			if w.Code == 400 {
				break
			}
			var page struct {
				Relays []domain.RelayStatus
				Next   string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
				t.Fatalf("%s: %d %s", c.query, w.Code, w.Body)
			}
			ids := ""
			for _, r := range page.Relays {
				ids += r.ID
			}
			pages = append(pages, ids)
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if got := strings.Join(pages, " "); got != strings.TrimSpace(c.want) || (pages == nil) != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.query, got, c.want)
		}
	}
	if w := newFixture(t, nil).get("/api/v1/relays"); w.Body.String() != `{"relays":[`+movieRelay+`]}` {
		t.Errorf("the list is %s", w.Body)
	}
}

// TestCreateAndDeleteRelay creates, gets and deletes relays by /api/v1.
func TestCreateAndDeleteRelay(t *testing.T) {
	relays := &fakeRelays{}
	s := newFixture(t, func(o *Options) { o.Relays = relays })
	const url, film, movie = `"url":"rtmp://h/a/s3cret"}`, `{"direction":"push","app":"live","room":"film",`,
		`{"direction":"pull","app":"live","room":"movie",`
	for _, c := range []struct {
		name, method, path, body string
		fail                     error
		status                   int
		call, want               string // part of the response
	}{
		{"create", "POST", "", film + url, nil, 201, "create push live/film rtmp://h/a/s3cret true",
			`"url":"rtmp://h/a/***","persist":true`},
		{"create for this process", "POST", "", film + `"persist":false,` + url, nil, 201,
			"create push live/film rtmp://h/a/s3cret false", `"persist":false`},
		{"create again", "POST", "", movie + `"persist":true,` + url, nil, 200,
			"create pull live/movie rtmp://h/a/s3cret true", `"id":"1"`},
		{"without a URL", "POST", "", film[:len(film)-1] + `}`, nil, 400, "", "url"},
		{"another direction", "POST", "", strings.ReplaceAll(film, "push", "aside") + url, nil, 400, "", "direction"},
		{"a wrong name", "POST", "", strings.ReplaceAll(film, "film", "../film") + url, nil, 400, "", "room name"},
		{"unknown member", "POST", "", film + `"static":true,` + url, nil, 400, "", "unexpected"},
		{"no such app", "POST", "", strings.ReplaceAll(film, "live", "vod") + url, nil, 404, "", "is not configured"},
		{"api: false", "POST", "", strings.ReplaceAll(film, "live", "quiet") + url, nil, 403, "", "api: false"},
		{"forbidden", "POST", "", film + url, domain.Errorf(domain.Denied, "private"), 403, "create push", "private"},
		{"static", "POST", "", film + url, domain.Errorf(domain.Conflict, "static_push"), 409, "create push", "static_push"},
		{"too many", "POST", "", film + url, domain.Errorf(domain.Limit, "many"), 429, "create push", "many"},
		{"not stored", "POST", "", film + url, domain.Errorf(domain.Unavailable, "stored"), 503, "create push", "stored"},
		{"get", "GET", "/1", "", nil, 200, "", movieRelay},
		{"get another", "GET", "/2", "", nil, 404, "", "no such relay"},
		{"delete", "DELETE", "/1", "", nil, 204, "delete 1", ""},
		{"delete another", "DELETE", "/2", "", nil, 404, "delete 2", "no such relay"},
		{"delete a static one", "DELETE", "/1", "", domain.Errorf(domain.Conflict, "static_push"), 409, "delete 1",
			"static_push"},
	} {
		t.Run(c.name, func(t *testing.T) {
			relays.lastCall, relays.err = "", c.fail
			w := s.do(c.method, "/api/v1/relays"+c.path, c.body, "Content-Type: application/json")
			wantStatus(t, w, c.status)
			if !strings.HasPrefix(relays.lastCall, c.call) || c.call == "" && relays.lastCall != "" ||
				!strings.Contains(w.Body.String(), c.want) {
				t.Errorf("call %q, response %s", relays.lastCall, w.Body)
			}
			if strings.Contains(s.log.String()+w.Body.String(), "s3cret") {
				t.Errorf("the URL is shown: %s %s", s.log, w.Body)
			}
		})
	}
}
