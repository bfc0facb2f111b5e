// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want cli.Code
		says string
	}{
		{nil, cli.OK, ""},
		{errors.New("odd"), cli.Failure, "try: streembit --help\n"},
		{fmt.Errorf("x: %w", cli.Usagef("y")), cli.Misuse, "try: streembit --help\n"},
		{fmt.Errorf("x: %w", cli.Try(cli.Usagef("y"), "streembit %s", "pull")), cli.Misuse, "streembit: x: y\ntry: streembit pull\n"},
		{fmt.Errorf("x: %w", transport.ErrUnreachable), cli.Unreachable, "try: streembit fleet show\n"},
		{fmt.Errorf("x: %w", collector.ErrNoHub), cli.Unreachable, "try: streembit fleet show\n"},
		{fmt.Errorf("x: %w", &transport.Refusal{Reason: transport.RefusedFull}), cli.Refused, "try: "},
		{fmt.Errorf("x: %w", fleet.ErrNotOwner), cli.Refused, "try: "},
		{fmt.Errorf("x: %w", journal.ErrTampered), cli.Unverified, "try: "},
		{judge(collector.Report{Missing: 2}), cli.Unverified, "2 segments missing"},
		{judge(collector.Report{BadCount: 1}), cli.Unverified, "bad copies, 1 in all"},
		{judge(collector.Report{}), cli.OK, ""},
	} {
		var out bytes.Buffer
		if got := outcome().Report(&out, c.err); got != c.want || !bytes.Contains(out.Bytes(), []byte(c.says)) {
			t.Errorf("%v: exit code %d, want %d; said %q, want %q in it", c.err, got, c.want, out.String(), c.says)
		}
	}
}

func TestCheckAddr(t *testing.T) {
	var id, other edge.ID
	other[0] = 1
	for addr, want := range map[string]string{
		"/ip4/192.0.2.7/tcp/32321":                       "/ip4/192.0.2.7/tcp/32321",
		"/ip4/192.0.2.7/tcp/32321/p2p/" + id.String():    "/ip4/192.0.2.7/tcp/32321",
		"/ip6/2001:db8::1/udp/1/quic-v1":                 "/ip6/2001:db8::1/udp/1/quic-v1",
		"/dns4/hub.example/tcp/32321":                    "/dns4/hub.example/tcp/32321",
		"/ip4/192.0.2.7/tcp/32321/p2p/" + other.String(): "",
		"192.0.2.7:32321":                                "",
		"/ip4/2001:db8::1/tcp/1":                         "",
		"/ip6/fe80::1%eth0/tcp/1":                        "",
		"/ip4/192.0.2.7/tcp/0":                           "",
		"/ip4/192.0.2.7/tcp/65536":                       "",
		"/ip4/192.0.2.7/udp/1":                           "",
		"/ip4/192.0.2.7/tcp":                             "",
		"/dns4//tcp/1":                                   "",
		"":                                               "",
	} {
		got, err := checkAddr(addr, id)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("checkAddr(%q) = %q, %v; want %q", addr, got, err, want)
		}
	}
}

// TestBootstrapStaysSmall adds more hubs than the fleet state names and looks that all of them are in the log.
func TestBootstrapStaysSmall(t *testing.T) {
	dir := fleetDir(t.TempDir())
	if err := os.Remove(string(dir)); err != nil {
		t.Fatal(err)
	}
	f, by, err := foundFleet(newApp(), dir, "lab", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var ids []edge.ID
	for i := range maxBootstrap + 3 {
		ids = append(ids, newTestID(t, i))
		g := fleet.Grant{Member: ids[i], Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub, Addrs: []string{fmt.Sprintf("/ip4/192.0.2.%d/tcp/32321", i+1)}}
		if f, err = enrol(f, by, g, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(f.State().Hubs); got != maxBootstrap {
		t.Errorf("the state names %d hubs, want %d", got, maxBootstrap)
	}
	if got := len(f.Hubs()); got != maxBootstrap+3 {
		t.Errorf("the log has %d hubs, want %d", got, maxBootstrap+3)
	}
	// A hub that stops being one leaves the state too.
	if f, err = enrol(f, by, fleet.Grant{Member: ids[0], Name: "hub-0", Roles: fleet.Device}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := len(f.State().Hubs); got != maxBootstrap-1 {
		t.Errorf("the state names %d hubs after one left, want %d", got, maxBootstrap-1)
	}
}

// newTestID makes a member.
func newTestID(t *testing.T, n int) edge.ID {
	t.Helper()
	key, err := fleet.LoadOrCreateKey(filepath.Join(t.TempDir(), fmt.Sprint(n)))
	if err != nil {
		t.Fatal(err)
	}
	return key.ID()
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                     {},
		"90m":                  now.Add(-90 * time.Minute),
		"2026-01-31T08:00:00Z": time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC),
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local),
	} {
		if got, err := parseSince(in, now); err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "-1h", "0s", "12"} {
		if got, err := parseSince(in, now); err == nil {
			t.Errorf("parseSince(%q) = %v, want an error", in, got)
		}
	}
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []float64
		width  int
		want   string
	}{
		{nil, 8, ""},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 8, "▁▂▃▄▅▆▇█"},
		{[]float64{5, 5, 5}, 8, "▄▄▄"},
		{[]float64{0.1, 0.1, 0.1, 0.1, 0.1}, 2, "▄▄"},
		{[]float64{-3, -3, -2}, 3, "▁▁█"},
		{[]float64{0, 0, 10, 10}, 2, "▁█"},
		{[]float64{-1, 0, 1}, 3, "▁▅█"},
		{[]float64{0, 1, 2, 3, 4, 5, 6}, 3, "▁▄█"},
	} {
		if got := sparkline(c.values, c.width); got != c.want {
			t.Errorf("sparkline(%v, %d) = %s, want %s", c.values, c.width, got, c.want)
		}
	}
}

func TestValue(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 21.0626: "21.063", 100613.25: "100 613", -123456: "-123 456", 81295269888: "81 295 269 888", 1: "1", 0.5: "0.5", -3.25: "-3.25",
		2.5e16: "2.5e+16", 0.00001: "1e-05", 0.0315: "0.0315", 12345.6: "12346", 1234567: "1 234 567"} {
		if got := value(v); got != want {
			t.Errorf("value(%v) = %s, want %s", v, got, want)
		}
	}
}

// TestReceiptsSurviveAKill reads a file that grows, and one whose last line was cut off by SIGKILL.
func TestReceiptsSurviveAKill(t *testing.T) {
	r := receipts{path: filepath.Join(t.TempDir(), "receipts")}
	if err := r.poll(); err != nil || len(r.all) != 0 {
		t.Fatalf("no file yet: %v, %v", r.all, err)
	}
	const one, two, torn = `{"chain":"c","seq":0,"readings":0,"copies":2}` + "\n", `{"chain":"c","seq":1,"readings":40,"copies":3}` + "\n", `{"chain":"c","seq":2,"rea`
	for _, step := range []struct {
		text           string
		segments, want int
	}{{one, 1, 0}, {one + two, 2, 40}, {one + two + torn, 2, 40}} {
		if err := os.WriteFile(r.path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.poll(); err != nil || len(r.all) != step.segments || r.readings() != step.want {
			t.Errorf("after %q: %d segments, %d readings, %v; want %d and %d", step.text, len(r.all), r.readings(), err, step.segments, step.want)
		}
	}
	if r.copies() != 3 {
		t.Errorf("copies = %d, want 3", r.copies())
	}
	if err := os.WriteFile(r.path, []byte(one+two+torn+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.poll(); err == nil {
		t.Error("a broken whole line was accepted")
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://me:secret@db.example/x?sslmode=off": "postgres://me@db.example/x?sslmode=off",
		"postgres://db.example/x":                       "postgres://db.example/x",
		"host=db password=secret":                       "postgres",
	} {
		if got := redact(in); got != want {
			t.Errorf("redact(%q) = %q, want %q", in, got, want)
		}
	}
}
