// SPDX-License-Identifier: Apache-2.0

// Package stdout is the sink for pipes: it writes proven readings as JSON lines, CSV, SenML JSON or line protocol. What New returns
// remembers nothing, so every pull begins at seq 0; what Open returns goes on where it was.
package stdout

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/influx"
	"github.com/streembit/edge/journal"
)

// Formats are the names that New takes.
func Formats() []string { return []string{"senml", "jsonl", "csv", "influx"} }

// Sink writes to a stream. It is a collector.Sink. Readings whose clock was not right carry no time until a clock note
// of their boot has been read: what is written cannot be restamped later.
type Sink struct {
	mu     sync.Mutex
	w      *bufio.Writer
	encode func(*Sink, *collector.Batch) error
	since  time.Time
	clocks map[boot]journal.ClockNote
}

type boot struct {
	device edge.ID
	id     journal.BootID
}

// New returns a sink that writes one format: "jsonl" (an object per reading), "csv" (with a header line), "senml" (a
// SenML JSON pack per batch, RFC 8428, one pack after the other) or "influx" (line protocol, for Telegraf's execd and others; see
// influx.Lines). Readings older than since are left out; so are those without a time, unless since is zero.
func New(w io.Writer, format string, since time.Time) (*Sink, error) {
	s := &Sink{w: bufio.NewWriterSize(w, 64<<10), since: since, clocks: map[boot]journal.ClockNote{}}
	switch format {
	case "jsonl":
		s.encode = (*Sink).jsonl
	case "csv":
		s.encode = (*Sink).csv
		if _, err := s.w.WriteString("time,device,sensor,name,value,unit,seq,index,recv,id\n"); err != nil {
			return nil, fmt.Errorf("stdout: %w", err)
		}
	case "senml":
		s.encode = (*Sink).senml
	case "influx":
		s.encode = (*Sink).influx
	default:
		return nil, fmt.Errorf("stdout: format %q: want one of %v", format, Formats())
	}
	return s, nil
}

// Marks returns none.
func (s *Sink) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }

// Close writes out what is buffered; the stream stays open.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Sink) flush() error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("stdout: writing: %w", err)
	}
	return nil
}

// Write writes the readings of a batch and flushes.
func (s *Sink) Write(ctx context.Context, b collector.Batch) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stdout: writing: %w", err)
	}
	if err := b.Check(true); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Readings = s.prepare(&b)
	if len(b.Readings) == 0 {
		return nil
	}
	if err := s.encode(s, &b); err != nil {
		return fmt.Errorf("stdout: writing: %w", err)
	}
	return s.flush()
}

// prepare restamps what it can and leaves out what is too old.
func (s *Sink) prepare(b *collector.Batch) []collector.Row {
	for _, n := range b.Notes {
		if n.Clock == nil {
			continue
		}
		if k := (boot{b.Chain.Device, n.Clock.Boot}); s.clocks[k] == (journal.ClockNote{}) {
			s.clocks[k] = *n.Clock
		}
	}
	out := make([]collector.Row, 0, len(b.Readings))
	for _, r := range b.Readings {
		if c, ok := s.clocks[boot{b.Chain.Device, r.Boot}]; ok {
			r.At = c.Restamp(r.Boot, r.At)
		}
		if s.since.IsZero() || !r.At.Time().Before(s.since) {
			out = append(out, r)
		}
	}
	return out
}

// Reading is what a JSON line says of a reading, whether it was pulled or watched. Time is missing when the device did not know it.
type Reading struct {
	Device   string   `json:"device,omitempty"`
	Name     string   `json:"device_name,omitempty"`
	Sensor   string   `json:"sensor"`
	Quantity string   `json:"name"`
	Unit     string   `json:"unit,omitempty"`
	V        *float64 `json:"v,omitempty"`
	VS       *string  `json:"vs,omitempty"`
	VB       *bool    `json:"vb,omitempty"`
	Time     string   `json:"time,omitempty"`
}

// NewReading returns a reading's JSON form, for which r must not change.
func NewReading(device edge.ID, name string, r *edge.Reading) Reading {
	out := Reading{Device: device.String(), Name: name, Sensor: r.Sensor, Quantity: r.Quantity.Name, Unit: r.Unit, Time: at(r)}
	on := r.Value == 1
	switch r.Kind {
	case edge.Text:
		out.VS = &r.Text
	case edge.State:
		out.VB = &on
	default:
		out.V = &r.Value
	}
	return out
}

// line is one pulled reading in JSON.
type line struct {
	Reading
	Seq      uint64 `json:"seq"`
	Recv     string `json:"recv"`
	Verified bool   `json:"verified"`
	ID       string `json:"id"`
}

// TimeForm is RFC 3339 in UTC with milliseconds.
const TimeForm = "2006-01-02T15:04:05.000Z07:00"

func at(r *edge.Reading) string {
	if !r.At.Synced() {
		return ""
	}
	return r.At.Time().Format(TimeForm)
}

func (s *Sink) jsonl(b *collector.Batch) error {
	enc := json.NewEncoder(s.w)
	enc.SetEscapeHTML(false)
	recv, p := b.Received.UTC().Format(TimeForm), delivery.Parcel{Chain: b.Chain}
	for i := range b.Readings {
		r := &b.Readings[i]
		l := line{Reading: NewReading(b.Chain.Device, b.Name, &r.Reading), Seq: r.Seq, Recv: recv, Verified: true, ID: p.RowID(r)}
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) csv(b *collector.Batch) error {
	w := csv.NewWriter(s.w)
	device, recv, p := b.Chain.Device.String(), b.Received.UTC().Format(TimeForm), delivery.Parcel{Chain: b.Chain}
	for i := range b.Readings {
		r := &b.Readings[i]
		value := strconv.FormatFloat(r.Value, 'g', -1, 64)
		switch r.Kind {
		case edge.Text:
			value = r.Text
		case edge.State:
			value = strconv.FormatBool(r.Value == 1)
		}
		rec := []string{at(&r.Reading), device, r.Sensor, r.Quantity.Name, value, r.Unit, strconv.FormatUint(r.Seq, 10), strconv.Itoa(r.Index), recv, p.RowID(r)}
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

func (s *Sink) senml(b *collector.Batch) error {
	for rows := b.Readings; len(rows) > 0; {
		n := min(len(rows), journal.MaxReadings)
		readings := make([]edge.Reading, n)
		for i := range readings {
			readings[i] = rows[i].Reading
		}
		rows = rows[n:]
		pack, err := edge.MarshalSenMLJSON(b.Chain.Device, readings)
		if err != nil {
			return err
		}
		if _, err := s.w.Write(pack); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) influx(b *collector.Batch) error {
	l := influx.Lines{Whole: true}
	for i := range b.Readings {
		if err := l.Add(&b.Chain, b.Name, &b.Readings[i]); err != nil {
			return err
		}
	}
	_, err := s.w.Write(l.Bytes())
	return err
}
