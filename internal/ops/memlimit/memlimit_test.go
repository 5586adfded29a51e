package memlimit

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

// TestFind reads the memory limit from control groups of different layouts.
func TestFind(t *testing.T) {
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
		if got := Find(os.DirFS(root)).Limit; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestKernel adds up the kernel's memory of the group with the limit.
func TestKernel(t *testing.T) {
	root := fstest.MapFS{
		"proc/self/cgroup":                {Data: []byte("0::/slice/app\n")},
		"sys/fs/cgroup/slice/app/cpu.max": {},
		"sys/fs/cgroup/slice/memory.max":  {Data: []byte("1000\n")},
		"sys/fs/cgroup/slice/memory.stat": {Data: []byte("anon 7000\nfile 9\nsock 100\nkernel_stack " +
			"20\nslab_unreclaimable 3\nsock_x 5\nslab 77\ngarbage\npagetables -4\n")},
		"sys/fs/cgroup/memory.max":         {Data: []byte("5000\n")},
		"sys/fs/cgroup/memory.stat":        {Data: []byte("sock 4000\n")},
		"sys/fs/cgroup/slice/app/whatever": {},
	}
	if g := Find(root); g.Limit != 1000 || g.Kernel() != 123 {
		t.Errorf("limit %d, kernel %d", g.Limit, g.Kernel())
	}
	if g := Find(fstest.MapFS{}); g.Kernel() != 0 {
		t.Errorf("no group: kernel %d", g.Kernel())
	}
}

// TestShare computes shares of the lower limit.
func TestShare(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	if got := (Group{Limit: math.MaxInt64}).Share(10); got != 0 {
		t.Errorf("without a limit: %d", got)
	}
	if got := (Group{Limit: 1000}).Share(10); got != 100 {
		t.Errorf("of the group: %d", got)
	}
	debug.SetMemoryLimit(1 << 40)
	if got := (Group{Limit: math.MaxInt64}).Share(50); got != 1<<40/100*50 {
		t.Errorf("of the runtime: %d", got)
	}
}
