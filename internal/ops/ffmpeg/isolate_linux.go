package ffmpeg

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	lowPriority = 10 // a tenth of the share of the server; with 19 a picture takes minutes on a busy machine
	// maxMemory is the address space of an untrusted process, in bytes. A picture of 8192x4320 pixels
	// with 10 bits takes a fifth of it; programs and libraries take 300 MB.
	maxMemory = 2 << 30
)

// isolate prepares a process for hostile input. The death signal comes when the thread ends that starts
// it: the caller of Start is locked to its thread.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")}
}

// limit lowers the priority and the memory of the process group pid. It may have ended already, and a
// system may not allow some of it: then the other limits hold.
func limit(pid int) {
	_ = unix.Setpriority(unix.PRIO_PGRP, pid, lowPriority)
	_ = unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: maxMemory, Max: maxMemory}, nil)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
}

// kill kills p, and if it was isolated its child processes too.
func kill(p *os.Process, isolated bool) error {
	if isolated {
		return syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
	return p.Kill()
}
