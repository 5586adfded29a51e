package rtmp

import "testing"

// TestAggregateMemoryIsReleased has a frame kept of an aggregate that is large otherwise: the rest
// must not stay in memory with it.
func TestAggregateMemoryIsReleased(t *testing.T) {
	body := append([]byte{TypeAudio, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a', 0, 0, 0, 12}, make([]byte, 0, 1<<20)...)
	a, err := splitAggregate(Message{Type: typeAggregate, Payload: body})
	if err != nil {
		t.Fatal(err)
	}
	m, ok := a.next(func(string) {})
	if !ok || string(m.Payload) != "a" {
		t.Fatalf("%v, %v", m, ok)
	}
	if &m.Payload[0] == &body[11] {
		t.Error("the message lies in the aggregate's memory")
	}
	if _, more := a.next(func(string) {}); more || a.rest != nil {
		t.Errorf("%d bytes are kept of an aggregate that has been read", cap(a.rest))
	}
}
