// SPDX-License-Identifier: Apache-2.0

// Package swarm runs the built programs as a small fleet on loopback, for the tests and benchmarks that look at Streembit
// edge from outside: real processes, real sockets, real disks.
package swarm

import (
	"bufio"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/freeport"
	"github.com/streembit/edge/journal"
)

// Swarm is a fleet whose members are processes. It belongs to one test and one goroutine.
type Swarm struct {
	Dir    string
	Owner  journal.SoftKey
	Fleet  *fleet.Fleet
	Hubs   []*Member
	Device *Member
	Reader *Member // the collector: its key is granted before the device starts, it has no process of its own

	tb testing.TB
}

// Member is one member: its state folder, its config and, while it runs, its process.
type Member struct {
	Name, State, Config string
	ID                  edge.ID
	Addr                string // a hub's multiaddr
	Log                 *Buffer

	proc *process
}

// New founds a fleet of hubs on two sites, one device and one collector, and writes their folders and configs.
// deviceConfig is added to the device's config. Nothing runs yet.
func New(tb testing.TB, hubs int, deviceConfig string) *Swarm {
	tb.Helper()
	s := &Swarm{Dir: tb.TempDir(), Owner: softKey(tb), tb: tb}
	recovery, err := journal.GenerateReaderKey()
	check(tb, err)
	s.Fleet, err = fleet.Found(fleet.Founding{Name: "lab", Owner: s.Owner, Spare: softKey(tb).ID(), Recovery: recovery.Public()}, time.Now())
	check(tb, err)
	for i := range hubs {
		s.Hubs = append(s.Hubs, s.enrol(fmt.Sprintf("hub%d", i), fleet.Hub, fmt.Sprintf("site%d", i%2)))
	}
	s.Device = s.enrol("device0", fleet.Device, "")
	s.Reader = s.enrol("collector0", fleet.Collector, "")
	for _, h := range s.Hubs {
		s.Configure(h, "")
	}
	s.Configure(s.Device, deviceConfig)
	for _, m := range append([]*Member{s.Device, s.Reader}, s.Hubs...) {
		check(tb, s.Fleet.Save(filepath.Join(m.State, "fleet.cbor")))
	}
	return s
}

// Bare returns a swarm without a fleet: its members are added with Add and enrol as real ones do.
func Bare(tb testing.TB) *Swarm {
	tb.Helper()
	return &Swarm{Dir: tb.TempDir(), tb: tb}
}

// Add makes the folder and the config of somebody who belongs to no fleet and listens on loopback. The folder's key is made by streembitd id, whose
// other flags may be given.
func (s *Swarm) Add(name, config string, idFlags ...string) *Member {
	s.tb.Helper()
	m := &Member{Name: name, State: filepath.Join(s.Dir, name), Config: filepath.Join(s.Dir, name+".toml"), Log: &Buffer{}}
	m.Addr = "/ip4/127.0.0.1/tcp/" + freePort(s.tb)
	text := fmt.Sprintf("state = %q\nclock = \"always\"\nlisten = [%q]\n%s", m.State, m.Addr, config)
	check(s.tb, os.WriteFile(m.Config, []byte(text), 0o600))
	m.ID = s.Identity(m, idFlags...)
	return m
}

// Identity asks streembitd for a member's id, which may have changed.
func (s *Swarm) Identity(m *Member, idFlags ...string) edge.ID {
	s.tb.Helper()
	stdout, stderr, code := s.Run("streembitd", append([]string{"id", "--json", "--state", m.State}, idFlags...)...)
	if code != 0 {
		s.tb.Fatalf("streembitd id of %s exited with %d: %s", m.Name, code, stderr)
	}
	var id struct{ ID edge.ID }
	check(s.tb, json.Unmarshal([]byte(stdout), &id))
	return id.ID
}

func (s *Swarm) enrol(name string, role fleet.Role, site string) *Member {
	s.tb.Helper()
	m := &Member{Name: name, State: filepath.Join(s.Dir, name), Config: filepath.Join(s.Dir, name+".toml"), Log: &Buffer{}}
	check(s.tb, os.MkdirAll(m.State, 0o700))
	key, err := fleet.LoadOrCreateKey(filepath.Join(m.State, "key.pem"))
	check(s.tb, err)
	m.ID = key.ID()
	g := fleet.Grant{Member: m.ID, Name: name, Roles: role, Site: site}
	switch role {
	case fleet.Hub:
		m.Addr = "/ip4/127.0.0.1/tcp/" + freePort(s.tb)
		g.Addrs = []string{m.Addr}
	case fleet.Collector:
		rk, err := fleet.LoadOrCreateReaderKey(filepath.Join(m.State, "reader.pem"))
		check(s.tb, err)
		g.Reader = rk.Public()
		g.Rights = []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}
	}
	s.Fleet, err = s.Fleet.Grant(fleet.Author{Key: s.Owner}, time.Now(), g)
	check(s.tb, err)
	return m
}

// FastSensors is device config that gives some 100 readings per second in three segments or so.
const FastSensors = `
[[stream]]
name = "main"
batch_age = "300ms"
[[sensor]]
name = "door"
driver = "gpio"
pin = "GPIO17"
interval = "10ms"
[[sensor]]
name = "bme280-0"
driver = "bme280"
interval = "1s"
[[sensor]]
name = "machine"
driver = "host"
interval = "1s"
`

// Configure writes a member's config; extra is added at its end.
func (s *Swarm) Configure(m *Member, extra string) {
	s.tb.Helper()
	text := fmt.Sprintf("state = %q\nclock = \"always\"\n", m.State)
	if m.Addr != "" {
		text += fmt.Sprintf("roles = [\"hub\"]\nlisten = [%q]\n", m.Addr)
	} else {
		text += fmt.Sprintf("roles = [\"device\"]\n[board]\nname = \"sim\"\n[outbox]\nreceipts = %q\n", s.receiptsPath())
	}
	check(s.tb, os.WriteFile(m.Config, []byte(text+extra), 0o600))
}

func (s *Swarm) receiptsPath() string { return filepath.Join(s.Dir, "receipts.jsonl") }

// Receipts returns what the device noted as published.
func (s *Swarm) Receipts() []agent.ReceiptNote {
	s.tb.Helper()
	return ReadReceipts(s.tb, s.receiptsPath())
}

// ReadReceipts reads a receipts file; none is an empty one. A line that a kill tore is left out.
func ReadReceipts(tb testing.TB, path string) []agent.ReceiptNote {
	tb.Helper()
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	check(tb, err)
	defer func() { _ = f.Close() }()
	var notes []agent.ReceiptNote
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var n agent.ReceiptNote
		if json.Unmarshal(lines.Bytes(), &n) == nil {
			notes = append(notes, n)
		}
	}
	check(tb, lines.Err())
	return notes
}

// AwaitReceipts waits until the device has had n segments of readings acknowledged and returns all its receipts.
func (s *Swarm) AwaitReceipts(n int) []agent.ReceiptNote {
	s.tb.Helper()
	var have []agent.ReceiptNote
	WaitFor(s.tb, fmt.Sprintf("%d published segments of readings", n), func() error {
		have = s.Receipts()
		k := 0
		for _, r := range have {
			if r.Readings > 0 {
				k++
			}
		}
		if k < n {
			return fmt.Errorf("%d so far", k)
		}
		return nil
	})
	return have
}

func softKey(tb testing.TB) journal.SoftKey {
	tb.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	check(tb, err)
	return journal.NewSoftKey(priv)
}

func freePort(tb testing.TB) string {
	tb.Helper()
	ports, err := freeport.Find(1)
	check(tb, err)
	return ports[0]
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
