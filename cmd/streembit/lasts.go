// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// lastOf returns the ends of all that a member has signed: its fleet logs, and a device's chains as the hubs hold them. What a revocation does not
// name is not valid any more, so it wants an answer from a hub unless noHubs.
func (o *office) lastOf(ctx context.Context, g fleet.Grant, noHubs bool) ([]fleet.Cut, error) {
	last := o.known().Tips(g.Member)
	if g.Roles&fleet.Device == 0 || noHubs {
		return last, nil
	}
	if !o.known().May(o.author.Key.ID(), fleet.Read, g.Member, "*") {
		return nil, cli.Try(fmt.Errorf("revoking %s: hubs tell how far its chains reach to those who may read them all: %w", g.Name, fleet.ErrNotAllowed),
			"let the owner revoke it, or --no-hubs, which gives up all that it has published")
	}
	if o.hubs == nil {
		return nil, cli.Try(fmt.Errorf("revoking %s: %w", g.Name, transport.ErrNoHubs), "streembit fleet revoke %s --no-hubs, which gives up all that it has published", g.Name)
	}
	held, err := o.lastHeld(ctx, g.Member)
	if err != nil {
		return nil, err
	}
	return append(last, held...), nil
}

// lastHeld asks all hubs at once.
func (o *office) lastHeld(ctx context.Context, device edge.ID) ([]fleet.Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*hubWait)
	defer cancel()
	all := o.known().Hubs()
	found, errs := make([][]fleet.Cut, len(all)), make([]error, len(all))
	var asked sync.WaitGroup
	for i, h := range all {
		asked.Go(func() {
			if found[i], errs[i] = o.heldBy(ctx, h.Member, device); errs[i] != nil {
				o.log.Info("hub not asked", "hub", h.Name, "err", errs[i])
			}
		})
	}
	asked.Wait()
	silent := 0
	for i, err := range errs {
		if err != nil {
			silent++
			fmt.Fprintf(o.app.err, "hub %s does not say how far its chains reach (--log info says why)\n", all[i].Name)
		}
	}
	if silent == len(all) {
		return nil, cli.Try(fmt.Errorf("no hub says how far the chains of %s reach: %w: %w", device, transport.ErrUnreachable, errors.Join(errs...)),
			"the same command later, or --no-hubs, which gives up all that it has published")
	}
	return furthest(found), nil
}

// furthest takes the highest of each chain.
func furthest(found [][]fleet.Cut) []fleet.Cut {
	type chain struct {
		stream string
		life   journal.Incarnation
	}
	best := map[chain]fleet.Cut{}
	for _, cuts := range found {
		for _, c := range cuts {
			at := chain{c.Stream, c.Incarnation}
			if old, there := best[at]; !there || c.Seq > old.Seq {
				best[at] = c
			}
		}
	}
	out := make([]fleet.Cut, 0, len(best))
	for _, c := range best {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b fleet.Cut) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), bytes.Compare(a.Incarnation[:], b.Incarnation[:]))
	})
	return out
}

// heldBy returns the ends of a device's chains at one hub, each proven by the device's own signature: a hub cannot make one up.
func (o *office) heldBy(ctx context.Context, hub, device edge.ID) ([]fleet.Cut, error) {
	held, err := o.hubs.node.Held(ctx, hub, device)
	if err != nil {
		return nil, err
	}
	var out []fleet.Cut
	for _, h := range held {
		seq, ok := h.Last()
		if !ok || h.Chain.Device != device {
			continue
		}
		err := o.hubs.node.Fetch(ctx, hub, h.Chain, transport.Span{First: seq, Last: seq}, func(raw []byte) error {
			seg, err := journal.OpenFrom(raw, h.Chain, seq)
			if err != nil {
				return err
			}
			out = append(out, fleet.Cut{Stream: h.Chain.Stream, Incarnation: h.Chain.Incarnation, Seq: seq, Hash: seg.Hash})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
