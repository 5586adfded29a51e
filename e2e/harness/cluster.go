package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// clusterSecret is the secret of clusters under test.
const clusterSecret = "a secret of the test cluster"

// StartCluster starts n servers as the nodes node-0, node-1 and so on of a cluster. The first owns all
// streams.
func StartCluster(t testing.TB, n int, o Options) []*Server {
	t.Helper()
	var nodes []string
	for i, port := range FreePorts(t, n) {
		nodes = append(nodes, fmt.Sprintf("node-%d=127.0.0.1:%d", i, port))
	}
	servers := make([]*Server, n)
	for i, entry := range nodes {
		_, addr, _ := strings.Cut(entry, "=")
		o := o
		o.Flags = slices.Concat([]string{"--cluster_addr=" + addr,
			fmt.Sprintf("--node_id=node-%d", i), "--cluster_nodes=" + strings.Join(nodes, ","), "--cluster_owners=*=node-0"},
			o.Flags)
		o.Env = append(slices.Clone(o.Env), "LIVEGO_CLUSTER_SECRET="+clusterSecret)
		servers[i] = Start(t, o)
		servers[i].SetAddr("cluster_addr", addr)
	}
	return servers
}
