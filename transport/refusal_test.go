// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// A hub that says that the device writes too fast is asked again, ever more rarely, as long as its copy is needed.
func TestPublishWaitsForItsShare(t *testing.T) {
	var began time.Time
	publishing(t, 3, func(context.Context, int, int) error {
		if time.Since(began) < 20*time.Second {
			return refusal(transport.RefusedRate)
		}
		return nil
	}, func(t *testing.T, h *hubs, p *transport.Publisher, seg *journal.Segment) {
		began = time.Now()
		r, err := p.Publish(t.Context(), seg, nil)
		if err != nil || !r.Published() {
			t.Fatalf("%d acks, %v", len(r.Acked), err)
		}
		if took := time.Since(began); took > 29*time.Second {
			t.Errorf("published after %s, the hubs took it again after 20 s", took)
		}
		for hub := range 3 {
			if n := h.count(h.asked, hub); n < 5 || n > 20 {
				t.Errorf("hub %d was asked %d times in 20 s", hub, n)
			}
		}
	})
}

// When the call ends meanwhile, its error says what the hubs said, and the answer that is told to others is theirs, too.
func TestPublishSaysThatTheDeviceIsTooFast(t *testing.T) {
	publishing(t, 3, func(context.Context, int, int) error { return refusal(transport.RefusedRate) }, func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
		observed := make(chan error, 3)
		p.Observe(func(_ edge.ID, err error) { observed <- err })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := p.Publish(ctx, seg, nil)
		var why *transport.Refusal
		if !errors.Is(err, transport.ErrNotQuorum) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &why) || why.Reason != transport.RefusedRate || len(r.Errors) != 3 {
			t.Errorf("%v; %d errors", err, len(r.Errors))
		}
		for range 3 {
			if err := <-observed; !errors.As(err, &why) {
				t.Errorf("observed %v", err)
			}
		}
	})
}

// What hubs say is past is done with when as many say so, or have it, as a second copy would need; one of several alone is not believed.
func TestPublishOfWhatIsPast(t *testing.T) {
	past, down := refusal(transport.RefusedPast), error(transport.ErrUnreachable)
	for name, c := range map[string]struct {
		answers   []error
		published bool
		gone      bool
	}{
		"the only hub":                         {[]error{past}, false, true},
		"both":                                 {[]error{past, past}, false, true},
		"one of two, the other is away":        {[]error{past, down}, false, false},
		"one of two, the other has it":         {[]error{past, nil}, true, true},
		"one of three, the others are away":    {[]error{past, down, down}, false, false},
		"two of three on one site":             {[]error{past, past, down}, false, false},
		"two of three on two sites":            {[]error{past, down, past}, false, true},
		"one of three, and one has it":         {[]error{past, down, nil}, false, true},
		"one of three, the others have it":     {[]error{past, nil, nil}, true, true},
		"three have it":                        {[]error{nil, nil, nil}, true, false},
		"one of five, one has it, three away":  {[]error{past, down, nil, down, down}, false, false},
		"two of five, one has it, the others?": {[]error{past, down, nil, down, past}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			publishing(t, len(c.answers), func(ctx context.Context, hub, _ int) error {
				wait := time.Duration(0)
				if !errors.Is(c.answers[hub], past) {
					wait = time.Second // those that let it go answer first
				}
				return after(ctx, wait, c.answers[hub])
			}, func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
				r, err := p.Publish(t.Context(), seg, nil)
				if c.gone && c.published { // it may return before the others have answered
					synctest.Wait()
					c.published = r.Published()
				}
				if r.Published() != c.published || r.Gone() != c.gone || (err == nil) != (c.gone || c.published) {
					t.Errorf("published %t, gone %t, %v", r.Published(), r.Gone(), err)
				}
				if err != nil && !errors.Is(err, transport.ErrNotQuorum) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// Sites of the copies, and of all hubs of the bucket.
func TestReceiptSites(t *testing.T) {
	publishing(t, 5, func(_ context.Context, hub, _ int) error {
		if hub == 4 {
			return transport.ErrUnreachable
		}
		return nil
	}, func(t *testing.T, _ *hubs, p *transport.Publisher, seg *journal.Segment) {
		r, err := p.Publish(t.Context(), seg, nil)
		if copies, hubs := r.Sites(); err != nil || copies != 2 || hubs != 3 {
			t.Errorf("on %d of %d sites, %v", copies, hubs, err)
		}
	})
}
