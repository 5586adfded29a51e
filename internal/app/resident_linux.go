package app

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// letGo takes out of the process what has been mapped of the program's file: most of it was for the
// start. What is needed comes back from the kernel's cache as it is. (Linux, proc_pid_smaps(5),
// madvise(2).)
func letGo() {
	maps, err := os.ReadFile("/proc/self/smaps")
	self, selfErr := os.Readlink("/proc/self/exe")
	if err != nil || selfErr != nil {
		return
	}
	var from, to uintptr // of a mapping of the file that nobody may write to; else 0
	for line := range bytes.Lines(maps) {
		var begin, end uintptr
		var mode, offset, device, inode, path string
		if n, _ := fmt.Sscanf(string(line), "%x-%x %s %s %s %s %s", &begin, &end, &mode, &offset, &device, &inode,
			&path); n >= 6 {
			if from, to = 0, 0; path == self && mode[1] == '-' {
				from, to = begin, end
			}
		}
		// What was written before, by a loader or a debugger, is in no file.
		if untouched := bytes.Equal(bytes.Join(bytes.Fields(line), nil), []byte("Anonymous:0kB")); to > 0 && untouched {
			_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED) // a wish
		}
	}
}
