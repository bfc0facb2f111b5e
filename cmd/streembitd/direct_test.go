// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet/audit"
)

// TestRecentLog: the last lines are there, and however much is logged no more than its bounds is kept.
func TestRecentLog(t *testing.T) {
	var r recentLog
	var out bytes.Buffer
	l := r.with(slog.New(slog.NewTextHandler(&out, nil)), slog.LevelInfo)
	for i := range 5000 {
		l.Info("line", "n", i, "with", strings.Repeat("x", i%700))
		l.Debug("below the level")
	}
	last := string(r.last(2))
	if strings.Count(last, "\n") != 2 || !strings.Contains(last, `"n":4998`) || !strings.Contains(last, `"n":4999`) {
		t.Errorf("the last lines: %s", last)
	}
	all := r.last(1 << 20)
	if n := bytes.Count(all, []byte("\n")); n > logLines || n < 300 || len(all) > logBytes || bytes.Contains(all, []byte("below")) {
		t.Errorf("%d lines of %d bytes are kept", n, len(all))
	}
	if strings.Count(out.String(), "\n") != 5000 {
		t.Error("the log itself is not whole")
	}
}

// TestCallRecord: who had what done stands in the audit with the signature that proves it, and who looks again and again pushes nothing out of it.
func TestCallRecord(t *testing.T) {
	state := t.TempDir()
	rec, err := openRecord(state, func() bool { return true }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, peer, signed := callRecord{rec}, edge.ID{7}, bytes.Repeat([]byte{0xd2}, 250)
	r.Called(direct.Act{Peer: peer, Op: direct.Call, Name: "reboot", Value: map[string]any{"hard": true}, Signed: signed})
	for range 1000 {
		r.Called(direct.Act{Peer: peer, Op: direct.Get, Name: "air/temperature", Looks: true})
		r.Refused(direct.Act{Peer: peer, Op: direct.Set, Name: "lamp/switch"}, &direct.Refusal{Reason: direct.NoRight})
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	_, err = audit.Read(filepath.Join(state, auditFolder), func(e audit.Event) error {
		lines[e.Event]++
		if e.Event == evCall && (e.Who != peer.String() || e.What != "reboot" || !strings.Contains(e.Detail, `{"hard":true}`) ||
			!strings.HasSuffix(e.Detail, base64.RawStdEncoding.EncodeToString(signed))) {
			t.Errorf("%+v", e)
		}
		return nil
	})
	if err != nil || lines[evCall] != 1 || lines[evLook] < 10 || lines[evLook] > 20 || lines[evBadCall] < 10 || lines[evBadCall] > 20 {
		t.Errorf("%v %v", lines, err)
	}
}

// TestSessions_NotReady: who comes before the device is ready is sent away, and does not wait.
func TestSessions_NotReady(t *testing.T) {
	var s sessions
	s.Review()
	mine, theirs := net.Pipe()
	err := s.Serve(t.Context(), theirs, edge.ID{7})
	if err == nil || !strings.Contains(fmt.Sprint(err), "not ready") {
		t.Errorf("%v", err)
	}
	if n, err := mine.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the stream is open")
	}
}
