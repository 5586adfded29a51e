package app

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestCgroupMemoryLimit reads the memory limit from control groups of different layouts.
func TestCgroupMemoryLimit(t *testing.T) {
	const none = math.MaxInt64
	for name, c := range map[string]struct {
		files map[string]string // path below the root of the file system
		want  int64
	}{
		"no groups": {nil, none},
		"version 2": {map[string]string{"proc/self/cgroup": "0::/app\n",
			"sys/fs/cgroup/app/memory.max": "104857600\n"}, 104857600},
		"version 2, as a container sees it": {map[string]string{"proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "104857600\n"}, 104857600},
		"no limit": {map[string]string{"proc/self/cgroup": "0::/app\n",
			"sys/fs/cgroup/app/memory.max": "max\n"}, none},
		"the group above": {map[string]string{
			"proc/self/cgroup": "0::/slice/app.service\n", "sys/fs/cgroup/slice/app.service/memory.max": "max\n",
			"sys/fs/cgroup/slice/memory.max": "2000000000\n",
		}, 2000000000},
		"the least": {map[string]string{
			"proc/self/cgroup": "0::/slice/app\n", "sys/fs/cgroup/slice/app/memory.max": "3000000000\n",
			"sys/fs/cgroup/slice/memory.max": "2000000000\n",
		}, 2000000000},
		"version 1": {map[string]string{
			"proc/self/cgroup": "12:cpu:/x\n7:memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "536870912\n",
		}, 536870912},
		"version 1 in a container": {map[string]string{
			"proc/self/cgroup": "7:memory:/docker/abc\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
		}, 536870912},
		"version 1 without a limit": {map[string]string{
			"proc/self/cgroup": "7:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, none},
		"garbage": {map[string]string{"proc/self/cgroup": "hello\n0::../../etc\n::\n", "sys/fs/cgroup/memory.max": "-5"},
			none},
	} {
		root := t.TempDir()
		for path, text := range c.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := controlGroup(os.DirFS(root)).limit; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
