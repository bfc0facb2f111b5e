// SPDX-License-Identifier: Apache-2.0

package sqlsink

import (
	"strings"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Width is how many parameters a row of InsertReadings has.
const Width = 15

// InsertReadings is the statement for n readings at once, for databases that know parameters as "?"; present says what becomes of one that is there.
func InsertReadings(n int, present string) string {
	row := "(?" + strings.Repeat(",?", Width-1) + ")"
	return `INSERT INTO reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv) VALUES ` +
		row + strings.Repeat(","+row, n-1) + ` ` + present
}

// Rows appends the parameters of InsertReadings.
func (w *Writer) Rows(args []any, rows []collector.Row) []any {
	recv := w.Time(w.Batch.Received)
	var boot journal.BootID
	bootText := boot.String()
	for i := range rows {
		r := &rows[i]
		if r.Boot != boot {
			boot, bootText = r.Boot, r.Boot.String()
		}
		ts, v, vs, vb, clock := w.Columns(r)
		args = append(args, w.Device, r.Sensor, r.Quantity.Name, r.Unit, ts, v, vs, vb, w.Chain, int64(r.Seq), r.Index, bootText, r.At.Mono, clock, recv)
	}
	return args
}
