// SPDX-License-Identifier: Apache-2.0

package sensors

import (
	"context"
	"errors"

	"github.com/streembit/edge/hal"
)

// What a Read, an Open or an Identify may wrap, beside the bus's own errors (hal.ErrAbsent, ErrTimeout, ErrGone).
var (
	ErrNoData    = errors.New("the chip gives no data (all bits equal, or nothing measured): check its supply and wiring")
	ErrWrongChip = errors.New("another chip is at this address: check driver and addr")
	ErrBusy      = errors.New("the chip stays busy: check its supply")
	ErrCRC       = errors.New("the checksum is wrong: check the length of the wires and the pull-ups")
	ErrRange     = errors.New("value outside of what the chip can measure: the chip or the bus is faulty")
)

// Fault sorts an error into one of a few kinds, for counters and alarms: "absent", "timeout", "gone", "no-data", "wrong-chip", "busy",
// "crc", "range", "config" (the board has no such bus or line, or the kernel holds it), or "other". A sensor's own deadline counts as "timeout".
func Fault(err error) string {
	for _, k := range [...]struct {
		cause error
		name  string
	}{
		{hal.ErrAbsent, "absent"}, {hal.ErrGone, "gone"}, {hal.ErrTimeout, "timeout"}, {ErrWrongChip, "wrong-chip"}, {ErrCRC, "crc"},
		{ErrNoData, "no-data"}, {ErrBusy, "busy"}, {ErrRange, "range"}, {hal.ErrNoBus, "config"}, {hal.ErrClaimed, "config"}, {context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, k.cause) {
			return k.name
		}
	}
	return "other"
}
