// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// Store is the memory of servers that have none: checkpoints, gaps, notes and forks, and the newest reading of each series. It is a
// database of package sqlite, each commit synced, whose table reading holds only what waits for its time.
type Store struct {
	sink *sqlite.Sink
	db   *sql.DB

	mu     sync.Mutex
	latest map[Series]Value
}

// latestTable is ours; the others belong to package sqlite.
const latestTable = `CREATE TABLE IF NOT EXISTS latest_value (series TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`

// OpenStore opens or creates the file. Close it.
func OpenStore(ctx context.Context, path string) (*Store, error) {
	sink, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("delivery: opening the checkpoints: %w", err)
	}
	s := &Store{sink: sink, db: sink.DB(), latest: map[Series]Value{}}
	if err := s.load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("delivery: opening the checkpoints %s: %w", path, err), sink.Close())
	}
	return s, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.sink.Close() }

// Marks returns every chain's checkpoint and open gaps.
func (s *Store) Marks(ctx context.Context) (map[journal.Chain]collector.Mark, error) {
	return s.sink.Marks(ctx)
}

// Series names what one sensor of a device measures.
type Series struct {
	Device   edge.ID
	Sensor   string
	Quantity string
}

// Value is the newest reading of a series.
type Value struct {
	Device   string    `json:"device"` // its name in the fleet
	Unit     string    `json:"unit"`
	Kind     edge.Kind `json:"kind"`
	Value    float64   `json:"value"`
	Text     string    `json:"text"`
	Wall     int64     `json:"wall"` // ms since 1970 UTC, 0 = the device did not know it
	Received int64     `json:"recv"` // ms since 1970 UTC, by the collector's clock
	Chain    string    `json:"chain"`
	Seq      uint64    `json:"seq"`
}

// before reports whether v was taken before a reading: by the order of the chain where it is one, else by the devices' clocks, and where one
// did not know the time by when the readings came.
func (v *Value) before(next *Value) bool {
	switch {
	case v.Chain == next.Chain:
		return v.Seq <= next.Seq
	case v.Wall != 0 && next.Wall != 0:
		return v.Wall <= next.Wall
	}
	return v.Received <= next.Received
}

// entry is a row of latest_value.
type entry struct {
	Series Series
	Value  Value
}

func (s *Store) load(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, latestTable); err != nil {
		return err
	}
	rows, err := s.db.QueryContext(ctx, `SELECT value FROM latest_value`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var text []byte
		var e entry
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("table latest_value: %w: delete its rows, they are only a memory of what was last", err)
		}
		s.latest[e.Series] = e.Value
	}
	return rows.Err()
}

// Latest calls each with the newest reading of every series, in no order.
func (s *Store) Latest(each func(Series, Value)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.latest {
		each(k, v)
	}
}

// Newer returns the readings of a parcel that are the newest of their series: old ones that a device brings late are left out.
func (s *Store) Newer(p *Parcel) map[Series]Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[Series]Value{}
	chain, received := p.Chain.String(), p.Received.UnixMilli()
	for i := range p.Rows {
		r := &p.Rows[i]
		v := Value{Device: p.Name, Unit: r.Unit, Kind: r.Kind, Value: r.Value, Text: r.Text, Wall: r.At.Wall, Received: received, Chain: chain, Seq: r.Seq}
		k := Series{p.Chain.Device, r.Sensor, r.Quantity.Name}
		if last, there := s.latest[k]; !there || last.before(&v) {
			out[k] = v
		}
	}
	return out
}

// Keep remembers what Newer returned, also over a restart.
func (s *Store) Keep(ctx context.Context, values map[Series]Value) error {
	if len(values) == 0 {
		return nil
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("delivery: keeping the newest readings: %w", err)
	}
	for k, v := range values {
		var text []byte
		if text, err = json.Marshal(entry{k, v}); err != nil {
			break
		}
		if _, err = tx.ExecContext(ctx, `INSERT INTO latest_value (series, value) VALUES (?, ?) ON CONFLICT (series) DO UPDATE SET value = excluded.value`,
			k.Device.String()+"/"+k.Sensor+"/"+k.Quantity, text); err != nil {
			break
		}
	}
	if err == nil {
		err = tx.Commit()
	} else {
		err = errors.Join(err, tx.Rollback())
	}
	if err != nil {
		return fmt.Errorf("delivery: keeping the newest readings: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.latest, values)
	return nil
}

// Trouble is what a store knows to be missing or doubtful of a device.
type Trouble struct {
	Name    string // the device's, "" if it has none
	Missing uint64 // segments in open gaps
	Forks   uint64 // proven forks
}

// Trouble returns what is missing or doubtful of each device that has readings, by its id.
func (s *Store) Trouble(ctx context.Context) (map[string]Trouble, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT d.id, d.name,
		coalesce((SELECT sum(g.last_seq - g.first_seq + 1) FROM gap g JOIN chain c ON c.id = g.chain WHERE c.device = d.id AND g.closed IS NULL), 0),
		(SELECT count(*) FROM fork f JOIN chain c ON c.id = f.chain WHERE c.device = d.id) FROM device d`)
	if err != nil {
		return nil, fmt.Errorf("delivery: reading gaps: %w", err)
	}
	defer rows.Close()
	out := map[string]Trouble{}
	for rows.Next() {
		var id string
		var t Trouble
		if err := rows.Scan(&id, &t.Name, &t.Missing, &t.Forks); err != nil {
			return nil, fmt.Errorf("delivery: reading gaps: %w", err)
		}
		out[id] = t
	}
	return out, rows.Err()
}
