package rtmp

import (
	"errors"
	"io"
	"math"

	"livego/internal/container/amf0"
)

// A command is an AMF0 command message (§7.2). Arguments are decoded on demand; anything after the
// last one that is needed is ignored.
type command struct {
	name     string
	id       float64 // transaction ID; 0 if no reply is expected
	streamID uint32
	args     *amf0.Decoder
}

func parseCommand(m Message) (command, error) {
	c := command{streamID: m.StreamID, args: amf0.NewDecoder(m.Payload)}
	v, err := c.arg()
	if err != nil {
		return c, err
	}
	var ok bool
	if c.name, ok = v.(string); !ok || c.name == "" {
		return c, &ProtocolError{"command", "invalid command: no name"}
	}
	if v, err = c.arg(); err != nil {
		return c, err
	}
	c.id = numberOrZero(v)
	return c, nil
}

// arg returns the next argument, nil if there is none.
func (c command) arg() (any, error) {
	v, err := c.args.Next()
	switch {
	case err == io.EOF:
		return nil, nil
	case errors.Is(err, amf0.ErrLimit):
		return nil, &ProtocolError{"limit", err.Error()}
	case err != nil:
		return nil, &ProtocolError{"amf", err.Error()}
	}
	return v, nil
}

// number skips arguments and returns the next one as numberOrZero does.
func (c command) number(skip int) (float64, error) {
	for range skip {
		if _, err := c.arg(); err != nil {
			return 0, err
		}
	}
	v, err := c.arg()
	return numberOrZero(v), err
}

// numberOrZero returns v if it is a finite number of at least -2, the lowest value with a meaning,
// and 0 otherwise.
func numberOrZero(v any) float64 {
	f, ok := v.(float64)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) || f < -2 {
		return 0
	}
	return f
}

// newCommand returns a command message with these values.
func newCommand(streamID uint32, values ...any) Message {
	return Message{Type: typeCommand, StreamID: streamID, Payload: amf0.Append(nil, values...)}
}

// onStatus returns an onStatus message (§7.2.2) with the level "status" or "error".
func onStatus(streamID uint32, level, code, description string) Message {
	return newCommand(streamID, "onStatus", 0, nil, status(level, code, description))
}

func status(level, code, description string) amf0.Object {
	return amf0.Object{{Key: "level", Value: level}, {Key: "code", Value: code}, {Key: "description", Value: description}}
}
