// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// sink is the collector.Sink that calls the caller's function, one batch at a time.
type sink struct {
	take func([]Reading) error
	path string // of the memory; "" = none

	mu     sync.Mutex
	marks  map[journal.Chain]collector.Mark
	clocks map[boot]journal.ClockNote
}

type boot struct {
	device edge.ID
	id     journal.BootID
}

// memory is the file: how far the function has got, and when devices' boots were.
type memory struct {
	Fleet  string  `json:"fleet"`
	Chains []chain `json:"chains"`
	Clocks []clock `json:"clocks"`
}

type chain struct {
	Name string `json:"chain"`
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"` // "" = nothing yet
	Gaps []gap  `json:"gaps,omitempty"`
}

type gap struct {
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	Reason string    `json:"reason"`
	Found  time.Time `json:"found"`
	Before string    `json:"before"`
	After  string    `json:"after"`
}

type clock struct {
	Device string         `json:"device"`
	Boot   journal.BootID `json:"boot"`
	Mono   int64          `json:"mono_ms"`
	Wall   int64          `json:"wall_ms"`
}

func newSink(path string, take func([]Reading) error) (*sink, error) {
	s := &sink{take: take, path: path, marks: map[journal.Chain]collector.Mark{}, clocks: map[boot]journal.ClockNote{}}
	if path == "" {
		return s, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = s.decode(text)
	}
	if err != nil {
		return nil, fmt.Errorf("client: reading what was had before, %s (move it away to begin anew): %w", path, err)
	}
	return s, nil
}

// Marks implements collector.Sink.
func (s *sink) Marks(context.Context) (map[journal.Chain]collector.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[journal.Chain]collector.Mark{}
	maps.Copy(out, s.marks)
	return out, nil
}

// Close implements collector.Sink.
func (s *sink) Close() error { return nil }

// Write implements collector.Sink: the function first, then the memory.
func (s *sink) Write(ctx context.Context, b collector.Batch) error {
	if err := errors.Join(ctx.Err(), b.Check(true)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mark := s.marks[b.Chain]
	move, err := b.Advance(mark.Link)
	if err != nil {
		return err
	}
	if readings := s.readings(&b); len(readings) > 0 {
		if err := s.take(readings); err != nil {
			return err
		}
	}
	mark.Gaps = b.Regap(mark.Gaps, mark.Link).Apply(mark.Gaps)
	if move {
		mark.Link = b.Mark
	}
	s.marks[b.Chain] = mark
	if s.path == "" {
		return nil
	}
	text, err := s.encode()
	if err != nil {
		return err
	}
	return fleet.WriteFile(s.path, text, 0o600)
}

// readings gives the readings their times, as far as they are known by now.
func (s *sink) readings(b *collector.Batch) []Reading {
	for _, n := range b.Notes {
		if n.Clock == nil {
			continue
		}
		if k := (boot{b.Chain.Device, n.Clock.Boot}); s.clocks[k] == (journal.ClockNote{}) {
			s.clocks[k] = *n.Clock
		}
	}
	out := make([]Reading, 0, len(b.Readings))
	for i := range b.Readings {
		r := &b.Readings[i]
		one := Reading{Reading: r.Reading, Device: b.Chain.Device, DeviceName: b.Name, Stream: b.Chain.Stream,
			ID: b.Chain.String() + "/" + strconv.FormatUint(r.Seq, 10) + "/" + strconv.Itoa(r.Index)}
		if c, ok := s.clocks[boot{b.Chain.Device, r.Boot}]; ok {
			one.At = c.Restamp(r.Boot, r.At)
		}
		out = append(out, one)
	}
	return out
}

func (s *sink) encode() ([]byte, error) {
	out := memory{Chains: []chain{}, Clocks: []clock{}}
	for c, m := range s.marks {
		one := chain{Name: c.String()}
		if m.Link != nil {
			one.Seq, one.Hash = m.Link.Seq, m.Link.Hash.String()
		}
		for _, g := range m.Gaps {
			one.Gaps = append(one.Gaps, gap{g.First, g.Last, g.Reason, g.Found, g.Before.String(), g.After.String()})
		}
		out.Fleet, out.Chains = c.Fleet.String(), append(out.Chains, one)
	}
	for k, c := range s.clocks {
		out.Clocks = append(out.Clocks, clock{k.device.String(), c.Boot, c.Mono, c.Wall})
	}
	return json.MarshalIndent(out, "", " ")
}

func (s *sink) decode(text []byte) error {
	var in memory
	if err := json.Unmarshal(text, &in); err != nil || len(in.Chains) == 0 {
		return err
	}
	id, err := journal.ParseFleetID(in.Fleet)
	if err != nil {
		return err
	}
	for _, one := range in.Chains {
		c, err := journal.ParseChain(id, one.Name)
		if err != nil {
			return err
		}
		if s.marks[c], err = one.mark(); err != nil {
			return err
		}
	}
	for _, c := range in.Clocks {
		device, err := edge.ParseID(c.Device)
		if err != nil {
			return err
		}
		s.clocks[boot{device, c.Boot}] = journal.ClockNote{Boot: c.Boot, Mono: c.Mono, Wall: c.Wall}
	}
	return nil
}

func (c *chain) mark() (m collector.Mark, err error) {
	if c.Hash != "" {
		m.Link = &journal.Link{Seq: c.Seq}
		if m.Link.Hash, err = parseHash(c.Hash); err != nil {
			return m, err
		}
	}
	for _, g := range c.Gaps {
		before, errBefore := parseHash(g.Before)
		after, errAfter := parseHash(g.After)
		if err := errors.Join(errBefore, errAfter); err != nil {
			return m, err
		}
		m.Gaps = append(m.Gaps, collector.Gap{First: g.First, Last: g.Last, Reason: g.Reason, Found: g.Found, Before: before, After: after})
	}
	return m, nil
}

func parseHash(text string) (h journal.Hash, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("hash %q: want %d hexadecimal digits", text, 2*len(h))
	}
	return journal.Hash(raw), nil
}
