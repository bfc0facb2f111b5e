// SPDX-License-Identifier: Apache-2.0

package deb_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// need skips the test without root or programs; in CI as root that is a failure.
func need(t *testing.T, programs ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	why := ""
	if os.Geteuid() != 0 {
		why = "root is needed for a chroot"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			why = p + " is missing: apt-get install mmdebstrap openssh-server openssh-client lintian"
		}
	}
	switch {
	case testing.Short():
		t.Skip("makes a root file system of Debian: not with -short")
	case why != "" && os.Getenv("CI") == "true" && os.Geteuid() == 0:
		t.Fatal(why)
	case why != "":
		t.Skip(why)
	}
}

// system is a root file system of Debian.
type system struct {
	t    *testing.T
	root string
}

// debian makes a root file system with systemd, from a tar file that is kept in the user's cache.
func debian(t *testing.T) system {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "streembit-deb")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const packages = "systemd,udev,procps"
	tarball := filepath.Join(dir, "bookworm-"+runtime.GOARCH+"-"+packages+".tar")
	if _, err := os.Stat(tarball); err != nil {
		sh(t, "mmdebstrap", "--quiet", "--variant=minbase", "--include="+packages, "--dpkgopt=path-exclude=/usr/share/doc/*/*",
			"--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", tarball+".new.tar", sources(t))
		if err := os.Rename(tarball+".new.tar", tarball); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.MkdirTemp(dir, "root-") //nolint:usetesting // sshd asks that nobody but root may write above it, which /tmp does not fulfil
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sh(t, "rm", "-rf", "--one-file-system", root) })
	s := system{t, root}
	sh(t, "tar", "-C", s.root, "-xf", tarball)
	if err := os.Chmod(s.root, 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, "mount", "-t", "proc", "proc", filepath.Join(s.root, "proc"))
	t.Cleanup(func() { sh(t, "umount", filepath.Join(s.root, "proc")) })
	return s
}

// sources is the machine's own list of mirrors, for the release that is made.
func sources(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("this machine has no list of Debian's mirrors")
	return ""
}

func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// try runs a shell line in the system.
func (s system) try(line string) (string, error) {
	c := exec.Command("chroot", s.root, "/bin/sh", "-ec", line)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s system) run(line string) string {
	s.t.Helper()
	out, err := s.try(line)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// is wants what a shell line prints.
func (s system) is(line, want string) {
	s.t.Helper()
	if got := s.run(line); got != want {
		s.t.Errorf("%s: %q, want %q", line, got, want)
	}
}

// install copies packages into the system and installs them.
func (s system) install(path string) string {
	s.t.Helper()
	sh(s.t, "cp", path, filepath.Join(s.root, "tmp/package.deb"))
	return s.run("dpkg --install /tmp/package.deb </dev/null")
}

// build makes the package of the agent in a version.
func build(t *testing.T, dir, version string) string {
	t.Helper()
	c := exec.Command("bash", "packaging/deb", runtime.GOARCH)
	c.Dir = "../.."
	c.Env = append(os.Environ(), "VERSION="+version, "PACKAGES=streembitd", "DIST="+dir, "WORK="+filepath.Join(dir, "build"))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("packaging/deb: %v\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// again makes the package of another version of one that was built: another program, and what the scripts and the control file say of it.
func again(t *testing.T, path, version string) string {
	t.Helper()
	dir := t.TempDir()
	tree, to := filepath.Join(dir, "tree"), filepath.Join(dir, "streembitd_"+version+".deb")
	sh(t, "dpkg-deb", "--raw-extract", path, tree)
	sh(t, "sed", "-i", "s/^Version: .*/Version: "+strings.Replace(version, "-", "~", 1)+"/", filepath.Join(tree, "DEBIAN/control"))
	sh(t, "sed", "-i", "s/ upgrade [^ ]* / upgrade "+version+" /", filepath.Join(tree, "DEBIAN/postinst"))
	f, err := os.OpenFile(filepath.Join(tree, "usr/lib/streembit/streembitd"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(version) // beyond what the loader reads
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	sh(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, to)
	return to
}
