package app

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestLetGo goes on in a program whose file is no longer mapped.
func TestLetGo(t *testing.T) {
	before := residentFile(t)
	letGo()
	if after := residentFile(t); after >= before {
		t.Errorf("%d kB of files are resident, %d before", after, before)
	}
}

// residentFile returns how many kB of files are in the process's memory.
func residentFile(t *testing.T) (kB int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatal(err)
	}
	return kB
}
