// SPDX-License-Identifier: Apache-2.0

package stdout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
)

// Open returns a sink that writes one format, as New does, and remembers in the file checkpoints what it has written, for programs that run it and
// start it again. What was written counts as delivered: a pipe gives no other answer.
func Open(ctx context.Context, w io.Writer, format, checkpoints string) (*delivery.Sink, error) {
	s, err := New(w, format, time.Time{})
	if err != nil {
		return nil, err
	}
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		return nil, fmt.Errorf("stdout: %w", err)
	}
	sink, err := delivery.New(ctx, store, pipe{s}, delivery.Options{Rows: 10_000, Retry: time.Millisecond})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stdout: %w", err), store.Close())
	}
	return sink, nil
}

// pipe is a stream as package delivery sees a server.
type pipe struct{ *Sink }

// Send writes readings. Marks of the sink below are not used.
func (p pipe) Send(ctx context.Context, b delivery.Parcel) error {
	return p.Write(ctx, collector.Batch{Chain: b.Chain, Name: b.Name, Readings: b.Rows, Received: b.Received, From: 1})
}

// Ping has nobody to ask.
func (pipe) Ping(context.Context) error { return nil }
