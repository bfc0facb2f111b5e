// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Keeper takes segments in. Put returns nil once the segment is fsynced, a *Refusal otherwise. It is called
// concurrently and does not keep the slice.
type Keeper interface {
	Put(ctx context.Context, segment []byte) error
}

// Shelf gives out what was taken in. Safe for concurrent use.
type Shelf interface {
	// Held tells what is held of one device's chains, the zero ID meaning all devices.
	Held(ctx context.Context, device edge.ID) ([]Held, error)
	// Fetch visits the held segments of a span in ascending order and leaves out what it does not have. The slice
	// is valid only during the call.
	Fetch(ctx context.Context, chain journal.Chain, span Span, visit func(segment []byte) error) error
	// Follow visits each chain held now once, then each newly durable span, until ctx ends.
	Follow(ctx context.Context, visit func(Held) error) error
}

// Store is a hub's disk as a transport sees it; transport/store is the real one.
type Store interface {
	Keeper
	Shelf
}
