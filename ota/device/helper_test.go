// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/rollout"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/ota/trust"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(seed byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)))
}

// world is a fleet, its records, metadata that name programs, and one device's surroundings.
type world struct {
	t        *testing.T
	fleet    *fleet.Fleet
	owner    journal.SoftKey
	operator journal.SoftKey
	self     journal.SoftKey
	programs map[ota.Version][]byte

	mu      sync.Mutex
	shelf   *records.Shelf
	down    bool // the network
	meta    metadata
	slots   installer
	alarms  map[string]string
	audit   []string
	free    int64
	now     time.Time
	right   bool // the clock
	sources []swarm.Peer
}

// metadata stands for proven TUF metadata: package trust has its own tests.
type metadata struct {
	all []ota.Artifact
	err error
}

func (w *world) Refresh(context.Context, trust.Fetcher) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.meta.err
}

func (w *world) Artifacts() ([]ota.Artifact, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.meta.all), w.meta.err
}

func (w *world) Files() (map[string][]byte, error) {
	return map[string][]byte{"timestamp.json": []byte("{}")}, nil
}

// installer is what takes programs.
type installer struct {
	taken   []string
	outcome ota.Progress
	failed  map[[32]byte]bool
	err     error
}

func (w *world) HandOver(a ota.Artifact, files map[string][]byte, path string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	got, err := os.ReadFile(path)
	if err = errors.Join(err, w.slots.err); err != nil {
		return err
	}
	if sha256.Sum256(got) != a.Hash || len(files) == 0 {
		w.t.Errorf("%s: %d bytes that are not the program", a.Path, len(got))
	}
	w.slots.taken = append(w.slots.taken, a.Path)
	return nil
}

func (w *world) Outcome() (ota.Progress, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots.outcome, nil
}

func (w *world) Failed(hash [32]byte) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots.failed[hash], nil
}

var errDown = errors.New("no hub answers")

func (w *world) Record(_ context.Context, key string) (records.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return records.Record{}, errDown
	}
	r, there := w.shelf.Get(key)
	if !there {
		return r, records.ErrNone
	}
	return r, nil
}

func (w *world) PutRecord(_ context.Context, key string, raw []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return errDown
	}
	_, _, err := w.shelf.Put(key, raw)
	return err
}

func (w *world) Sources(chunks.Hash) func(context.Context) []swarm.Peer {
	return func(context.Context) []swarm.Peer {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.sources)
	}
}

// Have and the others make the world a source of its programs.
func (w *world) Have(_ context.Context, tree chunks.Hash) (swarm.Holding, error) {
	b, _, err := w.program(tree)
	if err != nil {
		return swarm.Holding{}, err
	}
	h := swarm.Holding{Have: chunks.NewBitmap(chunks.Count(int64(len(b))))}
	for i := range chunks.Count(int64(len(b))) {
		h.Have.Set(i)
	}
	return h, nil
}

func (w *world) program(tree chunks.Hash) ([]byte, chunks.List, error) {
	for _, b := range w.programs {
		if l, _, _ := chunks.ListOf(bytes.NewReader(b)); l.Tree() == tree {
			return b, l, nil
		}
	}
	return nil, nil, chunks.ErrNotKnown
}

func (w *world) Chunks(_ context.Context, tree chunks.Hash) ([]byte, error) {
	_, l, err := w.program(tree)
	return l.Bytes(), err
}

func (w *world) Chunk(ctx context.Context, tree chunks.Hash, i int, _ []byte) ([]byte, error) {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b, _, err := w.program(tree)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(b[i*chunks.Size : min(len(b), (i+1)*chunks.Size)]), nil
}

// newWorld has versions 1.4.0 and 1.5.0 for amd64.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, owner: key(1), operator: key(2), self: key(3), programs: map[ota.Version][]byte{}, alarms: map[string]string{}, free: 1 << 40,
		now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.Local), right: true}
	w.slots.failed = map[[32]byte]bool{}
	recovery, err := journal.GenerateReaderKey()
	ok(t, err)
	w.fleet, err = fleet.Found(fleet.Founding{Name: "test", Owner: w.owner, Spare: key(9).ID(), Recovery: recovery.Public()}, time.UnixMilli(1_700_000_000_000))
	ok(t, err)
	w.fleet, err = w.fleet.Amend(w.owner, time.UnixMilli(1_700_000_000_001), func(s *fleet.State) { s.UpdateRoot = []byte("root") })
	ok(t, err)
	w.grant(fleet.Grant{Member: w.self.ID(), Name: "device", Roles: fleet.Device, Labels: []string{"site=lab"}},
		fleet.Grant{Member: w.operator.ID(), Name: "ann", Roles: fleet.Operator, Rights: []fleet.Right{{Do: fleet.Update, On: []string{"*"}, What: []string{"stable"}}}})
	w.shelf, err = records.OpenShelf("", func() *fleet.Fleet { return w.fleet })
	ok(t, err)
	w.sources = []swarm.Peer{{ID: key(8).ID(), Source: w}}
	w.add("1.4.0", 3*chunks.Size-5)
	w.add("1.5.0", 4*chunks.Size-9)
	return w
}

func (w *world) grant(all ...fleet.Grant) {
	w.t.Helper()
	f, err := w.fleet.Grant(fleet.Author{Key: w.owner}, time.UnixMilli(1_700_000_000_002), all...)
	ok(w.t, err)
	w.fleet = f
}

// add puts a program into the metadata.
func (w *world) add(v ota.Version, size int) *ota.Artifact {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(v))).Read(b)
	w.programs[v] = b
	l, n, err := chunks.ListOf(bytes.NewReader(b))
	ok(w.t, err)
	w.meta.all = append(w.meta.all, ota.Artifact{Path: fmt.Sprintf("streembitd/%s/linux-amd64", v), Version: v, Channel: "stable", Arch: "amd64",
		Size: n, Hash: sha256.Sum256(b), Tree: l.Tree()})
	return &w.meta.all[len(w.meta.all)-1]
}

// roll puts a rollout of 1.5.0 to everybody, changed by turn.
func (w *world) roll(number uint64, by journal.SoftKey, turn func(*rollout.Rollout)) {
	w.t.Helper()
	r := &rollout.Rollout{Channel: "stable", Release: "1.5.0", Previous: "1.4.0", Since: 1, Waves: []rollout.Wave{{On: []string{"*"}, Percent: 100, Healthy: 90}}}
	if turn != nil {
		turn(r)
	}
	body, err := r.Encode()
	ok(w.t, err)
	key := records.Key(records.Rollout, "stable")
	raw, err := records.Sign(by, w.fleet.ID(), key, number, body)
	ok(w.t, err)
	_, _, err = w.shelf.Put(key, raw)
	ok(w.t, err)
}

func (w *world) options(dir string) device.Options {
	w.t.Helper()
	store, err := chunks.Open(filepath.Join(dir, "chunks"), 1<<30)
	ok(w.t, err)
	w.t.Cleanup(func() { ok(w.t, store.Close()) })
	log := slog.New(slog.DiscardHandler)
	o := device.Options{Dir: dir, Signer: w.self, Fleet: func() *fleet.Fleet { return w.fleet }, Machine: ota.Machine{Arch: "amd64", Board: "pc"}, Running: "1.4.0",
		Channel: "stable", Trust: func([]byte) (device.Metadata, error) { return w, nil }, Net: w, Depot: device.NewDepot(store, w.self.ID(), 0, log), Announce: true, Logger: log,
		Slots: w,
		Clock: func() (time.Time, bool) { w.mu.Lock(); defer w.mu.Unlock(); return w.now, w.right },
		Free:  func() int64 { w.mu.Lock(); defer w.mu.Unlock(); return w.free },
		Raise: func(kind, text string) { w.mu.Lock(); defer w.mu.Unlock(); w.alarms[kind] = text },
		Clear: func(kind string) { w.mu.Lock(); defer w.mu.Unlock(); delete(w.alarms, kind) },
		Note: func(event, what, _ string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.audit = append(w.audit, event+" "+what)
		}}
	return o
}

// run starts an updater that ends with the test or when stop is called.
func (w *world) run(o device.Options) (u *device.Updater, stop func()) {
	w.t.Helper()
	u, err := device.New(o)
	ok(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = u.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return u, stop
}

// after lets time pass.
func after(d time.Duration) { time.Sleep(d) }

func (w *world) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.slots.taken)
}

func (w *world) raised() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.alarms)
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// told is what the fleet knows of the device.
func (w *world) told() (ota.Progress, uint64) {
	w.t.Helper()
	r, err := w.Record(context.Background(), records.Key(records.Progress, w.self.ID().String()))
	if err != nil {
		return ota.Progress{}, 0
	}
	p, err := device.ParseProgress(r.Body)
	ok(w.t, err)
	return p, r.Version
}

var _ swarm.Source = (*world)(nil)

func peerOf(w *world) swarm.Peer { return swarm.Peer{ID: key(8).ID(), Source: w} }

// bundleOf is a bundle with all programs, of which the last may be changed.
func bundleOf(t *testing.T, w *world, spoil bool) *trust.Bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.tar")
	f, err := os.Create(path)
	ok(t, err)
	var trees [][32]byte
	for _, a := range w.meta.all {
		trees = append(trees, a.Tree)
	}
	ok(t, trust.WriteBundle(f, map[string][]byte{"timestamp.json": []byte("{}")}, trees, func(tree [32]byte) (io.ReadCloser, int64, error) {
		b, _, err := w.program(tree)
		if b = bytes.Clone(b); spoil {
			b[100] ^= 1
		}
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), err
	}))
	ok(t, f.Close())
	b, err := trust.OpenBundle(path)
	ok(t, err)
	return b
}
