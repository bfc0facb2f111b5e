// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/streembit/edge"
)

// Series is what one sensor of one device measured of one quantity.
type Series struct {
	Device edge.ID
	Name   string // the device's name in the fleet
	Sensor string
	Label  string // the quantity's name
	Unit   string
	Count  int64   // readings in the database
	Points []Point // the newest, oldest first
}

// Point is one value. Exactly one of Number and Text is set; a state is the number 0 or 1.
type Point struct {
	At     time.Time // UTC; when the device's clock was not right, the time of receipt
	Synced bool      // At is the device's time, or was restamped to it
	Number *float64
	Text   *string
}

// String shows the value without its unit.
func (p Point) String() string {
	if p.Number != nil {
		return fmt.Sprintf("%.6g", *p.Number)
	}
	if p.Text != nil {
		return *p.Text
	}
	return ""
}

// Latest returns every series with its last n points, by device name, sensor and quantity. db is what OpenRead or
// Sink.DB returned.
func Latest(ctx context.Context, db *sql.DB, n int) ([]Series, error) {
	rows, err := db.QueryContext(ctx, `
		SELECT r.device, d.name, r.sensor, r.name, r.unit, r.total, r.at, r.clock, coalesce(r.v, r.vb), r.vs FROM (
			SELECT *, coalesce(ts, recv) AS at, count(*) OVER series AS total,
			       row_number() OVER (PARTITION BY device, sensor, name ORDER BY coalesce(ts, recv) DESC, seq DESC, idx DESC) AS age
			FROM reading WINDOW series AS (PARTITION BY device, sensor, name)) r
		JOIN device d ON d.id = r.device WHERE r.age <= ?
		ORDER BY d.name, r.device, r.sensor, r.name, r.age DESC`, n)
	if err != nil {
		return nil, fmt.Errorf("sqlite: reading the latest values: %w", err)
	}
	defer rows.Close()
	var out []Series
	for rows.Next() {
		var s Series
		var p Point
		var device, clock string
		var at int64
		if err := rows.Scan(&device, &s.Name, &s.Sensor, &s.Label, &s.Unit, &s.Count, &at, &clock, &p.Number, &p.Text); err != nil {
			return nil, fmt.Errorf("sqlite: reading the latest values: %w", err)
		}
		if s.Device, err = edge.ParseID(device); err != nil {
			return nil, fmt.Errorf("sqlite: reading the latest values: %w", err)
		}
		p.At, p.Synced = time.UnixMilli(at).UTC(), clock != "unsynced"
		if k := len(out); k == 0 || out[k-1].Device != s.Device || out[k-1].Sensor != s.Sensor || out[k-1].Label != s.Label {
			out = append(out, s)
		}
		last := &out[len(out)-1]
		last.Points = append(last.Points, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sqlite: reading the latest values: %w", err)
	}
	return out, nil
}
