// Package ownertable parses and holds the static table of a cluster: which nodes there are, and which of
// them owns which streams.
package ownertable

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"livego/internal/domain"
)

// A Table is immutable.
type Table struct {
	addresses map[string]string // by node
	owners    map[string]string // node, by app, app/room or *
}

// Parse parses a table. Entries of nodes are NODE=HOST:PORT, and those of owners PATTERN=NODE, where the
// pattern is an app, a room as APP/ROOM, or * for all. The errors name no setting.
func Parse(nodes, owners []string) (t *Table, nodesErr, ownersErr error) {
	t = &Table{addresses: make(map[string]string), owners: make(map[string]string)}
	nodesErr = parse(nodes, t.addresses, domain.CheckNodeID, checkAddress)
	ownersErr = parse(owners, t.owners, checkPattern, domain.CheckNodeID)
	return t, nodesErr, ownersErr
}

func parse(entries []string, into map[string]string, checkKey, checkValue func(string) error) error {
	for _, e := range entries {
		key, value, ok := strings.Cut(e, "=")
		if !ok {
			return fmt.Errorf("%.64q has no =", e)
		}
		if err := errors.Join(checkKey(key), checkValue(value)); err != nil {
			return fmt.Errorf("%.64q: %w", e, err)
		}
		if _, twice := into[key]; twice {
			return fmt.Errorf("%.64q has two entries", key)
		}
		into[key] = value
	}
	return nil
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" {
		return errors.New("the address must be host:port")
	}
	return nil
}

func checkPattern(p string) error {
	if p == "*" {
		return nil
	}
	app, room, both := strings.Cut(p, "/")
	err := domain.CheckApp(app)
	if err == nil && both {
		err = domain.CheckRoom(room)
	}
	return err
}

// Check returns an error if the owner of streams is neither self nor a node with an address.
func (t *Table) Check(self string) error {
	for pattern, node := range t.owners {
		if _, known := t.addresses[node]; !known && node != self {
			return fmt.Errorf("node %s, which owns %s, has no address", node, pattern)
		}
	}
	return nil
}

// Owner returns the node that owns a stream; "" if there is no entry for it.
func (t *Table) Owner(name domain.Name) string {
	for _, pattern := range [...]string{name.String(), name.App, "*"} {
		if node := t.owners[pattern]; node != "" {
			return node
		}
	}
	return ""
}

// Address returns the address of a node.
func (t *Table) Address(node string) (addr string, ok bool) {
	addr, ok = t.addresses[node]
	return addr, ok
}

// Len returns how many nodes have an address.
func (t *Table) Len() int { return len(t.addresses) }
