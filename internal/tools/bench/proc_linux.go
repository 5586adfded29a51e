package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every system that Go supports.
const clockTick = 10 * time.Millisecond

// usageOf returns what the processes of pids have used together.
func usageOf(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		u, err := processUsage(pid)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		sum.cpu += u.cpu
		sum.memory += u.memory
	}
	return sum, nil
}

func processUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The name, in parentheses, may contain anything. utime and stime are fields 14 and 15, rss is
	// 24 (proc_pid_stat(5)).
	const utime, stime, rss = 14 - 3, 15 - 3, 24 - 3
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= rss {
		return usage{}, errors.New("unknown format of /proc/PID/stat")
	}
	var n [3]int64
	for i, f := range []int{utime, stime, rss} {
		if n[i], err = strconv.ParseInt(fields[f], 10, 64); err != nil {
			return usage{}, err
		}
	}
	return usage{cpu: time.Duration(n[0]+n[1]) * clockTick, memory: n[2] * int64(os.Getpagesize())}, nil
}

// ownCPU returns the CPU time of this process.
func ownCPU() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// machineTimes returns the busy and the total CPU time of the machine, in ticks.
func machineTimes() (busy, all int64) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	const idle, iowait, steal = 3, 4, 7
	for i, f := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > steal { // guest time is part of user time
			break
		}
		all += n
		if i != idle && i != iowait {
			busy += n
		}
	}
	return busy, all
}

// processesOnPort returns the processes that listen on a TCP port of this machine, as far as /proc
// permits.
func processesOnPort(port int) []int {
	var sockets []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			const local, state, inode, listen = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) > inode && f[state] == listen && strings.HasSuffix(f[local], fmt.Sprintf(":%04X", port)) {
				sockets = append(sockets, "socket:["+f[inode]+"]")
			}
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	open, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, path := range open {
		if to, err := os.Readlink(path); err != nil || !slices.Contains(sockets, to) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// checkFileLimit returns an error if n connections exceed the limit of open files.
func checkFileLimit(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil
	}
	const others = 64
	if need := uint64(n + others); limit.Cur < need {
		return fmt.Errorf("%d connections need %d open files, the limit is %d: raise it with ulimit -n", n, need, limit.Cur)
	}
	return nil
}
