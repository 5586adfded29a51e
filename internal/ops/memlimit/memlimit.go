// Package memlimit finds the memory limit of this process, and makes the runtime respect it.
package memlimit

import (
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// A Group is the control group that limits the memory of this process the most.
type Group struct {
	Limit int64         // in bytes; math.MaxInt64 for none
	stat  func() []byte // reads its memory.stat; nil if it is not of version 2
}

// Find returns the control group with the lowest memory limit, of those of this process and
// of their parents. root is the root of the file system. (Linux, cgroups(7): memory.max in version
// 2, memory.limit_in_bytes in version 1.)
func Find(root fs.FS) Group {
	least := Group{Limit: math.MaxInt64}
	text, _ := fs.ReadFile(root, "proc/self/cgroup") // exists on Linux only
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, name, ok := strings.Cut(rest, ":")
		dir, file := "sys/fs/cgroup", "memory.max"
		switch {
		case !ok:
			continue
		case controllers == "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case controllers != "":
			continue
		}
		// A container may see the path of the group on the host, but only the files of its own
		// group.
		for name = path.Clean("/" + name); ; name = path.Dir(name) {
			text, err := fs.ReadFile(root, path.Join(dir, name, file))
			n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			// version 1 has a huge number for no limit
			if err == nil && parseErr == nil && n > 0 && n < least.Limit && n < 1<<60 {
				least = Group{Limit: n}
				if controllers == "" {
					least.stat = memoryStat(root, path.Join(dir, name, "memory.stat"))
				}
			}
			if name == "/" {
				break
			}
		}
	}
	return least
}

// Share returns so many percent of the memory limit, which is the lower of the group's and the
// runtime's, in bytes; 0 if there is none.
func (g Group) Share(percent int64) int64 {
	limit := min(g.Limit, debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		return 0
	}
	return limit / 100 * percent
}

// kernelStats are the lines of memory.stat for kernel memory that cannot be reclaimed (cgroup
// version 2).
var kernelStats = [...]string{"sock", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "slab_unreclaimable"}

// Kernel returns the kernel's memory for the processes of g, in bytes.
func (g Group) Kernel() uint64 {
	if g.stat == nil {
		return 0
	}
	total := uint64(0)
	for line := range strings.Lines(string(g.stat())) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, s := range kernelStats {
			if name == s {
				n, _ := strconv.ParseUint(value, 10, 63)
				total += n
			}
		}
	}
	return total
}

// memoryStat returns a function that reads memory.stat at path, nil if the file does not exist.
func memoryStat(root fs.FS, path string) func() []byte {
	if _, err := fs.Stat(root, path); err != nil {
		return nil
	}
	return func() []byte {
		text, _ := fs.ReadFile(root, path)
		return text
	}
}
