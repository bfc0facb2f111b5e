// SPDX-License-Identifier: Apache-2.0

// Package vm runs the cross-compiled programs in virtual machines with real kernels: on a board with our own chip models behind the
// kernel's I²C, 1-wire and GPIO, and on Raspberry Pis. docs/hardware-tests.md says what it needs.
package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// oldest is the first major version of QEMU that has the I²C controller of the Raspberry Pi.
const oldest = 9

// guests returns the folder that .ci/vm-install filled with one folder for each architecture. Without it, or without a QEMU that will do, the
// test is skipped, and fails where CI=true.
func guests(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STREEMBIT_VM_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		must(t, err)
		dir = filepath.Join(base, "streembit-vm")
	}
	if _, err := os.Stat(filepath.Join(dir, "stamp")); err != nil {
		lacking(t, "there are no guest kernels in "+dir)
	}
	if out, err := exec.Command("qemu-system-aarch64", "--version").Output(); err != nil {
		lacking(t, "qemu-system-aarch64 is missing")
	} else if m := regexp.MustCompile(`version (\d+)`).FindSubmatch(out); m == nil {
		lacking(t, "qemu-system-aarch64 does not say its version")
	} else if major, err := strconv.Atoi(string(m[1])); err != nil || major < oldest {
		lacking(t, "QEMU is "+string(m[1])+", "+strconv.Itoa(oldest)+" or newer is needed")
	}
	return dir
}

func lacking(t *testing.T, what string) {
	t.Helper()
	what += ": the virtual machines were not tested; run: bash .ci/vm-install"
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
