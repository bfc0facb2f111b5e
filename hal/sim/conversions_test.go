// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/streembit/edge/hal/sim"
)

// rig is a chip model, a clock that the test moves, and the value that the chip measures.
type rig struct {
	t     *testing.T
	chip  sim.Device
	clock time.Time
	value float64
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (r *rig) now() time.Time { return r.clock }

func (r *rig) at(time.Time) float64 { return r.value }

func (r *rig) wait(d time.Duration) { r.clock = r.clock.Add(d) }

// write sends bytes; the first is the register.
func (r *rig) write(w ...byte) {
	r.t.Helper()
	if err := r.chip.Tx(w, nil); err != nil {
		r.t.Fatalf("writing % x: %v", w, err)
	}
}

// reads writes w, which may be empty, and wants the bytes that a read then gives, in hexadecimal.
func (r *rig) reads(want string, w ...byte) {
	r.t.Helper()
	got := make([]byte, len(want)/2)
	if err := r.chip.Tx(w, got); err != nil {
		r.t.Fatalf("reading after % x: %v", w, err)
	}
	if fmt.Sprintf("%x", got) != want {
		r.t.Errorf("after % x it reads %x, want %s", w, got, want)
	}
}
