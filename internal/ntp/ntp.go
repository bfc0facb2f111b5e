// SPDX-License-Identifier: Apache-2.0

// Package ntp asks whether somebody vouches for the machine's clock.
package ntp

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// synchronized is there once systemd-timesyncd has set the clock (systemd-timesyncd.service(8)).
const synchronized = "/run/systemd/timesync/synchronized"

// Synced reports whether the kernel says that its clock is synchronised (adjtimex(2)), as NTP daemons tell it. A service whose unit has ProtectClock=yes may
// not even ask the kernel; there systemd-timesyncd's word counts.
func Synced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if errors.Is(err, unix.EPERM) {
		_, err := os.Stat(synchronized)
		return err == nil
	}
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
