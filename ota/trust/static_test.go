// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// static is the repository of the public conformance suite.
type static struct {
	root, timestamp, snapshot, targets []byte
	at                                 time.Time // at which it is valid
}

func loadStatic(t *testing.T) static {
	t.Helper()
	dir := os.Getenv("STREEMBIT_TUF_STATIC")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "tuf-on-ci-0.11")
	}
	if _, err := os.Stat(dir); err != nil {
		const loud = "NOT CHECKED: the static TUF repository of tuf-conformance is not there (%v): put it there, or name it in $STREEMBIT_TUF_STATIC"
		if os.Getenv("CI") == "true" || os.Getenv("STREEMBIT_TUF_STATIC") != "" {
			t.Fatalf(loud, err)
		}
		t.Skipf(loud, err)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	at, err := time.Parse("2006-01-02 15:04:05-07:00", strings.TrimSpace(string(read("faketime"))))
	if err != nil {
		t.Fatal(err)
	}
	if string(read("initial_root.json")) != string(read("metadata/1.root.json")) {
		t.Fatal("the repository's chain of roots is longer than one: follow it")
	}
	return static{read("metadata/1.root.json"), read("metadata/timestamp.json"), read("metadata/2.snapshot.json"), read("metadata/1.targets.json"), at}
}

// prove judges the four files, as Open and Artifacts judge what they hold, at a time.
func (s static) prove(at time.Time) error {
	h := held{Roots: [][]byte{s.root}, Proven: &complete{s.timestamp, s.snapshot, s.targets}}
	p, err := h.prove()
	if err == nil && at.After(p.expires) {
		return ErrExpired
	}
	return err
}

// TestStaticRepository_Delegates: by the front door the same files are refused for the one thing that is off here, and for nothing else.
func TestStaticRepository_Delegates(t *testing.T) {
	s := loadStatic(t)
	store, err := Open(t.TempDir(), s.root, func() (time.Time, bool) { return s.at, true })
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{timestampName: s.timestamp, snapshotName(2): s.snapshot, targetsName(1): s.targets}
	if err := store.Refresh(t.Context(), fetcherOf(files)); !errors.Is(err, ErrDelegation) {
		t.Errorf("refresh: %v", err)
	}
}

type fetcherOf map[string][]byte

func (f fetcherOf) Fetch(_ context.Context, name string, _ int64) ([]byte, error) {
	if data, ok := f[name]; ok {
		return data, nil
	}
	return nil, ErrNotFound
}

// TestStaticRepository_EveryByteCounts changes every byte of every file in three ways: its lowest bit, the bit that tells small letters from
// capitals, or all its bits; of blanks and new lines it makes tabs and blanks. Nothing that was changed is proven.
func TestStaticRepository_EveryByteCounts(t *testing.T) {
	whole := loadStatic(t)
	if err := whole.prove(whole.at); err != nil {
		t.Fatal(err)
	}
	if err := whole.prove(time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, ErrExpired) {
		t.Errorf("in 2045: %v", err)
	}
	upTo := func(n int) *trustedmetadata.TrustedMetadata { // with the files before the n-th
		set, err := newChain([][]byte{whole.root})
		if n > 1 {
			err = errors.Join(err, addTimestamp(set, whole.timestamp))
		}
		if n > 2 {
			err = errors.Join(err, addSnapshot(set, whole.snapshot))
		}
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	// What is refused leaves the set as it was, so that one serves for all changes of a file.
	for n, c := range []struct {
		name  string
		good  []byte
		judge func(set *trustedmetadata.TrustedMetadata, data []byte) error
	}{
		{"root", whole.root, func(_ *trustedmetadata.TrustedMetadata, data []byte) error { return CheckRoots(data) }},
		{"timestamp", whole.timestamp, addTimestamp}, {"snapshot", whole.snapshot, addSnapshot}, {"targets", whole.targets, addTargets},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := upTo(n)
			for i := range c.good {
				masks := []byte{1, 0x20, 0xff}
				if c.good[i] == ' ' || c.good[i] == '\n' {
					masks = []byte{1, 0x29, 0x2a}
				}
				for _, mask := range masks {
					bad := append([]byte(nil), c.good...)
					bad[i] ^= mask
					if err := c.judge(set, bad); err == nil {
						t.Errorf("byte %d, %q as %q: proven", i, c.good[i], bad[i])
						set = upTo(n)
					}
				}
			}
			if err := c.judge(set, c.good); err != nil {
				t.Errorf("unchanged, after all that: %v", err)
			}
			t.Logf("%d bytes, each changed in 3 ways", len(c.good))
		})
	}
}
