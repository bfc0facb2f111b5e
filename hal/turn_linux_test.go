// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/hal"
)

// Sixteen chips that are opened at once on a slow bus wait for each other for longer than TxTimeout. No one is to blame.
func TestManyOpenersOnASlowBus(t *testing.T) {
	const openers, each, slow = 16, 10, 250 * time.Millisecond // all wait for 4 s each time
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(int, []byte, []byte) error { time.Sleep(slow); return nil }}
		b := s.board(t)
		waits := make([]time.Duration, openers)
		var chips sync.WaitGroup
		for i := range openers {
			chips.Go(func() {
				c := conn(t, b)
				for range each {
					start := time.Now()
					if err := c.Tx(t.Context(), []byte{byte(i)}, nil); err != nil {
						t.Errorf("chip %d: %v", i, err)
					}
					waits[i] = max(waits[i], time.Since(start))
				}
			})
		}
		chips.Wait()
		if longest := slices.Max(waits); longest > openers*slow {
			t.Errorf("one waited for %s, which is more than one turn of each", longest)
		}
		if h := health(t, b); h.Timeouts != 0 || h.Errors != 0 || h.Transactions != openers*each || s.most != 1 {
			t.Errorf("%d at once, %+v", s.most, h)
		}
	})
}

// One transaction that hangs is everybody's time-out, TxTimeout after it has begun.
func TestManyBehindAHungTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(n int, _, _ []byte) error {
			if n == 4 {
				time.Sleep(time.Minute)
			}
			time.Sleep(250 * time.Millisecond)
			return nil
		}}
		b := s.board(t)
		c, start := conn(t, b), time.Now()
		begins := start.Add(4 * 250 * time.Millisecond)
		honest := regexp.MustCompile(`another transaction has been on the bus for 1(\.\d+)?s: `)
		var callers sync.WaitGroup
		var mu sync.Mutex
		good, late := 0, 0
		for range 16 {
			callers.Go(func() {
				err := c.Tx(t.Context(), []byte{1}, nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					good++
				case !errors.Is(err, hal.ErrTimeout) || time.Since(begins) != hal.TxTimeout:
					t.Errorf("%v, %s after the transaction began", err, time.Since(begins))
				case honest.MatchString(err.Error()):
					late++
				}
			})
		}
		callers.Wait()
		if good != 4 || late != 11 {
			t.Errorf("%d good, %d late behind another, want 4 and 11", good, late)
		}
		time.Sleep(time.Minute)
		if err := c.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Errorf("after it has ended: %v", err)
		}
		if h := health(t, b); h.Timeouts != 12 || h.State != hal.BusOpen {
			t.Errorf("%+v", h)
		}
	})
}

// Who gives up makes room: the others keep their order.
func TestQueueKeepsItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{tx: func(int, []byte, []byte) error { time.Sleep(600 * time.Millisecond); return nil }}
		c := conn(t, s.board(t))
		var callers sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			callers.Go(func() {
				patience := time.Hour
				if name == "c" {
					patience = 700 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := c.Tx(ctx, []byte(name), nil); (err != nil) != (name == "c") {
					t.Errorf("%s: %v", name, err)
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		if want := []string{"a", "b", "d", "e", "f"}; !slices.Equal(s.log, want) {
			t.Errorf("order %v, want %v", s.log, want)
		}
	})
}
