package rtmp

import "testing"

// TestAggregateMemoryIsReleased keeps one frame of a large aggregate: the memory of the aggregate
// must not stay with it.
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
		t.Error("the message refers to the aggregate's memory")
	}
	if _, more := a.next(func(string) {}); more || a.rest != nil {
		t.Errorf("%d bytes of a finished aggregate are kept", cap(a.rest))
	}
}
