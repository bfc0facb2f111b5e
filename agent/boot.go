// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge/internal/ntp"
	"github.com/streembit/edge/journal"
)

// Boot returns the kernel's random id of this boot and how long the machine had been up when this program's clock showed asOf, from /proc below root.
func Boot(root string) (id journal.BootID, uptime time.Duration, asOf time.Time, err error) {
	raw, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return id, 0, asOf, fmt.Errorf("agent: reading boot id: %w", err)
	}
	text, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(raw)), "-", ""))
	if err != nil || len(text) != len(id) {
		return id, 0, asOf, fmt.Errorf("agent: reading boot id %q: want a UUID", raw)
	}
	uptime, asOf, err = readUptime(filepath.Join(root, "proc/uptime"))
	return journal.BootID(text), uptime, asOf, err
}

// A busy machine may take the processor away between the reading of the uptime and the look at this program's own clock, which would set the clock of this run
// against those of others in the same boot. So it is read again until the two lie close together.
const (
	uptimeTries = 20
	uptimeSkew  = time.Millisecond
)

func readUptime(path string) (uptime time.Duration, asOf time.Time, err error) {
	best := time.Duration(math.MaxInt64)
	for range uptimeTries {
		began := time.Now()
		raw, err := os.ReadFile(path)
		took := time.Since(began)
		if err != nil {
			return 0, asOf, fmt.Errorf("agent: reading uptime: %w", err)
		}
		first, _, _ := strings.Cut(string(raw), " ")
		seconds, err := strconv.ParseFloat(first, 64)
		if err != nil || seconds < 0 {
			return 0, asOf, fmt.Errorf("agent: reading uptime %q: want seconds", raw)
		}
		if took < best {
			best, uptime, asOf = took, time.Duration(seconds*float64(time.Second)), began
		}
		if best <= uptimeSkew {
			break
		}
	}
	return uptime, asOf, nil
}

// KernelSynced reports whether somebody vouches for the machine's clock.
func KernelSynced() bool { return ntp.Synced() }
