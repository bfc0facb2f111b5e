// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"encoding/binary"
	"log/slog"
	"os"
	"testing"

	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/direct"
)

func openLedger(t *testing.T, dir string) *command.Ledger {
	t.Helper()
	l, err := command.OpenLedger(dir, slog.New(slog.DiscardHandler))
	ok(t, err)
	return l
}

// copyOf is what a power cut now would leave.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	ok(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestLedger_PowerCut: an intent is on the disk when Begin returns, an end when End does.
func TestLedger_PowerCut(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	id := direct.NewID()
	if p, err := l.Begin(direct.Intent{ID: id, Digest: [32]byte{7}, Name: "reboot"}); err != nil || p.Known {
		t.Fatalf("%+v %v", p, err)
	}
	begun := copyOf(t, dir)
	ok(t, l.End(id, direct.Outcome{Reason: direct.Failed, Detail: "why", Value: []byte{0xf6}}))
	ended := copyOf(t, dir)
	ok(t, l.Close())
	for dir, want := range map[string]*direct.Outcome{begun: nil, ended: {Reason: direct.Failed, Detail: "why"}, dir: {Reason: direct.Failed, Detail: "why"}} {
		l := openLedger(t, dir)
		p, err := l.Begin(direct.Intent{ID: id, Digest: [32]byte{8}})
		if err != nil || !p.Known || p.Digest != [32]byte{7} || (p.Ended == nil) != (want == nil) || want != nil && (p.Ended.Reason != want.Reason || p.Ended.Detail != want.Detail) {
			t.Errorf("%+v %v, want %+v", p, err, want)
		}
		ok(t, l.Close())
	}
}

// TestLedger_Bounded: however many requests there were, what is remembered is the newest, and the disk does not fill.
func TestLedger_Bounded(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(t, dir)
	const n = 5000
	name := func(i int) (id direct.RequestID) {
		binary.BigEndian.PutUint64(id[:], uint64(i))
		return id
	}
	for i := range n {
		_, err := l.Begin(direct.Intent{ID: name(i)})
		ok(t, err)
		ok(t, l.End(name(i), direct.Outcome{Value: make([]byte, 1500)}))
	}
	known := func(l *command.Ledger, i int) bool {
		p, err := l.Begin(direct.Intent{ID: name(i)})
		ok(t, err)
		return p.Known
	}
	for i := n - 1000; i < n; i++ {
		if !known(l, i) {
			t.Fatalf("request %d of %d is forgotten", i, n)
		}
	}
	if known(l, 0) {
		t.Error("the first request is remembered")
	}
	ok(t, l.Close())
	size := int64(0)
	files, err := os.ReadDir(dir)
	ok(t, err)
	for _, f := range files {
		info, err := f.Info()
		ok(t, err)
		size += info.Size()
	}
	if size > 6<<20 {
		t.Errorf("%d bytes on disk", size)
	}
	l = openLedger(t, dir)
	if !known(l, n-1) {
		t.Error("forgotten by a restart")
	}
	ok(t, l.Close())
}
