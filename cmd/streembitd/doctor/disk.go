// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/streembit/edge/boards"
)

// mount is a line of proc/self/mountinfo.
type mount struct {
	number, at, kind, source string
	options                  []string // of the mount and of the file system
}

func (m mount) has(option string) bool { return slices.Contains(m.options, option) }

// mountOf finds the file system that holds a path: the deepest mount point above it, of several there the last one.
func mountOf(root fs.FS, name string) (best mount, found bool) {
	for line := range strings.Lines(text(root, "proc/self/mountinfo")) {
		left, right, split := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !split || len(f) < 6 || len(g) < 3 {
			continue
		}
		at := strings.ReplaceAll(f[4], `\040`, " ")
		if at != "/" && name != at && !strings.HasPrefix(name, at+"/") || len(at) < len(best.at) {
			continue
		}
		best, found = mount{f[2], at, g[0], g[1], append(strings.Split(f[5], ","), strings.Split(g[2], ",")...)}, true
	}
	return best, found
}

// diskCheck looks whether there is room.
func diskCheck(m Machine, _ boards.Board, _ bool) []Finding {
	if m.Space == nil {
		return nil
	}
	s, err := m.Space(m.State)
	if err != nil {
		return []Finding{{"disk", Fault, fmt.Sprintf("the state folder cannot be looked at: %v", err), "install the package, or: mkdir -m 700 " + m.State}}
	}
	if s.Total <= 0 {
		return nil
	}
	free := fmt.Sprintf("%s free of %s for %s", size(s.Free), size(s.Total), m.State)
	switch {
	case s.Free < 32<<20 || s.Free < s.Total/100:
		return []Finding{{"disk", Fault, free + ": the disk is full", "df -h; journalctl --vacuum-size=20M; apt-get clean"}}
	case m.Quota > s.Total:
		return []Finding{{"disk", Warning, fmt.Sprintf("%s, but the config allows %s: the disk will be full first", free, size(m.Quota)), "make [outbox] quota or [store] quota smaller"}}
	case s.Free < s.Total/10:
		return []Finding{{"disk", Warning, free, "df -h; make room, or make the quotas of the config smaller"}}
	}
	return ok("disk", free)
}

// mountCheck looks how the state folder is mounted. Each of these loses published readings or the device's key, without an error at the time.
func mountCheck(m Machine, _ boards.Board, _ bool) []Finding {
	at, found := mountOf(m.Root, m.State)
	if !found {
		return nil
	}
	switch {
	case at.kind == "overlay" || at.kind == "tmpfs" || at.kind == "ramfs":
		return []Finding{{"mounts", Fault, fmt.Sprintf("the state folder is on %s: key and readings are gone at each restart", at.kind),
			"give it a partition of its own: mount one at " + m.State + " in /etc/fstab, or switch the overlay off (raspi-config: Performance, Overlay File System)"}}
	case at.has("ro"):
		return []Finding{{"mounts", Fault, fmt.Sprintf("%s is mounted read-only: after an error the kernel does that by itself (journalctl -k)", at.at),
			"check the file system (fsck " + at.source + " while it is not mounted), or a new card"}}
	case at.kind == "vfat" || at.kind == "exfat" || at.kind == "ntfs" || at.kind == "fuseblk":
		return []Finding{{"mounts", Fault, fmt.Sprintf("the state folder is on %s, which keeps no modes and loses files at a power cut", at.kind), "use ext4, f2fs or btrfs for " + m.State}}
	case at.has("data=writeback"):
		return []Finding{{"mounts", Fault, fmt.Sprintf("%s is mounted with data=writeback: after a power cut files hold old data", at.at),
			"remove data=writeback from /etc/fstab and from the kernel's command line (rootflags=), then restart; tune2fs -o ^journal_data_writeback " + at.source}}
	case at.has("nobarrier") || at.has("barrier=0"):
		return []Finding{{"mounts", Fault, fmt.Sprintf("%s is mounted without barriers: fsync does not reach the card", at.at), "remove nobarrier and barrier=0 from /etc/fstab, then restart"}}
	case !at.has("noatime") && !at.has("relatime") && !at.has("lazytime"):
		return []Finding{{"mounts", Warning, fmt.Sprintf("%s is mounted with access times: each read writes to the card", at.at), "add noatime to its line in /etc/fstab, then: mount -o remount,noatime " + at.at}}
	}
	return ok("mounts", fmt.Sprintf("%s on %s (%s)", at.at, at.source, at.kind))
}

// cardCheck looks at what the medium says of its health: errors that ext4 has noted, and the wear of an eMMC (JEDEC eMMC 5.0, EXT_CSD 267 to 269). SD cards say nothing.
func cardCheck(m Machine, _ boards.Board, _ bool) []Finding {
	var all []Finding
	for _, file := range glob(m.Root, "sys/fs/ext4/*/errors_count") {
		dev := path.Base(path.Dir(file))
		if n, okay := number(m.Root, file); okay && n > 0 {
			all = append(all, Finding{"card", Fault, fmt.Sprintf("the file system on %s is damaged: the kernel noted %d errors", dev, n),
				"touch /forcefsck; restart; if it comes back, replace the card"})
		}
	}
	for _, file := range glob(m.Root, "sys/block/mmcblk*/device/life_time") {
		dev := strings.Split(file, "/")[2]
		worst := int64(0)
		for word := range strings.FieldsSeq(text(m.Root, file)) {
			if n, err := strconv.ParseInt(word, 0, 64); err == nil {
				worst = max(worst, n)
			}
		}
		pre, _ := number(m.Root, path.Dir(file)+"/pre_eol_info")
		switch {
		case worst >= 0x0b || pre >= 3:
			all = append(all, Finding{"card", Fault, dev + " says that its life is over", "copy the state folder (streembitd stopped) and replace it"})
		case worst >= 0x09 || pre == 2:
			all = append(all, Finding{"card", Warning, fmt.Sprintf("%s says that %d %% of its life is used", dev, (worst-1)*10), "plan to replace it; longer batch_age writes less (docs/operations.md, Sizing)"})
		case worst > 0:
			all = append(all, Finding{"card", OK, fmt.Sprintf("%s: at most %d %% of its life is used", dev, worst*10), ""})
		}
	}
	return all
}

// writesCheck looks at what else writes to the card all the time.
func writesCheck(m Machine, _ boards.Board, _ bool) []Finding {
	var all []Finding
	if exists(m.Root, "var/log/journal") && !journalBounded(m.Root) {
		if at, found := mountOf(m.Root, "/var/log/journal"); found && strings.Contains(at.source, "mmcblk") {
			all = append(all, Finding{"writes", Warning, "journald writes to the card without a bound of its own",
				"mkdir -p /etc/systemd/journald.conf.d && printf '[Journal]\\nStorage=volatile\\nRuntimeMaxUse=16M\\n' >/etc/systemd/journald.conf.d/streembit.conf && systemctl restart systemd-journald"})
		}
	}
	for line := range strings.Lines(text(m.Root, "proc/swaps")) {
		if strings.HasPrefix(line, "/dev/mmcblk") || strings.HasPrefix(line, "/var/swap") || strings.HasPrefix(line, "/swapfile") {
			all = append(all, Finding{"writes", Warning, "this machine swaps to the card, which wears it out", "systemctl disable --now dphys-swapfile; apt-get install zram-tools"})
		}
	}
	return all
}

func journalBounded(root fs.FS) bool {
	files := append(glob(root, "etc/systemd/journald.conf.d/*.conf"), "etc/systemd/journald.conf")
	for _, dir := range []string{"usr/lib", "lib", "run"} {
		files = append(files, glob(root, dir+"/systemd/journald.conf.d/*.conf")...)
	}
	for _, file := range files {
		for line := range strings.Lines(text(root, file)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if key == "Storage" && (value == "volatile" || value == "none") || key == "SystemMaxUse" && value != "" {
				return true
			}
		}
	}
	return false
}

// size writes bytes as people count them.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
