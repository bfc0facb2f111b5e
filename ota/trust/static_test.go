// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// TestStaticRepository_EveryByteCounts changes every byte of every file in five ways: its lowest bit, the bit that tells small letters from
// capitals, those that make a tab of a blank and a blank of a new line, all its bits. Nothing that was changed is proven.
func TestStaticRepository_EveryByteCounts(t *testing.T) {
	whole := loadStatic(t)
	if err := whole.prove(whole.at); err != nil {
		t.Fatal(err)
	}
	if err := whole.prove(time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, ErrExpired) {
		t.Errorf("in 2045: %v", err)
	}
	for name, file := range map[string]func(*static) *[]byte{
		"root": func(s *static) *[]byte { return &s.root }, "timestamp": func(s *static) *[]byte { return &s.timestamp },
		"snapshot": func(s *static) *[]byte { return &s.snapshot }, "targets": func(s *static) *[]byte { return &s.targets },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := whole
			good := *file(&whole)
			for i := range good {
				for _, mask := range []byte{1, 0x20, 0x29, 0x2a, 0xff} {
					bad := append([]byte(nil), good...)
					bad[i] ^= mask
					*file(&changed) = bad
					if err := changed.prove(whole.at); err == nil {
						t.Errorf("byte %d, %q as %q: proven", i, good[i], bad[i])
					}
				}
			}
			t.Logf("%d bytes, each changed in 5 ways", len(good))
		})
	}
}
