// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

var update = flag.Bool("update", false, "record the golden files anew")

// The golden files are made with these: fixed keys, so that a reader in another language can open them.
var (
	testFleet = journal.FleetID(bytes.Repeat([]byte{0xf1}, 16))
	testBoot  = journal.BootID(bytes.Repeat([]byte{0xb0}, 16))
)

func testKey(seed byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
}

func testReader(t testing.TB, seed byte) journal.ReaderKey {
	t.Helper()
	k, err := journal.NewReaderKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readers(t testing.TB, keys ...journal.ReaderKey) []journal.Reader {
	t.Helper()
	out := make([]journal.Reader, 0, len(keys))
	for _, k := range keys {
		r, err := journal.NewReader(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func testChain(seed byte) journal.Chain {
	return journal.Chain{Fleet: testFleet, Device: testKey(seed).ID(), Stream: "main", Incarnation: journal.Incarnation(bytes.Repeat([]byte{0x1c}, 16))}
}

func stamp(mono, wall int64) journal.Stamp {
	return journal.Stamp{Boot: testBoot, At: edge.Instant{Mono: mono, Wall: wall}}
}

// newWriter begins the chain of testKey(1) with an epoch for the reader with seed 9 and the recovery key with seed 8.
func newWriter(t testing.TB) (*journal.Writer, *journal.Segment) {
	t.Helper()
	w, err := journal.ResumeWriter(testChain(1), nil, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	return w, commit(t, w)(w.Epoch(readers(t, testReader(t, 8), testReader(t, 9)), nil, stamp(1000, 0)))
}

// commit returns a function that takes what a Writer's method returns.
func commit(t testing.TB, w *journal.Writer) func(*journal.Segment, error) *journal.Segment {
	t.Helper()
	return func(s *journal.Segment, err error) *journal.Segment {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(s); err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// keyring knows the epochs that the segments start.
func keyring(t testing.TB, epochs ...*journal.Segment) *journal.Keyring {
	t.Helper()
	k := journal.NewKeyring(testReader(t, 9))
	for _, e := range epochs {
		if _, err := k.Learn(e); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// weather is n readings of a bme280 and a host sensor, one round each 10 s, that move as weather and a small board do.
func weather(n int, wall int64) []edge.Reading {
	r := rand.New(rand.NewPCG(1, 2))
	quantities := []struct {
		sensor, name, unit string
		value, step, scale float64 // where it starts, how it moves, its resolution
	}{
		{"bme280-0", "temperature", "Cel", 21.37, 0.02, 100},
		{"bme280-0", "humidity", "%RH", 45.2, 0.1, 1024},
		{"bme280-0", "pressure", "Pa", 100653.3, 1.5, 256},
		{"host", "load", "/", 0.12, 0.05, 100},
		{"host", "memory-free", "B", 312 << 20, 65536, 1.0 / 4096},
		{"host", "temperature", "Cel", 48.312, 0.2, 1000},
	}
	out := make([]edge.Reading, 0, n)
	for mono := int64(3_600_000); ; mono += 10_000 {
		for i := range quantities {
			q := &quantities[i]
			q.value = math.Abs(q.value + r.NormFloat64()*q.step)
			at := edge.Instant{Mono: mono + 137*int64(i/3)}
			if wall != 0 {
				at.Wall = wall + at.Mono
			}
			out = append(out, edge.Reading{Sensor: q.sensor, At: at, Sample: edge.Sample{
				Quantity: edge.Quantity{Name: q.name, Unit: q.unit}, Value: math.Round(q.value*q.scale) / q.scale}})
			if len(out) == n {
				return out
			}
		}
	}
}

// record writes a golden file: hexadecimal, 32 bytes a line.
func record(t testing.TB, name string, data []byte) {
	t.Helper()
	var b strings.Builder
	for line := range slices.Chunk(data, 32) {
		b.WriteString(hex.EncodeToString(line) + "\n")
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".golden"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// golden returns the recorded bytes of name.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
