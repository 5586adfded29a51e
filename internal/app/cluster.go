package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"livego/internal/cluster/node"
	"livego/internal/cluster/peer"
	"livego/internal/cluster/replica"
	"livego/internal/domain"
	"livego/internal/ops/atomicfile"
	"livego/internal/ops/config"
	"livego/internal/ops/ownertable"
)

// nodeIDFile is the file in data_dir that keeps a random ID.
const nodeIDFile = "node_id"

// nodeID returns the ID of this node, which stays the same when the server starts again.
func nodeID(cfg config.Config) (string, error) {
	if cfg.NodeID != "" {
		return cfg.NodeID, nil
	}
	path := filepath.Join(cfg.DataDir, nodeIDFile)
	b, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(b))
		return id, domain.CheckNodeID(id)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := "node-" + strings.ToLower(rand.Text()[:8])
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return "", err
	}
	return id, atomicfile.Write(path, []byte(id+"\n"))
}

// newNode returns this server as a node of the cluster of cfg.
func (a *App) newNode(cfg config.Config) (*node.Node, error) {
	id, err := nodeID(cfg)
	if err != nil {
		return nil, fmt.Errorf("node_id: %w", err)
	}
	table, nodesErr, ownersErr := ownertable.Parse(cfg.ClusterNodes, cfg.ClusterOwners)
	if err := errors.Join(nodesErr, ownersErr, table.Check(id)); err != nil {
		return nil, fmt.Errorf("cluster_nodes and cluster_owners: %w", err)
	}
	a.log.Info("this server is a node of a cluster", "node", id)
	return node.New(node.Options{
		Identity: peer.Identity{Node: id, Secrets: clusterSecrets(cfg)},
		Owner: func(name domain.Name) (string, bool) {
			owner := table.Owner(name)
			return owner, owner != "" && owner != id
		},
		Address:   table.Address,
		Hub:       a.hub,
		Source:    replica.SourceOptions{Snapshot: a.hls.Snapshot, Final: a.hls.Final},
		ServeFile: a.hls.ServeAnswer,
		Watched:   func(name domain.Name) bool { return a.hub.HasViewers(name) || a.hls.Watched(name) },
		Target:    a.hls.Target, Nodes: table.Len(),
		HandshakeTimeout: cfg.HandshakeTimeout, Server: a.serverOptions(), Log: a.log,
	}, nodeSettings(cfg)), nil
}

// clusterSecrets returns the secrets that this server knows, the preferred one first; none if there is no
// cluster.
func clusterSecrets(cfg config.Config) (secrets []string) {
	for _, s := range []string{cfg.ClusterSecret, cfg.ClusterSecretPrevious} {
		if s != "" {
			secrets = append(secrets, s)
		}
	}
	return secrets
}
