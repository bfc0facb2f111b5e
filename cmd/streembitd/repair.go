// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport/repair"
)

// openRepair lets a hub bring back the copies that it lacks.
func (p *program) openRepair() error {
	r, err := repair.New(repair.Options{Self: p.key.ID(), Fleet: p.members.get, Local: p.store, Peers: p.node,
		Rate: int64(p.cfg.Store.RepairRate), Logger: p.logger.With("part", "repair")})
	p.repair = r
	return err
}

// tellParts has the agent judge anew which hubs count, and a hub look for what it lacks, whenever the fleet changes, until ctx ends.
func (p *program) tellParts(ctx context.Context) error {
	hubs := hubsOf(p.members.get())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.members.moved:
		}
		if p.agent != nil {
			p.agent.FleetChanged()
		}
		p.tellUpdater("")
		now := hubsOf(p.members.get())
		if p.repair != nil && !slices.Equal(hubs, now) {
			p.repair.Kick()
		}
		hubs = now
	}
}

func hubsOf(f *fleet.Fleet) (ids []edge.ID) {
	for _, h := range f.Hubs() {
		ids = append(ids, h.Member)
	}
	slices.SortFunc(ids, edge.ID.Compare)
	return ids
}
