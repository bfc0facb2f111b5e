// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// A hub that says "later" is asked again after firstPause, then after twice that and so on, up to busyPause if its queue is full and ratePause if the
// device writes more than its share; each time up to as long again by chance, so that devices that were refused together do not come back together.
const (
	firstPause = 10 * time.Millisecond
	busyPause  = 200 * time.Millisecond
	ratePause  = 4 * time.Second
)

// insist puts until the hub takes the segment or refuses it for good, or ctx ends or settled is closed; each refusal that says "later" is told to said. It
// returns the last answer: where the time is over, the refusal says more than that.
func insist(ctx context.Context, settled <-chan struct{}, put func() error, said func(error)) error {
	err := put()
	for wait := firstPause; later(err); wait = min(2*wait, longest(err)) {
		said(err)
		if !pause(ctx, settled, wait+rand.N(wait)) {
			break
		}
		if again := put(); again == nil || ctx.Err() == nil {
			err = again
		}
	}
	return err
}

// later reports whether the hub may take the segment yet.
func later(err error) bool { return refused(err, RefusedBusy) || refused(err, RefusedRate) }

func longest(err error) time.Duration {
	if refused(err, RefusedRate) {
		return ratePause
	}
	return busyPause
}

func refused(err error, why Reason) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason == why
}

// pause waits and reports whether there is time left.
func pause(ctx context.Context, settled <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-settled:
	}
	return false
}
