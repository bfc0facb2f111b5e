// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// world is a fleet's release folder with its keys, what the network has of it, and a clock.
type world struct {
	t                            *testing.T
	repo                         *repo.Repo
	roots                        [3]journal.SoftKey
	targets, snapshot, timestamp journal.SoftKey
	now                          time.Time
	right                        bool // whether the devices' clock is
	pinned                       []byte
	net                          network
}

// network is a Fetcher that remembers what it was asked for.
type network struct {
	files map[string][]byte
	asked map[string]int64 // limits, by name
}

func (n *network) Fetch(_ context.Context, name string, limit int64) ([]byte, error) {
	n.asked[name] = limit
	data, ok := n.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, trust.ErrNotFound)
	}
	return data, nil
}

func key(n byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

func ids(keys ...journal.SoftKey) (all []edge.ID) {
	for _, k := range keys {
		all = append(all, k.ID())
	}
	return all
}

// newWorld has a root that 2 of 3 sign, and release 1.0.0 for arm64.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, roots: [3]journal.SoftKey{key(1), key(2), key(3)}, targets: key(4), snapshot: key(5), timestamp: key(6),
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), right: true,
		net: network{files: map[string][]byte{}, asked: map[string]int64{}}}
	q, err := repo.FirstRoot(w.roles(), w.now)
	w.must(err)
	w.accept(q, t.TempDir(), w.roots[0], w.roots[1])
	w.pinned, err = w.repo.Root()
	w.must(err)
	w.release("1.0.0", "arm64")
	w.publish()
	return w
}

func (w *world) roles() repo.Roles {
	return repo.Roles{Root: repo.Role{Keys: ids(w.roots[:]...), Threshold: 2}, Targets: repo.Role{Keys: ids(w.targets), Threshold: 1},
		Snapshot: repo.Role{Keys: ids(w.snapshot), Threshold: 1}, Timestamp: repo.Role{Keys: ids(w.timestamp), Threshold: 1}}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) accept(q *repo.Request, dir string, keys ...journal.SoftKey) {
	w.t.Helper()
	for _, k := range keys {
		w.must(q.Sign(k))
	}
	r, err := q.Accept(dir)
	w.must(err)
	w.repo = r
}

// rotate puts a new root in force.
func (w *world) rotate(change func(*repo.Roles), keys ...journal.SoftKey) {
	w.t.Helper()
	q, err := w.repo.NextRoot(w.now, func(r *repo.Roles) error { change(r); return nil })
	w.must(err)
	w.accept(q, filepath.Dir(w.repo.Metadata()), keys...)
}

// release signs a program whose content differs by version and machine.
func (w *world) release(version ota.Version, arch string, more ...func(*repo.Release)) ota.Artifact {
	w.t.Helper()
	rel := repo.Release{Version: version, Channel: "stable", Notes: "for <tests> & others"}
	for _, m := range more {
		m(&rel)
	}
	file := filepath.Join(w.t.TempDir(), "program")
	w.must(os.WriteFile(file, program(version, arch), 0o755))
	a, err := w.repo.Add(rel, file, w.now)
	w.must(err)
	w.sign()
	return a
}

func (w *world) sign() {
	w.t.Helper()
	if done, err := w.repo.Sign(w.now, w.targets, w.snapshot, w.timestamp); err != nil || !done {
		w.t.Fatal(done, err)
	}
}

// program is the least that looks like one for the architecture.
func program(version ota.Version, arch string) []byte {
	machine := map[string]uint16{"arm64": 183, "arm": 40, "amd64": 62, "riscv64": 243}[arch]
	class, size := byte(2), 64
	if arch == "arm" {
		class, size = 1, 52
	}
	h := make([]byte, size)
	copy(h, []byte{0x7f, 'E', 'L', 'F', class, 1, 1})
	binary.LittleEndian.PutUint16(h[16:], 2)
	binary.LittleEndian.PutUint16(h[18:], machine)
	binary.LittleEndian.PutUint32(h[20:], 1)
	binary.LittleEndian.PutUint16(h[size-12:], uint16(size))
	return append(h, bytes.Repeat([]byte(version), 1000)...)
}

// publish lets the network have what is signed, as one who took it from there anew would.
func (w *world) publish() {
	w.t.Helper()
	files, err := w.repo.Files()
	w.must(err)
	maps.Copy(w.net.files, files)
}

// open returns a device's store.
func (w *world) open(dir string) *trust.Store {
	w.t.Helper()
	s, err := trust.Open(dir, w.pinned, func() (time.Time, bool) {
		if !w.right {
			return time.Unix(0, 0), false
		}
		return w.now, true
	})
	w.must(err)
	w.must(s.Damaged())
	return s
}

// device returns a store that has all there is.
func (w *world) device() *trust.Store {
	w.t.Helper()
	s := w.open(w.t.TempDir())
	w.must(s.Refresh(w.t.Context(), &w.net))
	return s
}

// versions returns what a store names.
func (w *world) versions(s *trust.Store) (all []ota.Version) {
	w.t.Helper()
	list, err := s.Artifacts()
	w.must(err)
	for _, a := range list {
		all = append(all, a.Version)
	}
	return all
}

// forge changes a file of the network and signs it with keys.
func forge[T metadata.Roles](w *world, name string, change func(*T), keys ...journal.SoftKey) []byte {
	w.t.Helper()
	m := &metadata.Metadata[T]{}
	_, err := m.FromBytes(w.net.files[name])
	w.must(err)
	change(&m.Signed)
	m.Signatures = []metadata.Signature{}
	payload, err := cjson.EncodeCanonical(m.Signed)
	w.must(err)
	for _, k := range keys {
		name, err := tufKey(k.ID()).ID()
		w.must(err)
		sig, _ := k.Sign(payload)
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: name, Signature: sig})
	}
	text, err := m.ToBytes(false)
	w.must(err)
	text, err = trust.Canonical(text)
	w.must(err)
	return text
}

func tufKey(id edge.ID) *metadata.Key {
	k, err := metadata.KeyFromPublicKey(ed25519.PublicKey(id[:]))
	if err != nil {
		panic(err)
	}
	return k
}

// describe is what the file above says of a file.
func describe(version int64, text []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(text)
	return &metadata.MetaFiles{Version: version, Length: int64(len(text)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}
