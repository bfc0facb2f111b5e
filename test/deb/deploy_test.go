// SPDX-License-Identifier: Apache-2.0

package deb_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemctl stands in for systemd, which does not run in a chroot: it starts the program as the unit would, as its user and with its config.
const systemctl = `#!/bin/sh
case "$1" in
restart)
	[ -e /run/agent.pid ] && kill "$(cat /run/agent.pid)" 2>/dev/null && sleep 1
	setpriv --reuid=streembit --regid=streembit --init-groups /opt/streembit/current/streembitd run --config /etc/streembit/streembitd.toml >/run/agent.log 2>&1 </dev/null &
	echo $! >/run/agent.pid ;;
is-active) kill -0 "$(cat /run/agent.pid)" ;;
esac
`

// sshd starts a server of our own on loopback, which lets root into the system alone. It returns the ssh command.
func sshd(t *testing.T, s system) string {
	t.Helper()
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		sh(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\n"+
		"PermitRootLogin prohibit-password\nPasswordAuthentication no\nChrootDirectory %s\n", port, dir, dir, s.root)
	hosts := fmt.Sprintf("[127.0.0.1]:%d %s", port, public)
	for name, text := range map[string]string{"conf": conf, "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(server, "-D", "-e", "-f", filepath.Join(dir, "conf"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("sshd: %s", text)
		}
	})
	ssh := fmt.Sprintf("ssh -p %d -i %s/user -o IdentitiesOnly=yes -o UserKnownHostsFile=%s/hosts -o StrictHostKeyChecking=yes -o BatchMode=yes", port, dir, dir)
	await(t, func() bool {
		return exec.Command("sh", "-c", ssh+" root@127.0.0.1 true").Run() == nil
	})
	return ssh
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited a minute in vain")
		}
	}
}

// deploy runs packaging/deploy and returns what it says.
func deploy(ssh, pack string, env ...string) (string, error) {
	c := exec.Command("bash", "packaging/deploy", "root@127.0.0.1")
	c.Dir = "../.."
	c.Env = append(append(os.Environ(), "SSH="+ssh, "PACKAGE="+pack), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// From nothing to a running agent, to the next version, and back; another architecture and an older version are refused.
func deployed(t *testing.T, s system, one, two string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.root, "usr/local/sbin/systemctl"), []byte(systemctl), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.try("kill $(cat /run/agent.pid); sleep 1") })
	s.run("echo 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' >/etc/environment")
	ssh := sshd(t, s)

	out, err := deploy(ssh, one)
	if err != nil || !strings.Contains(out, "deploy: ready: 1.0.0-") || !strings.Contains(out, "belongs to no fleet  version 1.0.0") {
		t.Fatalf("%v\n%s", err, out)
	}
	foreign := again(t, one, "1.0.1")
	sh(t, "sh", "-ec", "cd $(dirname "+foreign+") && sed -i 's/^Architecture: .*/Architecture: s390x/' tree/DEBIAN/control && dpkg-deb --root-owner-group -Zgzip -z1 --build tree "+foreign)
	if out, err := deploy(ssh, foreign); err == nil || !strings.Contains(out, "nothing was changed") {
		t.Errorf("another architecture: %v\n%s", err, out)
	}
	s.is("dpkg-query -W -f '${Version}' streembitd", "1.0.0")

	out, err = deploy(ssh, two)
	if err != nil || !strings.Contains(out, "before: 1.0.0-") {
		t.Fatalf("%v\n%s", err, out)
	}
	s.is("ls /var/cache/streembit; dpkg-deb -f /var/cache/streembit/previous.deb Version", "current.deb\nprevious.deb\n1.0.0")
	if out, err := deploy("ssh -p 1 -o BatchMode=yes -o ConnectTimeout=5", two); err == nil || !strings.Contains(out, "does not answer\ntry: ssh") {
		t.Errorf("nobody there: %v\n%s", err, out)
	}
}
