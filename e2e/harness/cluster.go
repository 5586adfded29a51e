package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// clusterSecret is the secret of clusters under test.
const clusterSecret = "a secret of the test cluster"

// StartCluster starts n servers as the nodes node-0, node-1 and so on of a cluster. The first owns all
// streams.
func StartCluster(t testing.TB, n int, o Options) []*Server {
	t.Helper()
	return StartLateCluster(t, n, 0, o)
}

// StartLateCluster is StartCluster with a last node that gets what the others send late by lag.
func StartLateCluster(t testing.TB, n int, lag time.Duration, o Options) []*Server {
	t.Helper()
	table := func(addrs []string) string {
		var nodes []string
		for i, addr := range addrs {
			nodes = append(nodes, fmt.Sprintf("node-%d=%s", i, addr))
		}
		return strings.Join(nodes, ",")
	}
	var addrs []string
	for _, port := range FreePorts(t, n) {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	servers := make([]*Server, n)
	for i, addr := range addrs {
		o, seen := o, addrs
		if lag > 0 && i == n-1 {
			seen = slices.Clone(addrs)
			for j := range i {
				seen[j] = StartDelayProxy(t, addrs[j], lag)
			}
		}
		o.Flags = slices.Concat([]string{"--cluster_addr=" + addr,
			fmt.Sprintf("--node_id=node-%d", i), "--cluster_nodes=" + table(seen), "--cluster_owners=*=node-0"}, o.Flags)
		o.Env = append(slices.Clone(o.Env), "LIVEGO_CLUSTER_SECRET="+clusterSecret)
		servers[i] = Start(t, o)
		servers[i].SetAddr("cluster_addr", addr)
	}
	return servers
}
