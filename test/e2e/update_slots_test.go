// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
	"github.com/streembit/edge/ota/trust/repo"
	"github.com/streembit/edge/test/swarm"
)

// TestUpdate_Supervised updates a real device under streembitd supervise, with real signatures: it goes on publishing with the new program, goes back by
// itself from one that crashes and from one that never gets a segment to a hub, and refuses what the pinned root did not sign.
func TestUpdate_Supervised(t *testing.T) {
	s := swarm.New(t, 1, swarm.FastSensors)
	s.Start(s.Hubs...)
	first := streembitdOf(t, "1.0.0")
	d := supervise(t, s, first)
	d.awaitVersion("1.0.0")
	s.AwaitReceipts(2)
	r := newReleases(t)
	d.update(r, "1.1.0", streembitdOf(t, "1.1.0"))
	d.await(ota.Committed, "")
	d.awaitVersion("1.1.0")
	s.AwaitReceipts(len(s.Receipts()) + 3)

	d.update(r, "1.2.0", agentOf(t, "crash", "1.2.0"))
	d.await(ota.RolledBack, ota.ReasonCrashed)
	d.awaitVersion("1.1.0")
	s.AwaitReceipts(len(s.Receipts()) + 3)

	foreign := newReleases(t) // other keys
	d.update(foreign, "1.3.0", streembitdOf(t, "1.3.0"))
	d.await(ota.Refused, ota.ReasonProof)
	d.awaitVersion("1.1.0")

	s.Kill(s.Hubs[0])
	d.update(r, "1.4.0", streembitdOf(t, "1.4.0"))
	d.await(ota.RolledBack, ota.ReasonHub)
	s.Start(s.Hubs[0])
	d.awaitVersion("1.1.0")
	s.AwaitReceipts(len(s.Receipts()) + 3)
}

// supervised is a device whose programs a supervisor runs.
type supervised struct {
	t    *testing.T
	s    *swarm.Swarm
	root string
	log  swarm.Buffer
}

func supervise(t *testing.T, s *swarm.Swarm, first string) *supervised {
	t.Helper()
	d := &supervised{t: t, s: s, root: filepath.Join(t.TempDir(), "releases")}
	cmd := exec.Command(first, "supervise", "--root", d.root, "--state", s.Device.State, "--window", "3s", "--deadline", "30s", "--every", "100ms", "--",
		"run", "--config", s.Device.Config)
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("the supervisor ended with %v", err)
		}
		if t.Failed() {
			t.Log(d.log.Tail(60))
		}
	})
	return d
}

// update hands over a release as the agent does.
func (d *supervised) update(r *releases, version ota.Version, program string) {
	d.t.Helper()
	a, files := r.add(version, program)
	f, err := os.Open(program)
	must(d.t, err)
	must(d.t, errors.Join(slots.HandOver(d.s.Device.State, slots.Request{Path: a.Path, Wanted: version,
		Baseline: slots.Baseline{ID: d.s.Device.ID.String(), Sensors: []string{"door", "bme280-0"}, Hub: true}}, files, f), f.Close()))
}

func (d *supervised) await(stage ota.Stage, reason ota.Reason) {
	d.t.Helper()
	began := time.Now()
	swarm.WaitFor(d.t, fmt.Sprint("the update to be ", stage, " ", reason), func() error {
		p, err := slots.ReadOutcome(d.root)
		if err == nil && (p.Stage != stage || p.Reason != reason) {
			err = fmt.Errorf("it is at %+v: %s", p, d.log.Tail(10))
		}
		return err
	})
	d.t.Logf("%s %s after %.1f s", stage, reason, time.Since(began).Seconds())
}

// awaitVersion waits until the device's program says that it is of a version.
func (d *supervised) awaitVersion(v string) {
	d.t.Helper()
	swarm.WaitFor(d.t, "version "+v+" to run", func() error {
		status, err := d.s.Status(d.s.Device)
		if err == nil && status["version"] != v {
			err = fmt.Errorf("version %v runs", status["version"])
		}
		return err
	})
}

// streembitdOf builds streembitd as of a version.
func streembitdOf(t *testing.T, version string) string {
	t.Helper()
	return built(t, "github.com/streembit/edge/cmd/streembitd", "-X main.version="+version)
}

func agentOf(t *testing.T, kind, version string) string {
	t.Helper()
	return built(t, "github.com/streembit/edge/ota/slots/testdata/agent", "-X main.kind="+kind+" -X main.version="+version)
}

func built(t *testing.T, program, flags string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w "+flags, "-o", at, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", program, err, out)
	}
	return at
}

// releases is an operator's release folder with all keys at hand.
type releases struct {
	t    *testing.T
	repo *repo.Repo
	keys []journal.Signer
}

func newReleases(t *testing.T) *releases {
	t.Helper()
	r := &releases{t: t}
	var ids [4]edge.ID
	for i := range ids {
		_, private, err := ed25519.GenerateKey(nil)
		must(t, err)
		k := journal.NewSoftKey(private)
		r.keys, ids[i] = append(r.keys, k), k.ID()
	}
	role := func(i int) repo.Role { return repo.Role{Keys: ids[i : i+1], Threshold: 1} }
	q, err := repo.FirstRoot(repo.Roles{Root: role(0), Targets: role(1), Snapshot: role(2), Timestamp: role(3)}, time.Now())
	must(t, err)
	must(t, q.Sign(r.keys[0]))
	r.repo, err = q.Accept(t.TempDir())
	must(t, err)
	return r
}

// add signs a program and returns all that proves it.
func (r *releases) add(version ota.Version, program string) (ota.Artifact, map[string][]byte) {
	r.t.Helper()
	a, err := r.repo.Add(repo.Release{Version: version, Channel: "stable"}, program, time.Now())
	must(r.t, err)
	if done, err := r.repo.Sign(time.Now(), r.keys[1:]...); err != nil || !done {
		r.t.Fatal(done, err)
	}
	files, err := r.repo.Files()
	must(r.t, err)
	return a, maps.Clone(files)
}
