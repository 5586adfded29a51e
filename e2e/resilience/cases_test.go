package resilience

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"livego/e2e/mediacompare"
	"livego/e2e/rtmp"
	"livego/e2e/sample"
)

// reconnectCases are about encoders that are lost, and others that come.
func reconnectCases() []testCase {
	// lost plays a scene in which the first encoder is lost and the next one is there.
	lost := func(lose func(*scenario, *encoder)) func(*scenario) {
		return func(sc *scenario) {
			sc.discontinuities, sc.maxMissing, sc.headers = 1, 30, 2
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			e := sc.startEncoder(c)
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			lose(sc, e)
			e = sc.takeOver(c.from(10 * time.Second))
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}
	}
	return []testCase{
		{"F04 back after FIN", lost(func(_ *scenario, e *encoder) { e.fin() })},
		{"F02 back after RST", lost(func(_ *scenario, e *encoder) { e.reset() })},
		{"F03 back after silence", lost(func(_ *scenario, e *encoder) { e.stop(); e.awaitClosed() })},
		{"F06 takeover of a half-open encoder", lost(func(_ *scenario, e *encoder) { e.stop() })},
		{"F04 back and lost again", func(sc *scenario) {
			const times = 4
			sc.discontinuities, sc.maxMissing = times, times*30
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			e := sc.startEncoder(c)
			for n := range times {
				sc.awaitProgress(300 * time.Millisecond)
				if n%2 == 0 {
					e.reset()
				} else {
					e.fin()
				}
				e = sc.takeOver(c.from(time.Duration(n+1) * 4 * time.Second))
			}
			sc.awaitProgress(time.Second)
			e.unpublish()
		}},
		{"F07 race of encoders", func(sc *scenario) {
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			e := sc.race(100)
			e.start(c)
			sc.awaitProgress(time.Second)
			if _, err := sc.tryPublish(sc.key); err == nil {
				sc.t.Error("a second encoder beside an active one")
			}
			sc.addLateViewers()
			sc.awaitProgress(time.Second)
			e.unpublish()
		}},
		{"a backup, and the main encoder again", backupCase(2, sample.Small)},
		{"a backup with another resolution", backupCase(6, sample.Large)},
		{"F05 lost for good", func(sc *scenario) {
			sc.maxMissing = 30
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			e.fin()
		}},
		{"F08 a new key", func(sc *scenario) {
			sc.discontinuities, sc.maxMissing = 1, 30
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			old := sc.startEncoder(c)
			sc.awaitProgress(time.Second)
			sc.key = sc.s.Call("/control/reset?room=" + sc.room).Text()
			old.awaitClosed()
			old.stop()
			e := sc.startEncoder(c.from(10 * time.Second))
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}},
	}
}

// backupCase plays a scene in which the main encoder falls silent, a spare one steps in, and gives
// way when another main encoder is well.
func backupCase(headers int, other sample.Sample) func(*scenario) {
	return func(sc *scenario) {
		sc.discontinuities, sc.switches, sc.headers = 2, 2, headers
		c := loadClip(sc.t, sample.Small)
		sc.addEarlyViewers()
		first := sc.startEncoder(c)
		spare := sc.startBackup(loadClip(sc.t, other).from(8 * time.Second))
		sc.awaitProgress(time.Second)
		sc.addLateViewers()
		first.stop()
		first.awaitClosed()
		sc.awaitProgress(500 * time.Millisecond)
		second := sc.startEncoder(c.from(5 * time.Second))
		sc.awaitEncoder(second)
		sc.awaitProgress(time.Second)
		spare.unpublish()
		second.unpublish()
	}
}

// parameterCases are about codec parameters that change.
func parameterCases() []testCase {
	return []testCase{
		{"F09 another resolution", clipChange(1, 3, func(small, large *clip) *clip {
			return large.of(mediacompare.Video).with(small.of(mediacompare.Audio)).from(10 * time.Second)
		})},
		{"F09 another sample rate", clipChange(1, 3, func(small, large *clip) *clip {
			return small.of(mediacompare.Video).with(large.of(mediacompare.Audio)).from(10 * time.Second)
		})},
		{"F09 both", clipChange(1, 4, func(_, large *clip) *clip { return large.from(10 * time.Second) })},
		{"F09 back with another resolution", func(sc *scenario) {
			sc.discontinuities, sc.headers, sc.maxMissing = 1, 4, 30
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			e.reset()
			e = sc.takeOver(loadClip(sc.t, sample.Large).from(10 * time.Second))
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}},
		{"back with another resolution, and sound before the picture", func(sc *scenario) {
			// The sound is for longer than a segment: no segment may have it alone, for hls.js has laid out
			// its buffers for both.
			sc.discontinuities, sc.headers, sc.maxMissing, sc.maxStep = 1, 4, 30, 950*time.Millisecond
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			e.reset()
			e = sc.takeOver(loadClip(sc.t, sample.Large).without(func(it item) bool {
				return it.tag.Time < 10400 || it.unit.Kind == mediacompare.Video && it.tag.Time < 11000
			}))
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}},
		{"F10 another codec", func(sc *scenario) {
			sc.discontinuities, sc.headers = 1, 3
			c := loadClip(sc.t, sample.Small)
			hevc := loadClip(sc.t, sample.HEVC()).with(c.of(mediacompare.Audio)).from(10 * time.Second)
			sc.addEarlyViewers()
			able, lacking, old := newViewer("rtmp", "who lists both"), newViewer("rtmp", "who lists one"),
				newViewer("flv", "who has the old form")
			able.codecs, lacking.codecs, old.query = rtmp.StrictArray{"avc1", "hvc1"}, rtmp.StrictArray{"avc1"}, legacyHEVC
			for _, v := range []*viewer{able, old, lacking} {
				sc.addViewer(v)
			}
			e := sc.startEncoder(c)
			sc.awaitProgress(time.Second)
			sc.viewers = slices.DeleteFunc(sc.viewers, func(v *viewer) bool { return v == lacking })
			sc.addLateViewers()
			e.switchClip(hevc)
			sc.awaitProgress(2 * time.Second)
			lacking.awaitEnd(sc.t)
			if err := lacking.err; !errors.Is(err, rtmp.ErrRefused) || !strings.Contains(err.Error(), "hvc1") {
				sc.t.Errorf("%v: was told %v, want which codec he lacks", lacking, err)
			}
			e.unpublish()
			old.awaitEnd(sc.t)
			if codecs := old.file(old.flvTags()).FourCCs(); len(codecs) > 0 || old.countHeaders(false) != 3 {
				sc.t.Errorf("%v: codecs %q are in FourCC form, and %d codec headers", old, codecs, old.countHeaders(false))
			}
		}},
		{"F11 the same headers again and again", func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			e.do(func() { e.repeatHeaders = true })
			sc.awaitProgress(3 * time.Second)
			e.unpublish()
			for _, v := range sc.viewers {
				v.awaitEnd(sc.t)
				if n := v.countHeaders(true); !v.segmented() && n != 2 {
					sc.t.Errorf("%v: %d codec headers, want each once", v, n)
				}
			}
		}},
	}
}

// clipChange plays a scene in which the encoder goes on with another clip on its connection.
func clipChange(joins, headers int, next func(small, large *clip) *clip) func(*scenario) {
	return func(sc *scenario) {
		sc.discontinuities, sc.headers = joins, headers
		small, large := loadClip(sc.t, sample.Small), loadClip(sc.t, sample.Large)
		sc.addEarlyViewers()
		e := sc.startEncoder(small)
		sc.awaitProgress(time.Second)
		sc.addLateViewers()
		e.switchClip(next(small, large))
		sc.awaitProgress(2 * time.Second)
		e.unpublish()
	}
}

// clockCases are about the encoder's clock.
func clockCases() []testCase {
	jump := func(joins int, gap, d time.Duration) func(*scenario) {
		return func(sc *scenario) {
			sc.discontinuities, sc.maxStep = joins, gap
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			e.shiftClock(d)
			sc.awaitProgress(max(0, gap) + 2*time.Second)
			e.unpublish()
		}
	}
	crossing := func(edge int64) func(*scenario) {
		return func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoderWith(loadClip(sc.t, sample.Small), func(ms int64) int64 { return edge - 1500 + ms })
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}
	}
	// wild plays time stamps that say nothing: what counts is when frames come.
	wild := func(stamp func(ms int64) int64) func(*scenario) {
		return func(sc *scenario) {
			sc.maxStep, sc.minDuration, sc.maxDiscontinuities, sc.unaligned, sc.timedByArrival = 2*time.Second, 3*time.Second, 3,
				true, true
			sc.addEarlyViewers()
			e := sc.startEncoderWith(loadClip(sc.t, sample.Small), stamp)
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			sc.awaitProgress(2500 * time.Millisecond)
			e.unpublish()
		}
	}
	return []testCase{
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

// trackCases are about what there is in a stream, and how often one may start.
func trackCases() []testCase {
	// plain plays a clip and no surprises.
	plain := func(only mediacompare.Kind, make func(*scenario) *clip) func(*scenario) {
		return func(sc *scenario) {
			sc.onlyKind = only
			c := make(sc)
			sc.addEarlyViewers()
			e := sc.startEncoder(c)
			sc.awaitProgress(1500 * time.Millisecond)
			sc.addLateViewers()
			sc.awaitProgress(1500 * time.Millisecond)
			e.unpublish()
		}
	}
	return []testCase{
		{"F20 audio only", plain(mediacompare.Audio,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).of(mediacompare.Audio) })},
		{"F21 video only", plain(mediacompare.Video,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).of(mediacompare.Video) })},
		{"F22 no keyframe ever", plain(mediacompare.Audio,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).without(isKey) })},
		{"F23 every frame a keyframe", func(sc *scenario) {
			plain("", func(sc *scenario) *clip { return loadClip(sc.t, sample.IntraOnly) })(sc)
			for _, v := range sc.viewers {
				v.awaitEnd(sc.t)
				if most := int(v.duration/(500*time.Millisecond)) + 2; len(v.segments) > most {
					sc.t.Errorf("%v: %d segments for %v, want at most %d", v, len(v.segments), v.duration, most)
				}
			}
		}},
		{"F23 one keyframe and never another, or a GOP of 600 s", func(sc *scenario) {
			// whose first segment takes as long as one may
			segmented := []*viewer{newViewer("hls", "early"), newViewer("ts", "early")}
			for _, v := range segmented {
				v.start(sc.t, sc.s, sc.room)
			}
			sc.addViewers("early", "rtmp", "flv", "ws")
			e := sc.startEncoder(loadClip(sc.t, sample.OneKeyframe))
			sc.awaitProgress(2 * time.Second)
			sc.addViewers("later", "rtmp", "flv", "ws") // the GOP is still held
			sc.awaitProgress(7 * time.Second)           // no longer
			n := len(sc.viewers)
			sc.addViewers("late", "rtmp", "flv", "ws")
			sc.awaitProgress(time.Second)
			e.unpublish() // before the clip is over: it would begin with a keyframe
			for _, v := range sc.viewers[n:] {
				v.awaitEnd(sc.t)
				if units, err := v.frames(); err != nil || len(units.Of(mediacompare.Video)) > 0 ||
					len(units.Of(mediacompare.Audio)) == 0 {
					sc.t.Errorf("%v: %d pictures of a GOP without its beginning, %d frames of audio: %v", v,
						len(units.Of(mediacompare.Video)), len(units.Of(mediacompare.Audio)), err)
				}
			}
			sc.viewers = append(sc.viewers[:n], segmented...)
		}},
		{"F12 audio comes late", func(sc *scenario) {
			sc.discontinuities, sc.flvReconnects = 1, true // the start waits no longer for it than track_wait
			c := loadClip(sc.t, sample.Small)
			sc.addViewers("early", "rtmp", "hls", "ts")
			ended := []*viewer{newViewer("flv", "who is ended"), newViewer("ws", "who is ended")}
			for _, v := range ended {
				sc.addViewer(v)
			}
			e := sc.startEncoder(c.without(func(it item) bool {
				return it.unit.Kind == mediacompare.Audio &&
					it.tag.Time < 6500
			}))
			for _, v := range ended {
				v.awaitEnd(sc.t)
			}
			sc.viewers = sc.viewers[:3]
			sc.addViewers("late", "flv", "ws")
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}},
		{"F12 audio goes", func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t,
				sample.Small).without(func(it item) bool { return it.unit.Kind == mediacompare.Audio && it.tag.Time > 5000 }))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			sc.awaitProgress(4 * time.Second)
			e.unpublish()
		}},
		{"F12 video goes", func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t,
				sample.Small).without(func(it item) bool { return it.unit.Kind == mediacompare.Video && it.tag.Time > 5000 }))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			sc.awaitProgress(4 * time.Second)
			e.unpublish()
		}},
		{"F22 video only, and no keyframe ever", func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small).of(mediacompare.Video).without(isKey))
			sc.addViewers("late", "flv", "hls", "ts")
			for _, v := range sc.viewers {
				v.awaitEnd(sc.t)
				told := map[string]string{"rtmp": "StreamNotFound", "flv": "HTTP 503", "ws": "closed by", "hls": "HTTP 503",
					"ts": "HTTP 503"}[v.proto]
				if v.err == nil || !strings.Contains(v.err.Error(), told) {
					sc.t.Errorf("%v: was told %v, want %s", v, v.err, told)
				}
			}
			sc.viewers = nil
			e.unpublish()
		}},
	}
}

// slowViewerCases are about viewers that cannot take all of the stream, and must not be noticed by the others.
func slowViewerCases() []testCase {
	const fewest = 60_000 // bytes a second, of a stream of four times as many
	return []testCase{
		{"F30 slow viewers", func(sc *scenario) {
			sc.addEarlyViewers()
			var slow []*viewer
			for _, proto := range allProtocols() {
				v := newViewer(proto, "slow")
				v.throttle = newThrottle(unlimited)
				slow = append(slow, v)
				sc.addViewer(v)
			}
			e := sc.startEncoder(loadClip(sc.t, sample.HighBitrate))
			sc.awaitProgress(1500 * time.Millisecond)
			sc.viewers = sc.viewers[:len(allProtocols())]
			for _, v := range slow {
				v.throttle.setRate(fewest)
			}
			sc.awaitProgress(10 * time.Second) // their delay grows to more than max_latency
			for _, v := range slow {
				v.throttle.setRate(unlimited)
			}
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
			for _, v := range slow {
				v.awaitEnd(sc.t)
				sc.checkSlowViewer(v)
			}
		}},
	}
}

// viewerCases are about viewers who are not as the others, and who must not be noticed by them.
func viewerCases() []testCase {
	return []testCase{
		{"F32 half-open viewers", func(sc *scenario) {
			sc.addEarlyViewers()
			for _, proto := range allProtocols() {
				v := newViewer(proto, "half-open")
				v.throttle = newThrottle(unlimited)
				sc.addViewer(v)
			}
			e := sc.startEncoder(loadClip(sc.t, sample.HighBitrate))
			sc.awaitProgress(time.Second)
			sc.awaitPlayers(2 * len(allProtocols()))
			for _, v := range sc.viewers[len(allProtocols()):] {
				v.throttle.setRate(0)
			}
			sc.viewers = sc.viewers[:len(allProtocols())]
			sc.awaitPlayers(len(allProtocols()))
			sc.awaitProgress(time.Second)
			e.unpublish()
		}},
		{"F35 who comes to a stream that is held", func(sc *scenario) {
			sc.discontinuities, sc.maxMissing = 1, 30
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			e := sc.startEncoder(c)
			sc.awaitProgress(time.Second)
			e.fin()
			sc.addViewers("late", allProtocols()...)
			for _, v := range sc.viewers {
				v.await(sc.t, func() bool { _, ok := v.progress(); return ok })
			}
			e = sc.takeOver(c.from(10 * time.Second))
			sc.awaitProgress(2 * time.Second)
			e.unpublish()
		}},
	}
}
