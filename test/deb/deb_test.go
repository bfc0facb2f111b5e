// SPDX-License-Identifier: Apache-2.0

package deb_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What Debian users expect: the service's user, groups and folders are there; an upgrade keeps config, key and what came over the air; remove keeps state and
// config; purge leaves nothing.
func TestPackage(t *testing.T) {
	need(t, "mmdebstrap", "dpkg-deb", "chroot", "lintian", "sshd", "ssh", "ssh-keygen")
	dir := t.TempDir()
	one := build(t, dir, "1.0.0")
	two, three := again(t, one, "1.1.0-rc.1"), again(t, one, "1.2.0")
	clean(t, one)
	s := debian(t)

	s.install(one)
	claimTokenIsTaken(t, s)
	s.is("streembitd --version", "streembitd version 1.0.0")
	s.is("readlink -f /usr/bin/streembitd | sed 's/-[0-9a-f]*\\//-HASH\\//'", "/opt/streembit/releases/1.0.0-HASH/streembitd")
	s.is("stat -c '%U:%G %a' /var/lib/streembit /etc/streembit /etc/streembit/streembitd.toml /opt/streembit", "streembit:streembit 700\nstreembit:streembit 750\nstreembit:streembit 640\nroot:root 755")
	s.is("id -nG streembit | tr ' ' '\\n' | sort | tr '\\n' ' '", "dialout gpio i2c spi streembit")
	s.is("cd /etc/systemd/system && ls -d */*treembit* | sort", "multi-user.target.wants/streembit-claim.service\nmulti-user.target.wants/streembit-updater.service\nmulti-user.target.wants/streembitd.service\npaths.target.wants/streembit-updater.path")
	if out := s.run("streembitd doctor --json || true"); !strings.Contains(out, `"check": "config",`+"\n"+`    "level": "ok"`) {
		t.Errorf("the config that the package brings is not one:\n%s", out)
	}
	s.run("systemd-analyze security --offline=yes --no-pager --threshold=15 streembitd.service") // with the package's drop-in, too
	if out := s.run("systemd-analyze verify --man=no streembitd.service streembit-claim.service streembit-updater.path 2>&1 || true"); strings.Contains(out, "streembit") {
		t.Errorf("systemd complains of the units:\n%s", out)
	}
	s.is("test -s /usr/share/man/man1/streembitd-doctor.1.gz -o -d /usr/share/man && test -s /usr/share/bash-completion/completions/streembitd && echo there", "there")

	// An upgrade keeps what people and the agent wrote.
	s.run("echo '# mine' >>/etc/streembit/streembitd.toml; echo key >/var/lib/streembit/key.pem; chown streembit: /var/lib/streembit/key.pem")
	s.install(two)
	s.is("readlink /opt/streembit/current | cut -d- -f1,2", "releases/1.1.0-rc.1")
	s.is("dpkg-query -W -f '${Version}' streembitd", "1.1.0~rc.1")
	s.is("tail -n 1 /etc/streembit/streembitd.toml; cat /var/lib/streembit/key.pem", "# mine\nkey")
	s.is("ls /opt/streembit/releases | wc -l", "1")

	// A release that came over the air is newer than the package: it stays.
	s.run("cp /usr/bin/streembitd /tmp/ota && echo >>/tmp/ota && /usr/lib/streembit/streembit-updater upgrade 1.5.0 /tmp/ota")
	out := s.install(three)
	if !strings.Contains(out, "a newer program is in place") {
		t.Errorf("nothing is said of the newer release:\n%s", out)
	}
	s.is("readlink /opt/streembit/current | cut -d- -f1", "releases/1.5.0")
	s.is("dpkg-query -W -f '${Version}' streembitd", "1.2.0")

	// Where the agent tells its health, a newer package goes on trial, and what ran is kept.
	s.run(`mkdir -p /var/lib/streembit/update && echo '{"run":"a","beat":1,"id":"12D3","working":true,"sensors":["a"]}' >/var/lib/streembit/update/health.json && chown -R streembit: /var/lib/streembit/update`)
	s.install(again(t, one, "1.6.0"))
	s.is("readlink /opt/streembit/current /opt/streembit/good | cut -d- -f1", "releases/1.6.0\nreleases/1.5.0")

	// Remove keeps state and config; installed again, it goes on.
	s.run("dpkg --remove streembitd </dev/null")
	s.is("ls /opt/streembit/releases /usr/bin/streembitd /usr/lib/systemd/system/streembitd.service 2>/dev/null | wc -l", "0")
	s.is("tail -n 1 /etc/streembit/streembitd.toml; cat /var/lib/streembit/key.pem", "# mine\nkey")
	s.install(three)
	s.is("readlink /opt/streembit/current | cut -d- -f1", "releases/1.2.0")
	s.is("tail -n 1 /etc/streembit/streembitd.toml; cat /var/lib/streembit/key.pem", "# mine\nkey")
	s.is("systemctl is-enabled streembitd.service", "enabled")

	// Purge leaves nothing behind.
	s.run("dpkg --purge streembitd </dev/null")
	s.is("find /etc /opt /usr /var/lib -name '*treembit*' -not -path '/var/lib/dpkg/*' | sort", "")
	firstStart(t, s, one)
	t.Run("deploy", func(t *testing.T) { deployed(t, system{t, s.root}, one, three) })
}

// The token on the boot partition of a new card goes to the agent alone, and is gone from the card; a member's card is cleaned only.
func claimTokenIsTaken(t *testing.T, s system) {
	t.Helper()
	start := execStart(t, filepath.Join(s.root, "usr/lib/systemd/system/streembit-claim.service"))
	s.run("mkdir -p /boot/firmware/streembit && echo secret >/boot/firmware/streembit/enroll.toml")
	s.run(start)
	s.is("cat /var/lib/streembit/enroll.toml; stat -c '%U %a' /var/lib/streembit/enroll.toml; ls /boot/firmware/streembit", "secret\nstreembit 600")
	s.run("rm /var/lib/streembit/enroll.toml; touch /var/lib/streembit/fleet.cbor; echo other >/boot/firmware/streembit/enroll.toml")
	s.run(start)
	s.is("ls /var/lib/streembit /boot/firmware/streembit", "/boot/firmware/streembit:\n\n/var/lib/streembit:\nfleet.cbor")
	s.run("rm -r /boot/firmware /var/lib/streembit/fleet.cbor")
}

// firstStart is a card's first start as streembit image prepares it: package, config and token are taken, the log stays.
func firstStart(t *testing.T, s system, one string) {
	t.Helper()
	boot := filepath.Join(s.root, "boot/firmware/streembit")
	sh(t, "mkdir", "-p", boot)
	sh(t, "cp", one, filepath.Join(boot, "streembitd_1.0.0_"+runtime.GOARCH+".deb"))
	sh(t, "cp", "../../image/first/setup.sh", boot)
	s.run("cd /boot/firmware/streembit && touch streembitd_1.0.0_s390x.deb && echo secret >enroll.toml && printf 'state = \"/var/lib/streembit\"\\n# from the card\\n' >streembitd.toml")
	s.run("sh /boot/firmware/streembit/setup.sh")
	s.is("streembitd --version; tail -n 1 /etc/streembit/streembitd.toml; ls /boot/firmware/streembit", "streembitd version 1.0.0\n# from the card\nenroll.toml\nsetup.log")
	s.run(execStart(t, filepath.Join(s.root, "usr/lib/systemd/system/streembit-claim.service")))
	s.is("cat /var/lib/streembit/enroll.toml; ls /boot/firmware/streembit", "secret\nsetup.log")
	s.run("dpkg --purge streembitd </dev/null; rm -r /boot/firmware")
}

// execStart returns the shell line of a unit, as systemd would run it.
func execStart(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(strings.ReplaceAll(string(text), "\\\n", " "), "ExecStart=/bin/sh -ec '")
	line, _, end := strings.Cut(line, "'\n")
	if !ok || !end {
		t.Fatalf("%s has no line of the shell:\n%s", path, text)
	}
	return strings.ReplaceAll(line, "$$", "$")
}

// clean wants that lintian finds nothing that has no reason.
func clean(t *testing.T, path string) {
	t.Helper()
	if out := sh(t, "lintian", "--allow-root", "--fail-on", "error,warning", path); strings.TrimSpace(out) != "" {
		t.Errorf("lintian:\n%s", out)
	}
}
