// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge/journal"
	"golang.org/x/sys/unix"
)

// Boot returns the kernel's random id of this boot and how long ago it was, from /proc below root.
func Boot(root string) (journal.BootID, time.Duration, error) {
	raw, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return journal.BootID{}, 0, fmt.Errorf("agent: reading boot id: %w", err)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(raw)), "-", ""))
	if err != nil || len(id) != len(journal.BootID{}) {
		return journal.BootID{}, 0, fmt.Errorf("agent: reading boot id %q: want a UUID", raw)
	}
	raw, err = os.ReadFile(filepath.Join(root, "proc/uptime"))
	if err != nil {
		return journal.BootID{}, 0, fmt.Errorf("agent: reading uptime: %w", err)
	}
	first, _, _ := strings.Cut(string(raw), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil || seconds < 0 {
		return journal.BootID{}, 0, fmt.Errorf("agent: reading uptime %q: want seconds", raw)
	}
	return journal.BootID(id), time.Duration(seconds * float64(time.Second)), nil
}

// KernelSynced reports whether the kernel says that its clock is synchronised (adjtimex(2)), as NTP daemons tell it.
func KernelSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
