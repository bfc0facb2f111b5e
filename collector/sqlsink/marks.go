// SPDX-License-Identifier: Apache-2.0

package sqlsink

import (
	"context"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
)

// Marks returns every chain's checkpoint and open gaps. chains asks for the id, fleet and name (device/stream/incarnation) of all chains with seq and
// hash of their checkpoints, NULL without one; gaps for all open gaps, as OpenGaps.
func Marks(ctx context.Context, tx Tx, chains, gaps string) (map[journal.Chain]collector.Mark, error) {
	marks := map[journal.Chain]collector.Mark{}
	names := map[int64]journal.Chain{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id int64
		var fleet, name string
		var seq *int64
		var hash []byte
		if err := scan(&id, &fleet, &name, &seq, &hash); err != nil {
			return err
		}
		f, err := journal.ParseFleetID(fleet)
		if err != nil {
			return err
		}
		chain, err := journal.ParseChain(f, name)
		if err != nil {
			return err
		}
		var m collector.Mark
		if seq != nil {
			m.Link = link(*seq, hash)
		}
		names[id], marks[chain] = chain, m
		return nil
	}, chains)
	if err != nil {
		return nil, err
	}
	open, err := openGaps(ctx, tx, gaps)
	for id, list := range open {
		m := marks[names[id]]
		m.Gaps = list
		marks[names[id]] = m
	}
	return marks, err
}

func link(seq int64, hash []byte) *journal.Link {
	l := &journal.Link{Seq: uint64(seq)}
	copy(l.Hash[:], hash)
	return l
}

// OpenGaps is the query for the open gaps of a table; where limits them to some chains.
func OpenGaps(table, where string) string {
	return `SELECT chain, first_seq, last_seq, reason, explained, found, prev_hash, last_hash
		FROM ` + table + ` WHERE closed IS NULL AND ` + where + ` ORDER BY chain, first_seq`
}

// openGaps returns the open gaps by chain.
func openGaps(ctx context.Context, tx Tx, query string, args ...any) (map[int64][]collector.Gap, error) {
	out := map[int64][]collector.Gap{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var chain, first, last int64
		var g collector.Gap
		var found moment
		var before, after []byte
		if err := scan(&chain, &first, &last, &g.Reason, &g.Explained, &found, &before, &after); err != nil {
			return err
		}
		g.First, g.Last, g.Found = uint64(first), uint64(last), found.Time
		copy(g.Before[:], before)
		copy(g.After[:], after)
		out[chain] = append(out[chain], g)
		return nil
	}, query, args...)
	return out, err
}
