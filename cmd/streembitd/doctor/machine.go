// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/streembit/edge/boards"
)

// clockCheck looks whether the time can be right, and who keeps it.
func clockCheck(m Machine, _ boards.Board, _ bool) []Finding {
	hasClock := len(glob(m.Root, "sys/class/rtc/rtc[0-9]*")) > 0
	keeps := exists(m.Root, "var/lib/systemd/timesync/clock") || exists(m.Root, "etc/fake-hwclock.data") || exists(m.Root, "var/lib/chrony")
	var all []Finding
	switch {
	case m.Now.IsZero(): // not this machine's clock
	case !m.Built.IsZero() && m.Now.Before(m.Built):
		all = append(all, Finding{"clock", Fault, fmt.Sprintf("the clock says %s, which is before this program was made", m.Now.UTC().Format(time.DateTime)),
			"timedatectl set-ntp true; where there is no network: a clock chip (dtoverlay=i2c-rtc,ds3231), or date --set"})
	case !m.Synced:
		all = append(all, Finding{"clock", Warning, "nobody vouches for the clock: readings are published without a wall time until it is synchronised, and grants end by the owner's time alone",
			"timedatectl timesync-status; timedatectl set-ntp true; with a clock that is set by other means: clock = \"always\" in the config"})
	default:
		all = ok("clock", "synchronised")
	}
	if !hasClock && !keeps {
		all = append(all, Finding{"clock", Warning, "there is no clock chip, and nothing keeps the time over a restart: the machine starts in the past",
			"apt-get install systemd-timesyncd (it keeps the last time on disk), or a clock chip (dtoverlay=i2c-rtc,ds3231)"})
	}
	return all
}

// watchdogCheck looks whether a hung machine restarts.
func watchdogCheck(m Machine, b boards.Board, _ bool) []Finding {
	if !exists(m.Root, "dev/watchdog") && !exists(m.Root, "dev/watchdog0") {
		fix := "modprobe softdog"
		if b.Watchdog.Driver != "" {
			fix = "modprobe " + b.Watchdog.Driver
		}
		return []Finding{{"watchdog", Warning, "there is no hardware watchdog: a machine that hangs stays so", fix + ", then RuntimeWatchdogSec=15s in /etc/systemd/system.conf.d/watchdog.conf"}}
	}
	state := text(m.Root, "sys/class/watchdog/watchdog0/state")
	if state == "inactive" || state == "" && !m.watchdogSet() {
		return []Finding{{"watchdog", Warning, "nobody feeds the hardware watchdog, so that it guards nothing: a machine that hangs stays so",
			"mkdir -p /etc/systemd/system.conf.d && printf '[Manager]\\nRuntimeWatchdogSec=15s\\n' >/etc/systemd/system.conf.d/watchdog.conf && systemctl daemon-reexec"}}
	}
	return ok("watchdog", "guards this machine")
}

// watchdogSet reports whether systemd is told to feed the watchdog, for kernels that do not say.
func (m Machine) watchdogSet() bool {
	files := []string{"etc/systemd/system.conf"}
	for _, dir := range []string{"etc", "usr/lib", "lib", "run"} {
		files = append(files, glob(m.Root, dir+"/systemd/system.conf.d/*.conf")...)
	}
	for _, file := range files {
		for line := range strings.Lines(text(m.Root, file)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if key == "RuntimeWatchdogSec" && value != "" && value != "0" && value != "off" {
				return true
			}
		}
	}
	return false
}

// hot is where boards begin to slow down, in thousandths of a degree Celsius.
const hot = 80_000

// powerCheck looks at supply and heat: an undervolted Pi loses USB devices and spoils cards.
func powerCheck(m Machine, _ boards.Board, _ bool) []Finding {
	var all []Finding
	for _, name := range glob(m.Root, "sys/class/hwmon/hwmon*/name") {
		if text(m.Root, name) != "rpi_volt" {
			continue
		}
		if alarm, okay := number(m.Root, path.Dir(name)+"/in0_lcrit_alarm"); okay && alarm != 0 {
			all = append(all, Finding{"power", Fault, "the supply is too weak: the voltage drops below what the board needs", "a supply of the board's maker, and a short, thick cable"})
		}
	}
	for _, zone := range glob(m.Root, "sys/class/thermal/thermal_zone*/temp") {
		if t, okay := number(m.Root, zone); okay && t >= hot {
			all = append(all, Finding{"power", Warning, fmt.Sprintf("the board is at %.0f °C and runs slower to stay alive", float64(t)/1000), "a heat sink, or another place"})
		}
	}
	return all
}

// memoryCheck looks whether there is memory left.
func memoryCheck(m Machine, _ boards.Board, _ bool) []Finding {
	kB := map[string]int64{}
	for line := range strings.Lines(text(m.Root, "proc/meminfo")) {
		var key string
		var n int64
		if _, err := fmt.Sscanf(line, "%s %d kB", &key, &n); err == nil {
			kB[strings.TrimSuffix(key, ":")] = n
		}
	}
	var all []Finding
	if total, free := kB["MemTotal"], kB["MemAvailable"]; total > 0 && (free < total/20 || free < 32<<10) {
		all = append(all, Finding{"memory", Warning, fmt.Sprintf("%s left of %s", size(free<<10), size(total<<10)), "ps -eo rss,comm --sort -rss | head"})
	}
	for line := range strings.Lines(text(m.Root, "proc/vmstat")) {
		var n int64
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil && n > 0 {
			all = append(all, Finding{"memory", Warning, fmt.Sprintf("the kernel has killed %d programs since the start, because there was no memory", n), "journalctl -k | grep -i 'killed process'"})
		}
	}
	return all
}
