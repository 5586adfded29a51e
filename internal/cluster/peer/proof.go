package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"livego/internal/domain"
	"livego/internal/ops/varint"
)

// protocol is the application protocol of TLS (ALPN), with its version.
const protocol = "livego-cluster/1"

// exporterLabel is the label of the keying material (RFC 8446 section 7.5) to which proofs are bound.
const exporterLabel = "EXPORTER-livego-cluster-proof"

// Limits of the messages before a connection is proven.
const (
	maxMessage = 1 << 10
	maxSecrets = 4
	maxReason  = 256
	keyIDSize  = 8
)

// An Identity is what a node says and proves about itself.
type Identity struct {
	Node string
	// Secrets of the cluster, of which two nodes need one in common. The first is preferred. At most
	// four are used.
	Secrets []string
}

// A role is the side of a connection that makes a proof.
type role byte

const (
	client role = 'c'
	server role = 's'
)

type (
	keyID [keyIDSize]byte
	mac   [sha256.Size]byte
)

// secrets returns those that are used.
func (id *Identity) secrets() []string { return id.Secrets[:min(len(id.Secrets), maxSecrets)] }

// idOf returns the ID of a secret. It reveals no more about the secret than a proof does.
func idOf(secret string) (id keyID) {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("livego cluster key ID"))
	copy(id[:], h.Sum(nil))
	return id
}

// prove returns the proof of one side that it knows secret, for one connection: exported is its keying
// material. No other connection has the same, so a proof that was recorded or forwarded is not valid.
func prove(secret string, r role, clientNode, serverNode string, exported []byte) (m mac) {
	h := hmac.New(sha256.New, []byte(secret))
	b := append([]byte(protocol), byte(r))
	b = varint.AppendBytes(b, clientNode)
	b = varint.AppendBytes(b, serverNode)
	h.Write(append(b, exported...))
	h.Sum(m[:0])
	return m
}

// A proof is that of one side, with one secret.
type proof struct {
	key keyID
	mac mac
}

func (p proof) append(b []byte) []byte { return append(append(b, p.key[:]...), p.mac[:]...) }

func readProof(v *varint.Reader) (p proof) {
	for i := range p.key {
		p.key[i] = v.Byte()
	}
	for i := range p.mac {
		p.mac[i] = v.Byte()
	}
	return p
}

// A hello is the first message of the client: its ID, the ID of the node that it expects, and a proof by
// each secret that it knows.
type hello struct {
	client, server string
	proofs         []proof
}

func (h *hello) append(b []byte) []byte {
	b = varint.AppendBytes(b, h.client)
	b = varint.AppendBytes(b, h.server)
	b = varint.AppendCount(b, len(h.proofs))
	for _, p := range h.proofs {
		b = p.append(b)
	}
	return b
}

func parseHello(b []byte) (h hello, err error) {
	v := varint.NewReader(b)
	h.client, h.server = readNodeID(v), readNodeID(v)
	for n := v.Count(maxSecrets, "number of proofs"); n > 0 && v.Err() == nil; n-- {
		h.proofs = append(h.proofs, readProof(v))
	}
	return h, v.End()
}

func readNodeID(v *varint.Reader) string {
	id := v.String(domain.MaxNodeID, "length of a node ID")
	if v.Err() == nil {
		if err := domain.CheckNodeID(id); err != nil {
			v.Fail(err)
		}
	}
	return id
}

// A reply is the answer of the server: its proof, or why it refuses the connection.
type reply struct {
	refusal string
	proof   proof
}

func (r *reply) append(b []byte) []byte {
	b = varint.AppendBytes(b, r.refusal)
	if r.refusal != "" {
		return b
	}
	return r.proof.append(b)
}

func parseReply(b []byte) (r reply, err error) {
	v := varint.NewReader(b)
	if r.refusal = v.String(maxReason, "length of a reason"); r.refusal == "" {
		r.proof = readProof(v)
	}
	return r, v.End()
}

// hello returns the hello of id for a connection to the node to.
func (id *Identity) hello(to string, exported []byte) *hello {
	h := &hello{client: id.Node, server: to}
	for _, s := range id.secrets() {
		h.proofs = append(h.proofs, proof{idOf(s), prove(s, client, id.Node, to, exported)})
	}
	return h
}

// Refusals. errSecret reveals only that the client has none of the secrets of this node.
var (
	errSecret = domain.Errorf(domain.Denied, "the node does not know the secret of the cluster")
	errSelf   = domain.Errorf(domain.Conflict, "two nodes have the same node_id")
)

// answer checks h and returns the reply.
func (id *Identity) answer(h *hello, exported []byte) (*reply, error) {
	for _, s := range id.secrets() { // the preferred one first
		key := idOf(s)
		i := slices.IndexFunc(h.proofs, func(p proof) bool { return p.key == key })
		if i < 0 {
			continue
		}
		want := prove(s, client, h.client, h.server, exported)
		switch {
		case !hmac.Equal(want[:], h.proofs[i].mac[:]):
			continue
		case h.server != id.Node:
			return nil, domain.Errorf(domain.Conflict, "this is node %s, not %s", id.Node, h.server)
		case h.client == id.Node:
			return nil, errSelf
		}
		return &reply{proof: proof{key, prove(s, server, h.client, h.server, exported)}}, nil
	}
	return nil, errSecret
}

// verify checks the reply of the node to.
func (id *Identity) verify(r *reply, to string, exported []byte) error {
	if r.refusal != "" {
		return domain.Errorf(domain.Unavailable, "node %s refuses the connection: %s", to, r.refusal)
	}
	for _, s := range id.secrets() {
		if want := prove(s, server, id.Node, to, exported); idOf(s) == r.proof.key && hmac.Equal(want[:], r.proof.mac[:]) {
			return nil
		}
	}
	return domain.Errorf(domain.Unavailable, "node %s does not prove that it knows the secret of the cluster", to)
}

// writeMessage writes b with its length before it.
func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// readMessage reads a message.
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(head[:])
	if n > maxMessage {
		return nil, errors.New("peer: message is too long")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
