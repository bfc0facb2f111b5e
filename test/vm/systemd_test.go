// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"archive/tar"
	"crypto/ed25519"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
	"github.com/streembit/edge/ota/trust/repo"
	"github.com/streembit/edge/systemd"
	"github.com/streembit/edge/test/swarm"
)

//go:embed console.sh
var consoleScript []byte

// TestSystemd_UpdatesAndGoesBack boots Debian with systemd as its first process and our units as they are. Real programs go from version 1.0.0 to 1.1.0,
// which stays, to 1.2.0, which crashes, and to 1.3.0, which eats memory: both go back by themselves. The agent runs as a user of systemd's making, under all of
// its unit's hardening; the updater proves, flips and watches as root.
func TestSystemd_UpdatesAndGoesBack(t *testing.T) {
	m := startSystemd(t, []release{
		{"1.1.0", "./cmd/streembitd", "-X main.version=1.1.0"},
		{"1.2.0", "./ota/slots/testdata/agent", "-X main.kind=crash -X main.version=1.2.0"},
		{"1.3.0", "./ota/slots/testdata/agent", "-X main.kind=memory -X main.version=1.3.0"},
	})
	m.awaitVersion("1.0.0")
	if out := m.run("systemctl show streembitd.service -p User -p MainPID -p StatusText -p NotifyAccess; cat /proc/$(systemctl show --value -p MainPID streembitd.service)/status | grep -E 'Uid|CapEff|Seccomp:|NoNewPrivs'"); !strings.Contains(out, "Seccomp:\t2") || !strings.Contains(out, "NoNewPrivs:\t1") || !strings.Contains(out, "CapEff:\t0000000000000000") {
		t.Errorf("the agent is not confined: %s", out)
	}
	if out, status := m.try("touch /proc/$(systemctl show --value -p MainPID streembitd.service)/root/opt/streembit/x"); status == 0 {
		t.Errorf("the agent's view of the releases can be written to: %s", out)
	}
	for _, c := range []struct {
		version ota.Version
		stage   ota.Stage
		reason  ota.Reason
		runs    string
	}{
		{"1.1.0", ota.Committed, "", "1.1.0"},
		{"1.2.0", ota.RolledBack, ota.ReasonCrashed, "1.1.0"},
		{"1.3.0", ota.RolledBack, ota.ReasonMemory, "1.1.0"},
	} {
		began := time.Now()
		m.run("sh /box/hand-over %s", c.version)
		m.awaitOutcome(c.version, c.stage, c.reason)
		m.awaitVersion(c.runs)
		t.Logf("%s: %s %s after %.1f s", c.version, c.stage, c.reason, time.Since(began).Seconds())
	}
}

// handOver does in the guest what slots.HandOver does: the request comes last, by a rename.
const handOver = `set -e
state=/var/lib/private/streembit
mkdir -p $state/update
rm -rf $state/update/inbox $state/box
cp -r /box/$1 $state/box
mv $state/box/request.json $state/request
chown -R $(stat -c %u:%g $state) $state/update $state/box $state/request
mv $state/box $state/update/inbox
mv $state/request $state/update/inbox/request.json
`

// shorter has the trials of the guest end sooner than a person would want.
const (
	shorterWatch = "[Service]\nExecStart=\nExecStart=/usr/lib/streembit/streembit-updater -window 5s -deadline 5m apply\n"
	shorterWait  = "[Service]\nMemoryMax=300M\n"
)

const consoleUnit = `[Unit]
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/bin/busybox sh /console.sh
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyAMA0
Restart=no
`

type release struct {
	version    ota.Version
	pkg, flags string
}

// startSystemd boots the guest with version 1.0.0 installed, and the releases signed and ready to be handed over.
func startSystemd(t *testing.T, all []release) *machine {
	t.Helper()
	arch := filepath.Join(guests(t), "arm64")
	s := swarm.New(t, 1, "")
	a := &initramfs{dirs: map[string]bool{}}
	a.node("dev/console", fs.FileMode(0o020600), 5, 1, nil)
	a.root(t, filepath.Join(arch, "systemd.tar"))
	a.file(t, "usr/bin/busybox", filepath.Join(arch, "busybox"))
	a.file(t, "usr/lib/streembit/streembit-updater", program(t, "arm64", "./cmd/streembit-updater"))
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", "etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"etc/machine-id": "0123456789abcdef0123456789abcdef\n", "etc/os-release": "ID=debian\n", "etc/systemd/system/getty.target": "[Unit]\n", "console.sh": string(consoleScript), "box/hand-over": handOver,
		"etc/systemd/system/console.service":                          consoleUnit,
		"etc/systemd/system/streembit-updater.service.d/shorter.conf": shorterWatch,
		"etc/systemd/system/streembitd.service.d/shorter.conf":        shorterWait,
	} {
		a.add(name, 0o644, []byte(text))
	}
	a.units(t)
	config := "state = \"/var/lib/streembit\"\nroles = [\"device\"]\nclock = \"always\"\n[[sensor]]\nname = \"machine\"\ndriver = \"host\"\ninterval = \"1s\"\n"
	a.add("etc/streembit/streembitd.toml", 0o644, []byte(config))
	for _, name := range []string{"key.pem", "fleet.cbor"} {
		data, err := os.ReadFile(filepath.Join(s.Device.State, name))
		must(t, err)
		a.add("var/lib/streembit/"+name, 0o600, data)
	}
	a.installed(t, versioned(t, "./cmd/streembitd", "-X main.version=1.0.0"))
	a.releases(t, s, all)
	return start(t, "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "1536", "-nic", "none", "-kernel", filepath.Join(arch, "vmlinuz"), "-initrd", a.write(t),
		"-append", "console=ttyAMA0 panic=-1 loglevel=3 rdinit=/usr/lib/systemd/systemd systemd.show_status=no systemd.unit=multi-user.target", "-serial", "stdio")
}

// root adds a tar of Debian's packages as they were unpacked, with / and /usr merged.
func (a *initramfs) root(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { _ = f.Close() }()
	for _, dir := range []string{"bin", "sbin", "lib"} {
		a.node(dir, 0o120777, 0, 0, []byte("usr/"+dir))
		a.dirs[dir] = true
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		at := strings.TrimPrefix(path.Clean(h.Name), "/")
		if first, _, _ := strings.Cut(at, "/"); first == "bin" || first == "sbin" || first == "lib" {
			at = "usr/" + at
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			a.node(at, 0o120777, 0, 0, []byte(h.Linkname))
		case tar.TypeReg:
			data, err := io.ReadAll(r)
			must(t, err)
			a.add(at, fs.FileMode(h.Mode&0o7777), data)
		}
	}
}

// units installs ours and enables them.
func (a *initramfs) units(t *testing.T) {
	t.Helper()
	must(t, fs.WalkDir(systemd.Units, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := systemd.Units.ReadFile(name)
		a.add("etc/systemd/system/"+name, 0o644, text)
		return err
	}))
	for link, unit := range map[string]string{
		"multi-user.target.wants": "streembitd.service", "paths.target.wants": "streembit-updater.path", "basic.target.wants": "console.service",
	} {
		a.node("etc/systemd/system/"+link+"/"+unit, 0o120777, 0, 0, []byte("../"+unit))
	}
	a.node("etc/systemd/system/multi-user.target.wants/streembit-updater.service", 0o120777, 0, 0, []byte("../streembit-updater.service"))
}

// installed puts the first program in place, as the package does.
func (a *initramfs) installed(t *testing.T, first string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "streembit")
	s, err := slots.Open(slots.Options{Root: root, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, s.Install("1.0.0", first))
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		at := "opt/streembit" + strings.TrimPrefix(name, root)
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			a.node(at, 0o120777, 0, 0, []byte(to))
			return err
		}
		info, err := d.Info()
		must(t, err)
		data, err := os.ReadFile(name)
		a.add(at, info.Mode().Perm(), data)
		return err
	}))
}

// releases signs each release in turn and puts what is handed over below /box.
func (a *initramfs) releases(t *testing.T, s *swarm.Swarm, all []release) {
	t.Helper()
	var keys []journal.Signer
	var ids [4]edge.ID
	for i := range ids {
		_, private, err := ed25519.GenerateKey(nil)
		must(t, err)
		k := journal.NewSoftKey(private)
		keys, ids[i] = append(keys, k), k.ID()
	}
	role := func(i int) repo.Role { return repo.Role{Keys: ids[i : i+1], Threshold: 1} }
	q, err := repo.FirstRoot(repo.Roles{Root: role(0), Targets: role(1), Snapshot: role(2), Timestamp: role(3)}, time.Now())
	must(t, err)
	must(t, q.Sign(keys[0]))
	r, err := q.Accept(t.TempDir())
	must(t, err)
	for _, rel := range all {
		file := versioned(t, rel.pkg, rel.flags)
		art, err := r.Add(repo.Release{Version: rel.version, Channel: "stable"}, file, time.Now())
		must(t, err)
		if done, err := r.Sign(time.Now(), keys[1:]...); err != nil || !done {
			t.Fatal(done, err)
		}
		files, err := r.Files()
		must(t, err)
		box := "box/" + string(rel.version) + "/"
		for name, data := range files {
			a.add(box+"metadata/"+name, 0o644, data)
		}
		a.file(t, box+"program", file)
		request, err := json.Marshal(slots.Request{Path: art.Path, Wanted: rel.version, Baseline: slots.Baseline{ID: s.Device.ID.String(), Sensors: []string{"machine"}}})
		must(t, err)
		a.add(box+"request.json", 0o644, request)
	}
}

// versioned cross-compiles a program with flags for the linker.
func versioned(t *testing.T, pkg, flags string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w "+flags, "-o", out, pkg)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, text)
	}
	return out
}

// awaitVersion waits until the agent says that it is of a version.
func (m *machine) awaitVersion(v string) {
	m.t.Helper()
	m.awaits("version "+v+" to run", func() error {
		out, status := m.try("/opt/streembit/current/streembitd status --state /var/lib/streembit --json")
		var s struct{ Version string }
		if status != 0 || json.Unmarshal([]byte(out), &s) != nil || s.Version != v {
			return fmt.Errorf("%q runs: %.200s", s.Version, out)
		}
		return nil
	})
}

// awaitOutcome waits until the updater is done with a version.
func (m *machine) awaitOutcome(v ota.Version, stage ota.Stage, reason ota.Reason) {
	m.t.Helper()
	m.awaits("the update to be over", func() error {
		out, _ := m.try("cat /opt/streembit/outcome.json")
		var o struct{ Body ota.Progress }
		if err := json.Unmarshal([]byte(out), &o); err != nil || o.Body.Wanted != v || o.Body.Stage != stage || o.Body.Reason != reason {
			return fmt.Errorf("the outcome is %s", out)
		}
		return nil
	})
}

func (m *machine) awaits(what string, is func() error) {
	m.t.Helper()
	var err error
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); m.run("usleep 200000") {
		if err = is(); err == nil {
			return
		}
	}
	out, _ := m.try("journalctl --no-pager -n 60 -o cat -u streembitd -u streembit-updater; SYSTEMD_COLORS=0 systemctl --no-pager status streembitd.service streembit-updater.service streembit-updater.path; ls -lR /opt/streembit /var/lib/private/streembit/update")
	m.t.Fatalf("waiting for %s: %v\n%s", what, err, out)
}
