// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// clocks returns the clock notes, the first of each boot, that prove the time of a batch's readings: those of former batches, also
// of other chains of the device, and those in it.
func (s *Store) clocks(ctx context.Context, b *collector.Batch) (map[journal.BootID]journal.ClockNote, error) {
	out := map[journal.BootID]journal.ClockNote{}
	for _, boot := range b.Boots() {
		n := journal.ClockNote{Boot: boot}
		err := s.db.QueryRowContext(ctx, `SELECT n.mono_ms, n.wall FROM note n JOIN chain c ON c.id = n.chain
			WHERE n.kind = 'clock' AND n.boot = ? AND c.device = ? ORDER BY n.seq, n.chain LIMIT 1`, boot.String(), b.Chain.Device.String()).Scan(&n.Mono, &n.Wall)
		switch {
		case err == nil:
			out[boot] = n
		case !errors.Is(err, sql.ErrNoRows):
			return nil, fmt.Errorf("reading clock notes: %w", err)
		}
	}
	for _, n := range b.Notes {
		if n.Clock != nil && out[n.Clock.Boot] == (journal.ClockNote{}) {
			out[n.Clock.Boot] = *n.Clock
		}
	}
	return out, nil
}

// release sends what was held and has its time now.
func (s *Sink) release(ctx context.Context, b *collector.Batch) error {
	device := b.Chain.Device
	s.mu.Lock()
	done := s.released[device] && len(b.Boots()) == 0
	s.mu.Unlock()
	if !s.opt.Hold || done {
		return nil
	}
	for {
		p, err := s.store.proven(ctx, device, s.opt.Rows)
		if err != nil {
			return err
		}
		if len(p.Rows) == 0 {
			break
		}
		if err := s.deliver(ctx, p); err != nil {
			return err
		}
		if err := s.store.forget(ctx, &p); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released[device] = true
	return nil
}

// proven returns held readings of one chain whose time is known by now, at most n.
func (s *Store) proven(ctx context.Context, device edge.ID, n int) (p Parcel, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT c.fleet, c.device || '/' || c.stream || '/' || c.incarnation, d.name,
		r.sensor, r.name, r.unit, r.ts, r.v, r.vs, r.vb, r.seq, r.idx, r.boot, r.mono_ms, r.recv
		FROM reading r JOIN chain c ON c.id = r.chain JOIN device d ON d.id = r.device
		WHERE r.clock = 'restamped' AND r.chain = (SELECT min(chain) FROM reading WHERE clock = 'restamped' AND device = ?)
		ORDER BY r.seq, r.idx LIMIT ?`, device.String(), n)
	if err != nil {
		return p, fmt.Errorf("reading what was held: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := p.scan(rows); err != nil {
			return p, fmt.Errorf("reading what was held: %w", err)
		}
	}
	return p, rows.Err()
}

// scan adds a row of proven.
func (p *Parcel) scan(rows *sql.Rows) error {
	var fleet, chain, boot string
	var r collector.Row
	var v sql.NullFloat64
	var vs sql.NullString
	var vb sql.NullInt64
	var recv int64
	err := rows.Scan(&fleet, &chain, &p.Name, &r.Sensor, &r.Quantity.Name, &r.Unit, &r.At.Wall, &v, &vs, &vb, &r.Seq, &r.Index, &boot, &r.At.Mono, &recv)
	if err != nil {
		return err
	}
	id, err := journal.ParseFleetID(fleet)
	if err != nil {
		return err
	}
	if p.Chain, err = journal.ParseChain(id, chain); err != nil {
		return err
	}
	if err := r.Boot.UnmarshalText([]byte(boot)); err != nil {
		return err
	}
	switch {
	case vs.Valid:
		r.Kind, r.Text = edge.Text, vs.String
	case vb.Valid:
		r.Kind, r.Value = edge.State, float64(vb.Int64)
	default:
		r.Value = v.Float64
	}
	p.Received = time.UnixMilli(recv)
	p.Rows = append(p.Rows, r)
	return nil
}

// forget deletes held readings that were delivered: each by its place, since others may have got their time meanwhile.
func (s *Store) forget(ctx context.Context, p *Parcel) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("forgetting what was held: %w", err)
	}
	for i := range p.Rows {
		_, err = tx.ExecContext(ctx, `DELETE FROM reading WHERE seq = ? AND idx = ?
			AND chain = (SELECT id FROM chain WHERE fleet = ? AND device = ? AND stream = ? AND incarnation = ?)`, p.Rows[i].Seq, p.Rows[i].Index,
			p.Chain.Fleet.String(), p.Chain.Device.String(), p.Chain.Stream, p.Chain.Incarnation.String())
		if err != nil {
			return errors.Join(fmt.Errorf("forgetting what was held: %w", err), tx.Rollback())
		}
	}
	return tx.Commit()
}
