// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

var update = flag.Bool("update", false, "record the golden files anew")

var now = time.UnixMilli(1_760_000_000_000)

func key(seed byte) journal.SoftKey {
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
}

func id(seed byte) edge.ID { return key(seed).ID() }

// by is an author with a log of its own; an owner's life does not count.
func by(seed byte) fleet.Author {
	return fleet.Author{Key: key(seed), Life: journal.Incarnation{seed, 1}}
}

func reader(t testing.TB, seed byte) journal.ReaderKey {
	t.Helper()
	k, err := journal.NewReaderKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// founding: owner 1, spare 2, recovery key 8.
func founding(t testing.TB) fleet.Founding {
	t.Helper()
	return fleet.Founding{Name: "orchard", Owner: key(1), Spare: id(2), Recovery: reader(t, 8).Public(), Hubs: []fleet.Bootstrap{
		{ID: id(11), Addrs: []string{"/ip4/203.0.113.11/tcp/32321"}, Site: "barn"}}}
}

func found(t testing.TB) *fleet.Fleet {
	t.Helper()
	return must(fleet.Found(founding(t), now))(t)
}

// must returns a function that takes the test, so that a call with two results can stand in one line.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func hub(seed byte) fleet.Grant {
	return fleet.Grant{Member: id(seed), Name: fmt.Sprint("hub-", seed), Roles: fleet.Hub, Site: "barn"}
}

func device(seed byte) fleet.Grant {
	return fleet.Grant{Member: id(seed), Name: fmt.Sprint("device-", seed), Roles: fleet.Device}
}

func collector(t testing.TB, seed byte, streams ...string) fleet.Grant {
	t.Helper()
	if len(streams) == 0 {
		streams = []string{"*"}
	}
	return fleet.Grant{Member: id(seed), Name: fmt.Sprint("collector-", seed), Roles: fleet.Collector, Reader: reader(t, seed).Public(),
		Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: streams}}}
}

// open proves a bundle of the parts.
func open(t testing.TB, states, log [][]byte) (*fleet.Fleet, error) {
	t.Helper()
	b := fleet.Bundle{States: states, Logs: [][][]byte{}}
	if len(log) > 0 {
		b.Logs = append(b.Logs, log)
	}
	return fleet.Open(must(b.Encode())(t), journal.FleetID{})
}

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

func golden(t testing.TB, name string) []byte {
	t.Helper()
	text := must(os.ReadFile(filepath.Join("testdata", name+".golden")))(t)
	return must(hex.DecodeString(strings.ReplaceAll(string(text), "\n", "")))(t)
}
