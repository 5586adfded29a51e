package rtmp

import (
	"strings"

	"livego/internal/container/amf0"
)

// handle handles one command. It returns a Request for a valid publish or play, and ErrStreamEnded
// when the command ends the stream. A second connect, publish or play is refused, and the first
// stays in effect.
func (c *ServerConn) handle(cmd command) (*Request, error) {
	if c.peer == nil && cmd.name != "connect" {
		return nil, c.refuseCall(cmd, "NetConnection.Connect.Failed", "the first command must be connect")
	}
	switch cmd.name {
	case "connect":
		return nil, c.connect(cmd)
	case "createStream":
		return nil, c.createStream(cmd)
	case "publish":
		return c.publish(cmd)
	case "play":
		return c.request(cmd, "NetStream.Play.StreamNotFound")
	case "deleteStream":
		return nil, c.deleteStream(cmd)
	case "closeStream":
		if c.req != nil && cmd.streamID == c.req.StreamID {
			return nil, c.endStream()
		}
		return nil, nil
	case "FCUnpublish":
		if c.req != nil && c.req.Publish {
			return nil, c.endStream()
		}
		return nil, c.result(cmd)
	case "FCPublish":
		c.fcPublish = true
		return nil, c.result(cmd)
	case "FCSubscribe": // rtmpdump --subscribe waits for the reply before it plays
		return nil, c.send(newCommand(0, "onFCSubscribe", 0, nil, status("status", "NetStream.Play.Start", "Subscribed.")))
	case "releaseStream", "_checkbw", "checkBandwidth":
		return nil, c.result(cmd)
	case "getStreamLength": // a live stream has none
		return nil, c.result(cmd, 0)
	case "pause":
		return nil, c.pause(cmd)
	case "seek": // with the level "error", ffmpeg would end
		return nil, c.send(onStatus(cmd.streamID, "status", "NetStream.Seek.Failed",
			"seek is not supported on a live stream"))
	case "_result", "_error", "onStatus":
		return nil, nil
	}
	c.opt.SkipCount("command")
	if cmd.id == 0 {
		return nil, nil
	}
	return nil, c.send(errorOf(cmd, "NetConnection.Call.Failed", "unknown command"))
}

func (c *ServerConn) connect(cmd command) error {
	if c.peer != nil {
		return c.send(errorOf(cmd, "NetConnection.Connect.Rejected", "already connected"))
	}
	v, err := cmd.arg()
	if err != nil {
		return err
	}
	object, ok := v.(amf0.Object)
	if !ok {
		return c.refuseCall(cmd, "NetConnection.Connect.Rejected", "invalid connect: no command object")
	}
	peer, err := parseConnect(object)
	if err != nil {
		return c.refuseCall(cmd, "NetConnection.Connect.Rejected", err.Error())
	}
	if peer.req.App == "" {
		return c.refuseCall(cmd, "NetConnection.Connect.Rejected",
			"invalid connect: no app in the URL, use rtmp://host/app/name")
	}
	if c.opt.CheckApp != nil {
		if err := c.opt.CheckApp(peer.req.App); err != nil {
			return c.refuseCall(cmd, "NetConnection.Connect.InvalidApp", err.Error())
		}
	}
	c.peer = peer

	facts := amf0.Object{{Key: "fmsVer", Value: "FMS/3,0,1,123"}, {Key: "capabilities", Value: 31}}
	if peer.req.enhanced() {
		facts = append(facts, capabilities(CapsReconnect|CapsMultitrack|CapsModEx|CapsTimestampOffset)...)
	}
	info := append(status("status", "NetConnection.Connect.Success", "Connection succeeded."),
		amf0.Pair{Key: "objectEncoding", Value: 0})
	bandwidth := control(typePeerBandwidth, window)
	bandwidth.Payload = append(bandwidth.Payload, 2) // limit type dynamic, §5.4.5
	return c.send(control(typeWindowAck, window), bandwidth, newCommand(0, "_result", cmd.id, facts, info))
}

// capabilities returns what livego announces for Enhanced RTMP, as server and as client: it
// forwards any codec, and decodes or encodes none.
func capabilities(caps Caps) amf0.Object {
	return amf0.Object{
		{Key: "capsEx", Value: int(caps)},
		{Key: "fourCcList", Value: []any{"*"}},
		{Key: "videoFourCcInfoMap", Value: amf0.Object{{Key: "*", Value: canForward}}},
		{Key: "audioFourCcInfoMap", Value: amf0.Object{{Key: "*", Value: canForward}}},
	}
}

func (c *ServerConn) createStream(cmd command) error {
	for id := 1; id <= maxStreams; id++ {
		if !c.streams[id] {
			c.streams[id] = true
			return c.result(cmd, id)
		}
	}
	return c.send(errorOf(cmd, "NetConnection.Call.Failed", "too many streams on this connection"))
}

func (c *ServerConn) deleteStream(cmd command) error {
	id, err := cmd.number(1)
	if err != nil {
		return err
	}
	if id < 1 || id > maxStreams || !c.streams[int(id)] {
		c.opt.SkipCount("message_stream")
		return nil
	}
	c.streams[int(id)] = false
	if c.req != nil && uint32(id) == c.req.StreamID {
		return c.endStream()
	}
	return nil
}

func (c *ServerConn) publish(cmd command) (*Request, error) {
	req, err := c.request(cmd, "NetStream.Publish.BadName")
	if req != nil {
		req.Publish = true
	}
	return req, err
}

// request reads the common arguments of publish and play. If it returns no Request, the client has
// been refused; code is used if the stream name is the reason.
func (c *ServerConn) request(cmd command, code string) (*Request, error) {
	if c.req != nil {
		return nil, c.refuse(onStatus(cmd.streamID, "error", code, "the connection already has a stream"), nil)
	}
	if _, err := cmd.arg(); err != nil { // null, where connect has its object
		return nil, err
	}
	v, err := cmd.arg()
	if err != nil {
		return nil, err
	}
	name, _ := v.(string)
	name, query, _ := strings.Cut(name, "?")
	problem := ""
	switch {
	case cmd.streamID == 0 || cmd.streamID > maxStreams || !c.streams[cmd.streamID]:
		problem = "invalid stream ID: call createStream first"
	case name == "":
		problem = "no stream name in the URL: use rtmp://host/app/name"
	default:
		if err := c.peer.addQuery(query); err != nil {
			problem = err.Error()
		}
	}
	if problem != "" {
		return nil, c.refuse(onStatus(cmd.streamID, "error", code, problem), &StatusError{code, problem})
	}
	req := c.peer.req
	req.Name = strings.Clone(name) // it refers to the memory of a message
	req.StreamID = cmd.streamID
	req.Query = c.peer.params.Encode()
	req.Token = c.peer.params.Get("token")
	c.peer.params = nil // a second request is refused
	return &req, nil
}

func (c *ServerConn) pause(cmd command) error {
	if _, err := cmd.arg(); err != nil {
		return err
	}
	v, err := cmd.arg()
	if err != nil {
		return err
	}
	code, text := "NetStream.Unpause.Notify", "Playing."
	if on, _ := v.(bool); on {
		code, text = "NetStream.Pause.Notify", "A live stream continues during a pause."
	}
	return c.send(onStatus(cmd.streamID, "status", code, text))
}

// endStream confirms the end of the stream. Most clients have closed the connection already.
func (c *ServerConn) endStream() error {
	c.streamEnded.Store(true)
	if c.req.Publish {
		gone := status("status", "NetStream.Unpublish.Success", "Unpublished.")
		_ = c.send(newCommand(0, "onFCUnpublish", 0, nil, gone), newCommand(c.req.StreamID, "onStatus", 0, nil, gone))
	}
	return ErrStreamEnded
}

// result replies to a command that expects a reply.
func (c *ServerConn) result(cmd command, values ...any) error {
	if cmd.id == 0 {
		return nil
	}
	return c.send(newCommand(0, append([]any{"_result", cmd.id, nil}, values...)...))
}

func errorOf(cmd command, code, description string) Message {
	return newCommand(0, "_error", cmd.id, nil, status("error", code, description))
}

func (c *ServerConn) refuseCall(cmd command, code, description string) error {
	return c.refuse(errorOf(cmd, code, description), &StatusError{code, description})
}

// refuse sends answer. Before Accept has returned, the refusal is final, and it returns end.
func (c *ServerConn) refuse(answer Message, end *StatusError) error {
	if c.req != nil {
		return c.send(answer)
	}
	if err := c.sendFinal(answer); err != nil {
		return err
	}
	return end
}
