// SPDX-License-Identifier: Apache-2.0

package stdout_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/stdout"
	"github.com/streembit/edge/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// batches are one batch before the device's clock was right and one after.
func batches() []collector.Batch {
	c := journal.Chain{Stream: "main", Device: edge.ID{1}}
	row := func(seq uint64, idx int, wall int64, q edge.Quantity, v float64, text string) collector.Row {
		return collector.Row{Seq: seq, Index: idx, Boot: journal.BootID{5}, Reading: edge.Reading{Sensor: "bme280-0",
			Sample: edge.Sample{Quantity: q, Value: v, Text: text}, At: edge.Instant{Mono: 7000, Wall: wall}}}
	}
	temperature := edge.Quantity{Name: "temperature", Unit: "Cel"}
	early := collector.Batch{Chain: c, Name: "roof", To: 1, Received: time.UnixMilli(1_700_000_100_000),
		Readings: []collector.Row{row(1, 0, 0, temperature, 20.125, "")}}
	note := collector.Note{Seq: 2, Clock: &journal.ClockNote{Boot: journal.BootID{5}, Mono: 7100, Wall: 1_700_000_007_100}}
	late := collector.Batch{Chain: c, Name: "roof", From: 2, To: 3, Received: time.UnixMilli(1_700_000_100_000), Notes: []collector.Note{note},
		Readings: []collector.Row{
			row(3, 0, 0, temperature, -0.5, ""),
			row(3, 1, 1_700_000_009_001, edge.Quantity{Name: "log", Kind: edge.Text}, 0, "Tür, \"门\" <auf>\n"),
			row(3, 2, 1_700_000_009_002, edge.Quantity{Name: "door", Kind: edge.State}, 1, ""),
			row(3, 3, 1_700_000_009_003, edge.Quantity{Name: "pulses", Unit: "count", Kind: edge.Counter}, 12345678901, ""),
		}}
	return []collector.Batch{early, late}
}

func write(t *testing.T, format string, since time.Time) []byte {
	t.Helper()
	var out bytes.Buffer
	s, err := stdout.New(&out, format, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches() {
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := s.Marks(t.Context()); len(m) != 0 || err != nil {
		t.Errorf("marks %v, %v", m, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for _, format := range stdout.Formats() {
		t.Run(format, func(t *testing.T) {
			got, path := write(t, format, time.Time{}), filepath.Join("testdata", "readings."+format)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestSince(t *testing.T) {
	got := string(write(t, "csv", time.UnixMilli(1_700_000_009_002)))
	if n := strings.Count(got, "\n"); n != 3 || !strings.Contains(got, "door") || !strings.Contains(got, "pulses") {
		t.Errorf("want the header and two lines:\n%s", got)
	}
}

// broken is a pipe whose reader has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestErrors(t *testing.T) {
	if _, err := stdout.New(io.Discard, "xml", time.Time{}); err == nil || !strings.Contains(err.Error(), "jsonl") {
		t.Errorf("an unknown format: %v", err)
	}
	s, err := stdout.New(broken{}, "jsonl", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), batches()[1]); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a broken pipe: %v", err)
	}
}

// TestOpen: what was written is not written again after a restart.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	var lines []int
	for n := range 2 {
		var out bytes.Buffer
		s, err := stdout.Open(t.Context(), &out, "influx", path)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range batches() {
			b.From, b.To = uint64(2*i), uint64(2*i+1)
			b.Mark = &journal.Link{Seq: b.To}
			if err := s.Write(t.Context(), b); err != nil {
				t.Fatal(n, err)
			}
		}
		if err := errors.Join(s.Ping(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Count(out.String(), "\n"))
	}
	if lines[0] != 5 || lines[1] != 0 {
		t.Errorf("%v lines, want 5 and 0", lines)
	}
}
