// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/store"
)

// The child of TestKilled puts segments until it is killed and says which ones were acknowledged.
const (
	childDir   = "STORE_TEST_DIR"
	childFleet = "STORE_TEST_FLEET"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := putForever(dir, os.Getenv(childFleet)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func putForever(dir, bundle string) error {
	enc, err := hex.DecodeString(bundle)
	if err != nil {
		return err
	}
	f, err := fleet.Open(enc, journal.FleetID{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, dir, store.Options{Fleet: func() *fleet.Fleet { return f }, Self: key(50).ID()})
	if err != nil {
		return err
	}
	readers, err := f.Readers(key(60).ID(), "main")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 4 {
		w, err := journal.NewWriter(f.ID(), fmt.Sprintf("s%d", i), key(60))
		if err != nil {
			return err
		}
		wg.Go(func() {
			for {
				seg, err := w.Epoch(readers, nil, journal.Stamp{At: edge.Instant{Mono: 1}})
				if err == nil {
					err = w.Commit(seg)
				}
				if err == nil {
					err = s.Put(ctx, seg.Bytes())
				}
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("acked", seg.Chain, seg.Seq, seg.Hash)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKilled: what a hub acknowledged is there after it was killed, round after round.
func TestKilled(t *testing.T) {
	w, dir := newWorld(t, 1), t.TempDir()
	bundle, err := w.fleet.Encoded()
	check(t, err)
	acked := map[string]journal.Hash{}
	for round := range 10 {
		for line := range runChild(t, dir, hex.EncodeToString(bundle), 20+round*7) {
			var chain, hash string
			var seq uint64
			if n, err := fmt.Sscanf(line, "acked %s %d %s", &chain, &seq, &hash); n != 3 {
				t.Fatalf("child says %q: %v", line, err)
			}
			raw, err := hex.DecodeString(hash)
			check(t, err)
			acked[fmt.Sprint(chain, " ", seq)] = journal.Hash(raw)
		}
		s := open(t, dir, w.options())
		held := map[string]journal.Hash{}
		all, err := s.Held(context.Background(), edge.ID{})
		check(t, err)
		for _, h := range all {
			for _, raw := range fetch(t, s, h.Chain, 0, end) {
				seg, err := journal.Open(raw, w.fleet.ID())
				check(t, err)
				held[fmt.Sprint(seg.Chain, " ", seg.Seq)] = seg.Hash
			}
		}
		for place, hash := range acked {
			if held[place] != hash {
				t.Fatalf("round %d: %s was acknowledged, held is %v", round, place, held[place])
			}
		}
		check(t, s.Close())
	}
	if len(acked) < 200 {
		t.Errorf("only %d were acknowledged in all rounds", len(acked))
	}
}

// runChild runs a child, kills it after a number of lines and yields all that it said.
func runChild(t *testing.T, dir, bundle string, lines int) func(yield func(string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childFleet+"="+bundle)
	out, err := cmd.StdoutPipe()
	check(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	check(t, cmd.Start())
	var said []string
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil { // a line that the kill cut in two does not count
			break
		}
		if said = append(said, strings.TrimSpace(line)); len(said) == lines {
			check(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // it was killed
	if len(said) < lines {
		t.Fatalf("child said %d lines: %s", len(said), stderr.String())
	}
	return func(yield func(string) bool) {
		for _, l := range said {
			if !yield(l) {
				return
			}
		}
	}
}
