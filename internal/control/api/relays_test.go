package api

import (
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
	w := newFixture(t, nil).get("/api/v1/relays")
	wantStatus(t, w, 200)
	const want = `{"relays":[{"direction":"push","app":"live","room":"movie","url":"rtmp://h/a/***","state":"running",` +
		`"since":"0001-01-01T00:00:00Z","attempts":0}]}`
	if w.Body.String() != want {
		t.Errorf("the list is %s, want %s", w.Body, want)
	}
}
