package stream

import (
	"errors"
	"slices"
)

// Errors of a Subscriber with SubscribeOptions.Every.
var (
	// ErrMark means that a Mark comes before the next frame: Subscriber.Mark returns it.
	ErrMark = errors.New("stream: a mark comes before the next frame")
	// ErrMissed means that the ring has dropped frames before they were read. The Subscriber gets
	// nothing until Seek.
	ErrMissed = errors.New("stream: frames were dropped before they were read")
)

// MarkKind is what a Mark says.
type MarkKind uint8

// Kinds of marks.
const (
	Paused     MarkKind = iota + 1 // the encoder is away; frames that follow are not continuous
	Continued                      // another publisher has attached after Paused
	Noted                          // a consumer of the session has added Value: see Session.Note
	Restarting                     // a replica has another connection, and gets a state as of Restarted
	Restarted                      // Value is the state of a consumer at the owner, which continues from it
)

// A Mark is something that happened between two frames of a session.
type Mark struct {
	Seq   uint64 // of the frame after it
	Kind  MarkKind
	Value any // shared: do not modify
}

// marks are those of a session that are not older than its ring. stream.mu guards them.
type marks struct {
	list    []Mark
	dropped uint64 // number of marks before list
	readers int    // subscribers that get Noted marks

	restarts uint64 // number of Restarting and Restarted marks
	restart  Mark   // the newest of them
}

// A markReader is what a Subscriber of every frame has more than another: its position in the marks of
// its session, and the frames that it keeps.
type markReader struct {
	keeps    bool // the frames from kept on
	kept     uint64
	notes    bool   // it gets Noted marks
	next     uint64 // number of the next mark
	restarts uint64 // number of Restarting and Restarted marks that it got
}

// getsNotes reports whether s gets Noted marks.
func (s *Subscriber) getsNotes() bool { return s.every != nil && s.every.notes }

// maxMarks is how many marks a session keeps at most: an owner may send any number between two frames.
const maxMarks = 1 << 12

// add appends m, and drops marks before the frame tail, and the oldest beyond maxMarks.
func (ms *marks) add(m Mark, tail uint64) {
	old, _ := slices.BinarySearchFunc(ms.list, tail, func(m Mark, seq uint64) int {
		if m.Seq < seq {
			return -1
		}
		return 1
	})
	old = max(old, len(ms.list)-maxMarks+1)
	ms.list = append(slices.Clone(ms.list[old:]), m)
	ms.dropped += uint64(old)
}

// from returns the number of the oldest mark at the frame seq or later.
func (ms *marks) from(seq uint64) uint64 {
	n := ms.dropped + uint64(len(ms.list))
	for n > ms.dropped && ms.list[n-1-ms.dropped].Seq >= seq {
		n--
	}
	return n
}

// next returns the mark with the number n or the oldest one after it, without those of kinds that a
// reader does not get; false if there is none.
func (ms *marks) next(n uint64, notes bool) (number uint64, m Mark, ok bool) {
	for n = max(n, ms.dropped); n < ms.dropped+uint64(len(ms.list)); n++ {
		if m := ms.list[n-ms.dropped]; notes || m.Kind != Noted {
			return n, m, true
		}
	}
	return n, Mark{}, false
}

// paused reports whether the newest mark but notes is Paused, and no frame has come since. The caller
// holds s.mu.
func (s *stream) paused() bool {
	for _, m := range slices.Backward(s.marks.list) {
		if m.Kind != Noted {
			return m.Kind == Paused && m.Seq == s.ring.head
		}
	}
	return false
}

// addMark adds a mark before the next frame, and wakes the readers that get it. The caller holds s.mu.
func (s *stream) addMark(k MarkKind, value any) {
	s.marks.add(Mark{s.ring.head, k, value}, s.ring.tail)
	s.wakeMarkReaders()
}

// wakeMarkReaders wakes the readers that get marks. The caller holds s.mu.
func (s *stream) wakeMarkReaders() {
	for _, r := range s.readers {
		if r.every != nil {
			r.wakeUp()
		}
	}
	s.deferred.fire()
}

// Pause marks that the session is paused: s has read all frames, there is no publisher, and what comes
// next will not be continuous. It reports whether it did. A session is paused once until the next
// frame, and only by the node that owns it.
func (s *Subscriber) Pause() bool {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.published() || st.replica != nil || st.ended != nil || s.cursor != st.ring.head || st.paused() {
		return false
	}
	st.addMark(Paused, nil)
	return true
}

// Note adds a Noted mark before the next frame of the stream, if there is a reader of such marks and the
// session has not ended.
func (s *Subscriber) Note(value any) {
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.marks.readers > 0 && st.ended == nil {
		st.addMark(Noted, value)
	}
}

// restart adds a mark that readers get at once. The caller holds s.mu.
func (s *stream) restart(k MarkKind, value any) {
	s.marks.restarts++
	s.marks.restart = Mark{Kind: k, Value: value}
	s.wakeMarkReaders()
}

// Mark returns the mark before the next frame, once; false if there is none.
func (s *Subscriber) Mark() (Mark, bool) {
	st := s.s
	st.mu.RLock()
	defer st.mu.RUnlock()
	if s.every.restarts != st.marks.restarts {
		s.every.restarts = st.marks.restarts
		return st.marks.restart, true
	}
	n, m, ok := st.marks.next(s.every.next, s.every.notes)
	if ok && m.Seq == s.cursor {
		s.every.next = n + 1
		return m, true
	}
	return Mark{}, false
}

// Seek makes the frame seq the next one that s, which gets every frame, reads, and the marks before it
// the next ones.
func (s *Subscriber) Seek(seq uint64) {
	st := s.s
	st.mu.RLock()
	defer st.mu.RUnlock()
	s.positioned, s.cursor, s.every.next = true, seq, st.marks.from(seq)
}

// SeekStart makes the gopsth newest random access point of the default video track the next frame that
// s reads, or the oldest one; without one, or if gops is 0, the next frame that comes.
func (s *Subscriber) SeekStart(gops int) {
	s.s.mu.RLock()
	defer s.s.mu.RUnlock()
	s.gops = gops
	s.seekStart(s.s)
}

// Position returns the Seq of the next frame that s reads.
func (s *Subscriber) Position() uint64 { return s.cursor }

// limitEvery returns how far a reader of every frame may read now: up to the next mark. The caller
// holds stream.mu.
func (s *Subscriber) limitEvery() (limit uint64, mark bool, err error) {
	r := &s.s.ring
	switch {
	case s.every.restarts != s.s.marks.restarts:
		return s.cursor, true, nil
	case s.cursor < r.tail:
		return s.cursor, false, ErrMissed
	}
	if _, m, ok := s.s.marks.next(s.every.next, s.every.notes); ok && m.Seq <= r.head {
		return m.Seq, m.Seq <= s.cursor, nil
	}
	return r.head, false, nil
}

// Keep makes the ring keep the frames from seq on, also beyond its limits, up to twice its limit of bytes,
// until s keeps others or leaves. s gets every frame.
func (s *Subscriber) Keep(seq uint64) {
	if s.every.keeps && s.every.kept == seq { // only s writes them
		return
	}
	st := s.s
	st.mu.Lock()
	defer st.mu.Unlock()
	s.every.keeps, s.every.kept = true, seq
	st.updatePin()
}

// Has reports whether the ring has the frame seq, or seq is the next one.
func (s *Subscriber) Has(seq uint64) bool {
	s.s.mu.RLock()
	defer s.s.mu.RUnlock()
	return seq >= s.s.ring.tail && seq <= s.s.ring.head
}
