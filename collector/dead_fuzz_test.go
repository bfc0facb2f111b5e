// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge/collector"
)

// FuzzDeadLetters: whatever the file holds, a letter is refused and the file's whole lines stay, or it is in the file exactly once after two attempts.
func FuzzDeadLetters(f *testing.F) {
	letter := collector.DeadLetter{Chain: "c", Seq: 7, Index: 1, Name: "s/v", Value: "NaN", Why: "no number"}
	line := append(must(json.Marshal(letter)), '\n')
	for _, seed := range [][]byte{nil, line, line[:20], append(bytes.Clone(line), line[:9]...), []byte("{}\n"), []byte("no JSON\n"), []byte("1"), []byte("\n\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, before []byte) {
		path := filepath.Join(t.TempDir(), "dead.jsonl")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		whole := before[:bytes.LastIndexByte(before, '\n')+1]
		var err error
		for range 2 {
			err = collector.NewDeadLetters(path).Put([]collector.DeadLetter{letter})
		}
		after := must(os.ReadFile(path))
		if !bytes.HasPrefix(after, whole) {
			t.Fatalf("lines are gone: %q became %q", before, after)
		}
		if err != nil {
			return
		}
		n := 0
		for dec := json.NewDecoder(bytes.NewReader(after)); dec.More(); {
			var l collector.DeadLetter
			if err := dec.Decode(&l); err != nil {
				t.Fatalf("taken, and not readable: %v: %q", err, after)
			}
			if l.Chain == letter.Chain && l.Seq == letter.Seq && l.Index == letter.Index {
				n++
			}
		}
		if n == 0 {
			t.Errorf("the letter is not in the file: %q", after)
		}
		if !bytes.Equal(after, whole) && n > 1 { // it was not there before
			t.Errorf("the letter was added %d times: %q", n, after)
		}
	})
}
