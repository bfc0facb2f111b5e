// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

//go:embed init.sh
var initScript []byte

// initramfs is an archive in the format that the kernel unpacks (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
// It stays uncompressed: an emulated CPU unpacks slower than QEMU copies.
type initramfs struct {
	buf  bytes.Buffer
	inos int
	dirs map[string]bool
}

// newInitramfs holds busybox, the modules that the guest loads in that order, and the init script.
func newInitramfs(t *testing.T, arch string, modules []string) *initramfs {
	t.Helper()
	a := &initramfs{dirs: map[string]bool{}}
	a.add("init", 0o755, initScript)
	a.file(t, "bin/busybox", filepath.Join(arch, "busybox"))
	order := ""
	for _, m := range modules {
		order += m + "\n"
		a.file(t, "modules/"+m, filepath.Join(arch, "modules", m))
	}
	a.add("modules/order", 0o644, []byte(order))
	a.node("dev/console", fs.FileMode(0o020600), 5, 1, nil) // before devtmpfs is mounted
	return a
}

// modules returns those of the cache in the order in which they can be loaded, without the ones named.
func modules(t *testing.T, arch string, without ...string) []string {
	t.Helper()
	order, err := os.ReadFile(filepath.Join(arch, "modules", "order"))
	must(t, err)
	return slices.DeleteFunc(strings.Fields(string(order)), func(m string) bool {
		return slices.Contains(without, strings.TrimSuffix(m, ".ko"))
	})
}

// file adds a file of this machine, executable.
func (a *initramfs) file(t *testing.T, name, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	a.add(name, 0o755, data)
}

// add adds a regular file and the folders above it.
func (a *initramfs) add(name string, perm fs.FileMode, data []byte) {
	a.node(name, 0o100000|perm, 0, 0, data)
}

func (a *initramfs) node(name string, mode fs.FileMode, major, minor int, data []byte) {
	if dir := filepath.Dir(name); dir != "." && !a.dirs[dir] {
		a.dirs[dir] = true
		a.node(dir, 0o040755, 0, 0, nil)
	}
	a.inos++
	// magic, inode, mode, uid, gid, links, time, size, device, special device, name with its 0, no checksum
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.inos, uint32(mode), 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *initramfs) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// write ends the archive and returns the path of its file.
func (a *initramfs) write(t *testing.T) string {
	t.Helper()
	a.node("TRAILER!!!", 0, 0, 0, nil)
	path := filepath.Join(t.TempDir(), "initramfs")
	must(t, os.WriteFile(path, a.buf.Bytes(), 0o600))
	return path
}

// program cross-compiles a package of this module.
func program(t *testing.T, arch, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOARM=6")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s for %s: %v\n%s", pkg, arch, err, text)
	}
	return out
}
