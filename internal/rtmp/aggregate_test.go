package rtmp

import "testing"

// TestAggregateIsLetGo has a frame kept of an aggregate that is large otherwise: the rest must not stay in memory with it.
func TestAggregateIsLetGo(t *testing.T) {
	body := append([]byte{TypeAudio, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a', 0, 0, 0, 12}, make([]byte, 0, 1<<20)...)
	c := newConn(nil, Options{})
	ms, err := c.splitAggregate(Message{Type: typeAggregate, Payload: body})
	if err != nil || len(ms) != 1 || string(ms[0].Payload) != "a" {
		t.Fatalf("%v, %v", ms, err)
	}
	if &ms[0].Payload[0] == &body[11] {
		t.Error("the message lies in the aggregate's memory")
	}
}
