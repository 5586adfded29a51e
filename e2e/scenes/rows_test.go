package scenes

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"livego/e2e/essence"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// comebackRows are about encoders that are lost, and others that come.
func comebackRows() []row {
	// lost plays a scene in which the first encoder is lost and the next one is there.
	lost := func(lose func(*scene, *encoder)) func(*scene) {
		return func(sc *scene) {
			sc.joins, sc.missing, sc.headers = 1, 30, 2
			c := load(sc.t, sample.Small)
			sc.early()
			e := sc.encode(c)
			sc.flows(time.Second)
			sc.late()
			lose(sc, e)
			e = sc.takeOver(c.from(10 * time.Second))
			sc.flows(2 * time.Second)
			e.goodbye()
		}
	}
	return []row{
		{"F04 back after FIN", lost(func(_ *scene, e *encoder) { e.fin() })},
		{"F02 back after RST", lost(func(_ *scene, e *encoder) { e.reset() })},
		{"F03 back after silence", lost(func(_ *scene, e *encoder) { e.stop(); e.awaitGone() })},
		{"F06 takeover of a half-open encoder", lost(func(_ *scene, e *encoder) { e.stop() })},
		{"F04 back and lost again", func(sc *scene) {
			const times = 4
			sc.joins, sc.missing = times, times*30
			c := load(sc.t, sample.Small)
			sc.early()
			e := sc.encode(c)
			for n := range times {
				sc.flows(300 * time.Millisecond)
				if n%2 == 0 {
					e.reset()
				} else {
					e.fin()
				}
				e = sc.takeOver(c.from(time.Duration(n+1) * 4 * time.Second))
			}
			sc.flows(time.Second)
			e.goodbye()
		}},
		{"F07 race of encoders", func(sc *scene) {
			c := load(sc.t, sample.Small)
			sc.early()
			e := sc.race(100)
			e.start(c)
			sc.flows(time.Second)
			if _, err := sc.tryEncode(sc.key); err == nil {
				sc.t.Error("a second encoder beside an active one")
			}
			sc.late()
			sc.flows(time.Second)
			e.goodbye()
		}},
		{"a backup, and the main encoder again", backedUp(2, sample.Small)},
		{"a backup with another resolution", backedUp(6, sample.Large)},
		{"F05 lost for good", func(sc *scene) {
			sc.missing = 30
			sc.early()
			e := sc.encode(load(sc.t, sample.Small))
			sc.flows(time.Second)
			sc.late()
			e.fin()
		}},
		{"F08 a new key", func(sc *scene) {
			sc.joins, sc.missing = 1, 30
			c := load(sc.t, sample.Small)
			sc.early()
			old := sc.encode(c)
			sc.flows(time.Second)
			sc.key = sc.s.Call("/control/reset?room=" + sc.room).Text()
			old.awaitGone()
			old.stop()
			e := sc.encode(c.from(10 * time.Second))
			sc.flows(2 * time.Second)
			e.goodbye()
		}},
	}
}

// backedUp plays a scene in which the main encoder falls silent, a spare one steps in, and gives way when another main encoder is well.
func backedUp(headers int, other sample.Sample) func(*scene) {
	return func(sc *scene) {
		sc.joins, sc.switches, sc.headers = 2, 2, headers
		c := load(sc.t, sample.Small)
		sc.early()
		first := sc.encode(c)
		spare := sc.backup(load(sc.t, other).from(8 * time.Second))
		sc.flows(time.Second)
		sc.late()
		first.stop()
		first.awaitGone()
		sc.flows(500 * time.Millisecond)
		second := sc.encode(c.from(5 * time.Second))
		sc.awaitEncoder(second)
		sc.flows(time.Second)
		spare.goodbye()
		second.goodbye()
	}
}

// parameterRows are about codec parameters that change.
func parameterRows() []row {
	return []row{
		{"F09 another resolution", changed(1, 3, func(small, large *clip) *clip {
			return large.of(essence.Video).with(small.of(essence.Audio)).from(10 * time.Second)
		})},
		{"F09 another sample rate", changed(1, 3, func(small, large *clip) *clip {
			return small.of(essence.Video).with(large.of(essence.Audio)).from(10 * time.Second)
		})},
		{"F09 both", changed(1, 4, func(_, large *clip) *clip { return large.from(10 * time.Second) })},
		{"F09 back with another resolution", func(sc *scene) {
			sc.joins, sc.headers, sc.missing = 1, 4, 30
			sc.early()
			e := sc.encode(load(sc.t, sample.Small))
			sc.flows(time.Second)
			sc.late()
			e.reset()
			e = sc.takeOver(load(sc.t, sample.Large).from(10 * time.Second))
			sc.flows(2 * time.Second)
			e.goodbye()
		}},
		{"back with another resolution, and sound before the picture", func(sc *scene) {
			// The sound is for longer than a segment: no segment may have it alone, for hls.js has laid out its buffers for both.
			sc.joins, sc.headers, sc.missing, sc.gap = 1, 4, 30, 950*time.Millisecond
			sc.early()
			e := sc.encode(load(sc.t, sample.Small))
			sc.flows(time.Second)
			sc.late()
			e.reset()
			e = sc.takeOver(load(sc.t, sample.Large).without(func(it item) bool {
				return it.tag.Time < 10400 || it.unit.Kind == essence.Video && it.tag.Time < 11000
			}))
			sc.flows(2 * time.Second)
			e.goodbye()
		}},
		{"F10 another codec", func(sc *scene) {
			sc.joins, sc.headers = 1, 3
			c := load(sc.t, sample.Small)
			hevc := load(sc.t, sample.HEVC()).with(c.of(essence.Audio)).from(10 * time.Second)
			sc.early()
			able, lacking, old := newViewer("rtmp", "who lists both"), newViewer("rtmp", "who lists one"), newViewer("flv", "who has the old form")
			able.codecs, lacking.codecs, old.query = rtmp.Array{"avc1", "hvc1"}, rtmp.Array{"avc1"}, oldHEVC
			for _, v := range []*viewer{able, old, lacking} {
				sc.add(v)
			}
			e := sc.encode(c)
			sc.flows(time.Second)
			sc.viewers = slices.DeleteFunc(sc.viewers, func(v *viewer) bool { return v == lacking })
			sc.late()
			e.change(hevc)
			sc.flows(2 * time.Second)
			lacking.wait(sc.t)
			if err := lacking.err; !errors.Is(err, rtmp.ErrRefused) || !strings.Contains(err.Error(), "hvc1") {
				sc.t.Errorf("%v: was told %v, want which codec he lacks", lacking, err)
			}
			e.goodbye()
			old.wait(sc.t)
			if codecs := old.file(old.flvTags()).FourCCs(); len(codecs) > 0 || old.headers(false) != 3 {
				sc.t.Errorf("%v: codecs %q are in FourCC form, and %d codec headers", old, codecs, old.headers(false))
			}
		}},
		{"F11 the same headers again and again", func(sc *scene) {
			sc.early()
			e := sc.encode(load(sc.t, sample.Small))
			e.order(func() { e.repeats = true })
			sc.flows(3 * time.Second)
			e.goodbye()
			for _, v := range sc.viewers {
				v.wait(sc.t)
				if n := v.headers(true); !v.segmented() && n != 2 {
					sc.t.Errorf("%v: %d codec headers, want each once", v, n)
				}
			}
		}},
	}
}

// changed plays a scene in which the encoder goes on with another clip on its connection.
func changed(joins, headers int, next func(small, large *clip) *clip) func(*scene) {
	return func(sc *scene) {
		sc.joins, sc.headers = joins, headers
		small, large := load(sc.t, sample.Small), load(sc.t, sample.Large)
		sc.early()
		e := sc.encode(small)
		sc.flows(time.Second)
		sc.late()
		e.change(next(small, large))
		sc.flows(2 * time.Second)
		e.goodbye()
	}
}

// clockRows are about the encoder's clock.
func clockRows() []row {
	jump := func(joins int, gap, d time.Duration) func(*scene) {
		return func(sc *scene) {
			sc.joins, sc.gap = joins, gap
			sc.early()
			e := sc.encode(load(sc.t, sample.Small))
			sc.flows(time.Second)
			sc.late()
			e.jump(d)
			sc.flows(max(0, gap) + 2*time.Second)
			e.goodbye()
		}
	}
	crossing := func(edge int64) func(*scene) {
		return func(sc *scene) {
			sc.early()
			e := sc.encodeWith(load(sc.t, sample.Small), func(ms int64) int64 { return edge - 1500 + ms })
			sc.flows(time.Second)
			sc.late()
			sc.flows(2 * time.Second)
			e.goodbye()
		}
	}
	// wild plays time stamps that say nothing: what counts is when frames come.
	wild := func(stamp func(ms int64) int64) func(*scene) {
		return func(sc *scene) {
			sc.gap, sc.lasts, sc.mostJoins, sc.rough, sc.arrivals = 2*time.Second, 3*time.Second, 3, true, true
			sc.early()
			e := sc.encodeWith(load(sc.t, sample.Small), stamp)
			sc.flows(time.Second)
			sc.late()
			sc.flows(2500 * time.Millisecond)
			e.goodbye()
		}
	}
	return []row{
		{"F14 a gap of 3 s", jump(1, 3*time.Second+200*time.Millisecond, 3*time.Second)},
		{"F14 a gap of 1 h", jump(1, 0, time.Hour)},
		{"F14 a gap of 24 d", jump(1, 0, 24*24*time.Hour)},
		{"F14 an hour back", jump(1, 0, -time.Hour)},
		{"F14 300 ms back", jump(0, 0, -300*time.Millisecond)},
		{"F15 across 24 bits", crossing(1<<24 - 1)},
		{"F16 across 31 bits", crossing(1 << 31)},
		{"F16 across 32 bits", crossing(1 << 32)},
		{"F17 all times 0", wild(func(int64) int64 { return 0 })},
		{"F17 all times equal", wild(func(int64) int64 { return 5_000_000 })},
		{"F17 random times", wild(func(int64) int64 { return int64(rand.Uint32()) })},
	}
}

// trackRows are about what there is in a stream, and how often one may start.
func trackRows() []row {
	// plain plays a clip and no surprises.
	plain := func(only essence.Kind, make func(*scene) *clip) func(*scene) {
		return func(sc *scene) {
			sc.only = only
			c := make(sc)
			sc.early()
			e := sc.encode(c)
			sc.flows(1500 * time.Millisecond)
			sc.late()
			sc.flows(1500 * time.Millisecond)
			e.goodbye()
		}
	}
	return []row{
		{"F20 audio only", plain(essence.Audio, func(sc *scene) *clip { return load(sc.t, sample.Small).of(essence.Audio) })},
		{"F21 video only", plain(essence.Video, func(sc *scene) *clip { return load(sc.t, sample.Small).of(essence.Video) })},
		{"F22 no keyframe ever", plain(essence.Audio, func(sc *scene) *clip { return load(sc.t, sample.Small).without(isKey) })},
		{"F23 every frame a keyframe", func(sc *scene) {
			plain("", func(sc *scene) *clip { return load(sc.t, sample.Intra) })(sc)
			for _, v := range sc.viewers {
				v.wait(sc.t)
				if most := int(v.length/(500*time.Millisecond)) + 2; len(v.segments) > most {
					sc.t.Errorf("%v: %d segments for %v, want at most %d", v, len(v.segments), v.length, most)
				}
			}
		}},
		{"F23 one keyframe and never another, or a GOP of 600 s", func(sc *scene) {
			segmented := []*viewer{newViewer("hls", "early"), newViewer("ts", "early")} // whose first segment takes as long as one may
			for _, v := range segmented {
				v.start(sc.t, sc.s, sc.room)
			}
			sc.audience("early", "rtmp", "flv", "ws")
			e := sc.encode(load(sc.t, sample.OneKey))
			sc.flows(2 * time.Second)
			sc.audience("later", "rtmp", "flv", "ws") // the GOP is still held
			sc.flows(7 * time.Second)                 // no longer
			n := len(sc.viewers)
			sc.audience("late", "rtmp", "flv", "ws")
			sc.flows(time.Second)
			e.goodbye() // before the clip is over: it would begin with a keyframe
			for _, v := range sc.viewers[n:] {
				v.wait(sc.t)
				if units, err := v.units(); err != nil || len(units.Of(essence.Video)) > 0 || len(units.Of(essence.Audio)) == 0 {
					sc.t.Errorf("%v: %d pictures of a GOP without its beginning, %d frames of audio: %v", v, len(units.Of(essence.Video)), len(units.Of(essence.Audio)), err)
				}
			}
			sc.viewers = append(sc.viewers[:n], segmented...)
		}},
		{"F12 audio comes late", func(sc *scene) {
			sc.joins, sc.comeBack = 1, true // the start waits no longer for it than track_wait
			c := load(sc.t, sample.Small)
			sc.audience("early", "rtmp", "hls", "ts")
			ended := []*viewer{newViewer("flv", "who is ended"), newViewer("ws", "who is ended")}
			for _, v := range ended {
				sc.add(v)
			}
			e := sc.encode(c.without(func(it item) bool { return it.unit.Kind == essence.Audio && it.tag.Time < 6500 }))
			for _, v := range ended {
				v.wait(sc.t)
			}
			sc.viewers = sc.viewers[:3]
			sc.audience("late", "flv", "ws")
			sc.flows(2 * time.Second)
			e.goodbye()
		}},
		{"F12 audio goes", func(sc *scene) {
			sc.early()
			e := sc.encode(load(sc.t, sample.Small).without(func(it item) bool { return it.unit.Kind == essence.Audio && it.tag.Time > 5000 }))
			sc.flows(time.Second)
			sc.late()
			sc.flows(4 * time.Second)
			e.goodbye()
		}},
		{"F12 video goes", func(sc *scene) {
			sc.early()
			e := sc.encode(load(sc.t, sample.Small).without(func(it item) bool { return it.unit.Kind == essence.Video && it.tag.Time > 5000 }))
			sc.flows(time.Second)
			sc.late()
			sc.flows(4 * time.Second)
			e.goodbye()
		}},
		{"F22 video only, and no keyframe ever", func(sc *scene) {
			sc.early()
			e := sc.encode(load(sc.t, sample.Small).of(essence.Video).without(isKey))
			sc.audience("late", "flv", "hls", "ts")
			for _, v := range sc.viewers {
				v.wait(sc.t)
				told := map[string]string{"rtmp": "StreamNotFound", "flv": "HTTP 503", "ws": "closed by", "hls": "HTTP 503", "ts": "HTTP 503"}[v.proto]
				if v.err == nil || !strings.Contains(v.err.Error(), told) {
					sc.t.Errorf("%v: was told %v, want %s", v, v.err, told)
				}
			}
			sc.viewers = nil
			e.goodbye()
		}},
	}
}

// slowRows are about viewers that cannot take all of the stream, and must not be noticed by the others.
func slowRows() []row {
	const fewest = 60_000 // bytes a second, of a stream of four times as many
	return []row{
		{"F30 slow viewers", func(sc *scene) {
			sc.early()
			var slow []*viewer
			for _, proto := range all() {
				v := newViewer(proto, "slow")
				v.tap = newTap(wideOpen)
				slow = append(slow, v)
				sc.add(v)
			}
			e := sc.encode(load(sc.t, sample.Heavy))
			sc.flows(1500 * time.Millisecond)
			sc.viewers = sc.viewers[:len(all())]
			for _, v := range slow {
				v.tap.turn(fewest)
			}
			sc.flows(10 * time.Second) // their delay grows to more than max_latency
			for _, v := range slow {
				v.tap.turn(wideOpen)
			}
			sc.flows(2 * time.Second)
			e.goodbye()
			for _, v := range slow {
				v.wait(sc.t)
				sc.judgeSlow(v)
			}
		}},
	}
}

// viewerRows are about viewers who are not as the others, and who must not be noticed by them.
func viewerRows() []row {
	return []row{
		{"F32 half-open viewers", func(sc *scene) {
			sc.early()
			for _, proto := range all() {
				v := newViewer(proto, "half-open")
				v.tap = newTap(wideOpen)
				sc.add(v)
			}
			e := sc.encode(load(sc.t, sample.Heavy))
			sc.flows(time.Second)
			sc.awaitPlayers(2 * len(all()))
			for _, v := range sc.viewers[len(all()):] {
				v.tap.turn(0)
			}
			sc.viewers = sc.viewers[:len(all())]
			sc.awaitPlayers(len(all()))
			sc.flows(time.Second)
			e.goodbye()
		}},
		{"F35 who comes to a stream that is held", func(sc *scene) {
			sc.joins, sc.missing = 1, 30
			c := load(sc.t, sample.Small)
			sc.early()
			e := sc.encode(c)
			sc.flows(time.Second)
			e.fin()
			sc.audience("late", all()...)
			for _, v := range sc.viewers {
				v.await(sc.t, func() bool { _, ok := v.progress(); return ok })
			}
			e = sc.takeOver(c.from(10 * time.Second))
			sc.flows(2 * time.Second)
			e.goodbye()
		}},
	}
}
