// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/streembit/edge/journal"
)

// docBlock returns the bytes of the block "```hex NAME" in docs/wire.md; what follows a semicolon is comment.
func docBlock(t *testing.T, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile("../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```hex "+name+"\n")
	block, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatalf("docs/wire.md has no block %q", name)
	}
	var digits strings.Builder
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, ";")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	raw, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("block %s: %v", name, err)
	}
	return raw
}

// The worked example of docs/wire.md is the golden files, read by the reader that uses general libraries alone.
func TestWireDocIsNotStale(t *testing.T) {
	if !bytes.Equal(docBlock(t, "header"), golden(t, "header")) {
		t.Error("block header is not header.golden: update docs/wire.md")
	}
	r := plainReader{t: t}
	h, payload := r.verify(golden(t, "epoch"))
	r.learn(h, payload, bytes.Repeat([]byte{9}, 32))
	if !bytes.Equal(docBlock(t, "epoch-key"), r.epoch) {
		t.Errorf("block epoch-key is stale: %x", r.epoch)
	}
	h, payload = r.verify(golden(t, "readings"))
	if want := docBlock(t, "pack"); !bytes.HasPrefix(r.open(h, payload), want) {
		t.Errorf("block pack is stale: %x", r.open(h, payload)[:len(want)])
	}
	doc, err := os.ReadFile("../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{testChain(1).Key().String(), testChain(1).Bucket(130).Key().DHTName(), testChain(1).String(),
		journal.TypeSegment, journal.TypeState} {
		if !bytes.Contains(doc, []byte(text)) {
			t.Errorf("docs/wire.md does not name %s", text)
		}
	}
}
