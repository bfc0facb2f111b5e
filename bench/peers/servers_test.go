// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// server is a peer's server, or the servers of a cluster; clients talk to the first.
type server struct {
	addr string
	ca   string
	pids []int
}

// mosquitto starts a broker that speaks TLS 1.3 only. Its settings are the defaults but for those that keep what is
// published: persistence, and a queue without a limit.
func mosquitto(b *testing.B, r *report) *server {
	b.Helper()
	program, err := mosquittoPath()
	if err != nil {
		r.skip(b, "mosquitto is missing: apt-get install --no-install-recommends mosquitto (%v)", err)
	}
	dir := b.TempDir()
	s := &server{addr: "127.0.0.1:" + freePort(b), ca: certificate(b, dir)}
	conf := fmt.Sprintf(`persistence true
persistence_location %s/
log_type error
max_queued_messages 0
allow_anonymous true
listener %s 127.0.0.1
certfile %s
keyfile %s
tls_version tlsv1.3
`, dir, port(s.addr), s.ca, filepath.Join(dir, "key.pem"))
	if os.Getuid() == 0 {
		conf += "user root\n" // it would become another user, who cannot read the folder
	}
	file := filepath.Join(dir, "mosquitto.conf")
	must(b, os.WriteFile(file, []byte(conf), 0o600))
	s.start(b, exec.Command(program, "-c", file), s.addr)
	return s
}

// mosquittoPath looks where Debian puts it too, which is on root's path only.
func mosquittoPath() (string, error) {
	p, err := exec.LookPath("mosquitto")
	if err != nil {
		p, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	return p, err
}

// jetStream starts a nats-server, or a cluster of them, with JetStream on files; clients speak TLS, routes are plain.
// sync is its sync_interval, "" = the default of two minutes.
func jetStream(b *testing.B, r *report, servers int, sync string) *server {
	b.Helper()
	program := natsPath(b, r)
	dir := b.TempDir()
	s := &server{ca: certificate(b, dir)}
	var clients, routes []string
	for range servers {
		clients = append(clients, "127.0.0.1:"+freePort(b))
		routes = append(routes, "nats://127.0.0.1:"+freePort(b))
	}
	s.addr = clients[0]
	if sync != "" {
		sync = "sync_interval: " + sync
	}
	for i := range servers {
		conf := fmt.Sprintf(`listen: %q
server_name: n%d
tls { cert_file: %q, key_file: %q }
jetstream { store_dir: %q, max_file_store: 10G, max_memory_store: 256M, %s }
`, clients[i], i, s.ca, filepath.Join(dir, "key.pem"), filepath.Join(dir, fmt.Sprint("data", i)), sync)
		if servers > 1 {
			conf += fmt.Sprintf("cluster { name: c, listen: %q, routes: [%s] }\n",
				strings.TrimPrefix(routes[i], "nats://"), strings.Join(routes, ", "))
		}
		file := filepath.Join(dir, fmt.Sprintf("nats%d.conf", i))
		must(b, os.WriteFile(file, []byte(conf), 0o600))
		s.start(b, exec.Command(program, "-c", file), clients[i])
	}
	return s
}

// natsPath has the go command build the version that go.mod names, or take it from its cache.
func natsPath(b *testing.B, r *report) string {
	b.Helper()
	cmd := exec.Command("go", "tool", "-n", "nats-server")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.skip(b, "nats-server cannot be built: cd bench/peers && go mod download (%v: %s)", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (s *server) start(b *testing.B, cmd *exec.Cmd, addr string) {
	b.Helper()
	log := &swarm.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	must(b, cmd.Start())
	s.pids = append(s.pids, cmd.Process.Pid)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	b.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	swarm.WaitFor(b, cmd.Path, func() error {
		select {
		case <-done:
			b.Fatalf("%s ended: %s", cmd.Path, log.Tail(20))
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// certificate writes a self-signed P-256 certificate for loopback and its key.pem, and returns its path.
func certificate(b *testing.B, dir string) string {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(b, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(b, err)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		must(b, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	return filepath.Join(dir, "cert.pem")
}

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer func() { _ = l.Close() }()
	return port(l.Addr().String())
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
