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

// reconnectCases are about encoders that are lost and replaced.
func reconnectCases() []testCase {
	// lost runs a scenario in which the first encoder is lost and the next one takes over.
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
		{"reconnect after FIN", lost(func(_ *scenario, e *encoder) { e.fin() })},
		{"reconnect after RST", lost(func(_ *scenario, e *encoder) { e.reset() })},
		{"reconnect after read timeout", lost(func(_ *scenario, e *encoder) { e.stop(); e.awaitClosed() })},
		{"takeover of a half-open encoder", lost(func(_ *scenario, e *encoder) { e.stop() })},
		{"repeated reconnects", func(sc *scenario) {
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
		{"racing encoders", func(sc *scenario) {
			c := loadClip(sc.t, sample.Small)
			sc.addEarlyViewers()
			e := sc.race(100)
			e.start(c)
			sc.awaitProgress(time.Second)
			if _, err := sc.tryPublish(sc.key); err == nil {
				sc.t.Error("a second encoder could publish beside an active one")
			}
			sc.addLateViewers()
			sc.awaitProgress(time.Second)
			e.unpublish()
		}},
		{"backup takes over and primary returns", backupCase(2, sample.Small)},
		{"backup with another resolution", backupCase(6, sample.Large)},
		{"encoder does not return", func(sc *scenario) {
			sc.maxMissing = 30
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small))
			sc.awaitProgress(time.Second)
			sc.addLateViewers()
			e.fin()
		}},
		{"key reset", func(sc *scenario) {
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

// backupCase runs a scenario in which the primary encoder becomes idle, a backup takes over, and a
// new primary encoder takes over from that.
func backupCase(headers int, other sample.Sample) func(*scenario) {
	return func(sc *scenario) {
		sc.discontinuities, sc.switches, sc.headers = 2, 2, headers
		c := loadClip(sc.t, sample.Small)
		sc.addEarlyViewers()
		first := sc.startEncoder(c)
		backup := sc.startBackup(loadClip(sc.t, other).from(8 * time.Second))
		sc.awaitProgress(time.Second)
		sc.addLateViewers()
		first.stop()
		first.awaitClosed()
		sc.awaitProgress(500 * time.Millisecond)
		second := sc.startEncoder(c.from(5 * time.Second))
		sc.awaitEncoder(second)
		sc.awaitProgress(time.Second)
		backup.unpublish()
		second.unpublish()
	}
}

// parameterCases are about changes of codec parameters.
func parameterCases() []testCase {
	return []testCase{
		{"resolution changes", clipChange(1, 3, func(small, large *clip) *clip {
			return large.of(mediacompare.Video).with(small.of(mediacompare.Audio)).from(10 * time.Second)
		})},
		{"sample rate changes", clipChange(1, 3, func(small, large *clip) *clip {
			return small.of(mediacompare.Video).with(large.of(mediacompare.Audio)).from(10 * time.Second)
		})},
		{"resolution and sample rate change",
			clipChange(1, 4, func(_, large *clip) *clip { return large.from(10 * time.Second) })},
		{"reconnect with another resolution", func(sc *scenario) {
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
		{"reconnect with another resolution and audio first", func(sc *scenario) {
			// The audio is longer than a segment. No segment may have audio only, because hls.js
			// has created buffers for both.
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
		{"codec changes", func(sc *scenario) {
			sc.discontinuities, sc.headers = 1, 3
			c := loadClip(sc.t, sample.Small)
			hevc := loadClip(sc.t, sample.HEVC()).with(c.of(mediacompare.Audio)).from(10 * time.Second)
			sc.addEarlyViewers()
			able, lacking, old := newViewer("rtmp", "lists both codecs"), newViewer("rtmp", "lists one codec"),
				newViewer("flv", "legacy form")
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
				sc.t.Errorf("%v: error %v, want the missing codec", lacking, err)
			}
			e.unpublish()
			old.awaitEnd(sc.t)
			if codecs := old.file(old.flvTags()).FourCCs(); len(codecs) > 0 || old.countHeaders(false) != 3 {
				sc.t.Errorf("%v: codecs %q are in FourCC form, and %d codec headers", old, codecs, old.countHeaders(false))
			}
		}},
		{"repeated codec headers", func(sc *scenario) {
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

// clipChange runs a scenario in which the encoder continues with another clip on its connection.
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
	// unreliable runs a scenario with meaningless timestamps: the arrival times of frames count.
	unreliable := func(stamp func(ms int64) int64) func(*scenario) {
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
		{"clock jumps 3 s forward", jump(1, 3*time.Second+200*time.Millisecond, 3*time.Second)},
		{"clock jumps 1 h forward", jump(1, 0, time.Hour)},
		{"clock jumps 24 d forward", jump(1, 0, 24*24*time.Hour)},
		{"clock jumps 1 h back", jump(1, 0, -time.Hour)},
		{"clock jumps 300 ms back", jump(0, 0, -300*time.Millisecond)},
		{"timestamps cross 24 bits", crossing(1<<24 - 1)},
		{"timestamps cross 31 bits", crossing(1 << 31)},
		{"timestamps cross 32 bits", crossing(1 << 32)},
		{"all timestamps are 0", unreliable(func(int64) int64 { return 0 })},
		{"all timestamps are equal", unreliable(func(int64) int64 { return 5_000_000 })},
		{"random timestamps", unreliable(func(int64) int64 { return int64(rand.Uint32()) })},
	}
}

// stopTrack has an encoder stop to send its track of that kind after five seconds.
func (sc *scenario) stopTrack(kind mediacompare.Kind) {
	sc.addEarlyViewers()
	e := sc.startEncoder(loadClip(sc.t, sample.Small).without(func(it item) bool {
		return it.unit.Kind == kind && it.tag.Time > 5000
	}))
	sc.awaitProgress(time.Second)
	sc.addLateViewers()
	sc.awaitProgress(4 * time.Second)
	e.unpublish()
}

// trackCases are about the tracks of a stream and its keyframes.
func trackCases() []testCase {
	// plain runs a scenario without any failure.
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
		{"audio only", plain(mediacompare.Audio,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).of(mediacompare.Audio) })},
		{"video only", plain(mediacompare.Video,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).of(mediacompare.Video) })},
		{"no keyframe", plain(mediacompare.Audio,
			func(sc *scenario) *clip { return loadClip(sc.t, sample.Small).without(isKey) })},
		{"every frame a keyframe", func(sc *scenario) {
			plain("", func(sc *scenario) *clip { return loadClip(sc.t, sample.IntraOnly) })(sc)
			for _, v := range sc.viewers {
				v.awaitEnd(sc.t)
				if most := int(v.duration/(500*time.Millisecond)) + 2; len(v.segments) > most {
					sc.t.Errorf("%v: %d segments for %v, want at most %d", v, len(v.segments), v.duration, most)
				}
			}
		}},
		{"only one keyframe", func(sc *scenario) {
			// Their first segment has the maximum duration.
			segmented := []*viewer{newViewer("hls", "early"), newViewer("ts", "early")}
			for _, v := range segmented {
				v.start(sc.t, sc.viewersAt, sc.room)
			}
			sc.addViewers("early", "rtmp", "flv", "ws")
			e := sc.startEncoder(loadClip(sc.t, sample.OneKeyframe))
			sc.awaitProgress(2 * time.Second)
			sc.addViewers("later", "rtmp", "flv", "ws") // the start-up cache has the GOP
			sc.awaitProgress(7 * time.Second)           // the GOP is dropped from the cache
			n := len(sc.viewers)
			sc.addViewers("late", "rtmp", "flv", "ws")
			sc.awaitProgress(time.Second)
			e.unpublish() // before the clip repeats, with a keyframe
			for _, v := range sc.viewers[n:] {
				v.awaitEnd(sc.t)
				if units, err := v.frames(); err != nil || len(units.Of(mediacompare.Video)) > 0 ||
					len(units.Of(mediacompare.Audio)) == 0 {
					sc.t.Errorf("%v: %d pictures of a GOP without its keyframe, %d frames of audio: %v", v,
						len(units.Of(mediacompare.Video)), len(units.Of(mediacompare.Audio)), err)
				}
			}
			sc.viewers = append(sc.viewers[:n], segmented...)
		}},
		{"audio starts late", func(sc *scenario) {
			// The start waits for audio for track_wait at most.
			sc.discontinuities, sc.flvReconnects = 1, true
			c := loadClip(sc.t, sample.Small)
			sc.addViewers("early", "rtmp", "hls", "ts")
			ended := []*viewer{newViewer("flv", "ended"), newViewer("ws", "ended")}
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
		{"audio stops", func(sc *scenario) { sc.stopTrack(mediacompare.Audio) }},
		{"video stops", func(sc *scenario) { sc.stopTrack(mediacompare.Video) }},
		{"video only without keyframe", func(sc *scenario) {
			sc.addEarlyViewers()
			e := sc.startEncoder(loadClip(sc.t, sample.Small).of(mediacompare.Video).without(isKey))
			sc.addViewers("late", "flv", "hls", "ts")
			for _, v := range sc.viewers {
				v.awaitEnd(sc.t)
				want := map[string]string{"rtmp": "StreamNotFound", "flv": "HTTP 503", "ws": "closed by", "hls": "HTTP 503",
					"ts": "HTTP 503"}[v.proto]
				if v.err == nil || !strings.Contains(v.err.Error(), want) {
					sc.t.Errorf("%v: error %v, want %s", v, v.err, want)
				}
			}
			sc.viewers = nil
			e.unpublish()
		}},
	}
}

// slowViewerCases are about viewers slower than the stream. Other viewers must not be affected.
func slowViewerCases() []testCase {
	const fewest = 60_000 // bytes per second; the stream has four times as many
	return []testCase{
		{"slow viewers", func(sc *scenario) {
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
			sc.awaitProgress(10 * time.Second) // their delay exceeds max_latency
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

// viewerCases are about unusual viewers. Other viewers must not be affected.
func viewerCases() []testCase {
	return []testCase{
		{"half-open viewers", func(sc *scenario) {
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
		{"viewers join a held stream", func(sc *scenario) {
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
