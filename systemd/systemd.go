// SPDX-License-Identifier: Apache-2.0

// Package systemd tells the service manager how the program is (sd_notify(3)), and holds the unit files of the service. Where no service manager
// listens, telling does nothing.
package systemd

import (
	"embed"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Units are the unit files: *.service and *.path.
//
//go:embed *.service *.path
var Units embed.FS

// Ready says that the program does what it is there for. After that it must be Alive in time.
func Ready() error { return tell(daemon.SdNotifyReady) }

// Alive says that the program's work goes on.
func Alive() error { return tell(daemon.SdNotifyWatchdog) }

// Stopping says that the program is ending in order.
func Stopping() error { return tell(daemon.SdNotifyStopping) }

func tell(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("systemd: telling the service manager %s: %w", state, err)
	}
	return nil
}

// Watchdog returns the longest time between two calls of Alive; 0 when nobody waits for them.
func Watchdog() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("systemd: reading the watchdog's time: %w", err)
	}
	return d, nil
}
