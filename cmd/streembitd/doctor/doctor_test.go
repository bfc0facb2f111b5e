// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/streembit/edge/cmd/streembitd/doctor"
)

// healthy is a Raspberry Pi 4 with nothing wrong.
func healthy() (doctor.Machine, fstest.MapFS) {
	root := fstest.MapFS{
		"proc/device-tree/model":      file("Raspberry Pi 4 Model B Rev 1.4\x00"),
		"proc/device-tree/compatible": file("raspberrypi,4-model-b\x00brcm,bcm2711\x00"),
		"proc/self/mountinfo": file("24 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n" +
			"30 24 0:20 / /run rw - tmpfs tmpfs rw\n31 24 179:3 / /var/lib/streembit rw,noatime - ext4 /dev/mmcblk0p3 rw\n"),
		"proc/swaps":   file("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n"),
		"proc/meminfo": file("MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:     600000 kB\n"),
		"proc/vmstat":  file("nr_free_pages 1\noom_kill 0\n"),
		"etc/passwd":   file("root:x:0:0::/root:/bin/sh\nstreembit:x:991:990::/var/lib/streembit:/usr/sbin/nologin\n"),
		"etc/group":    file("root:x:0:\ni2c:x:44:streembit,pi\ngpio:x:45:pi\nstreembit:x:990:\n"),
		"usr/lib/systemd/system/streembitd.service": file("[Service]\nUser=streembit\nSupplementaryGroups=gpio spi\n"),
		"sys/bus/i2c/devices/i2c-1/name":            file("bcm2835 (i2c@7e804000)\n"),
		"sys/bus/w1/devices/w1_bus_master1/x":       file(""),
		"dev/i2c-1":                                 device(0o660, 44),
		"dev/gpiochip0":                             device(0o660, 45),
		"dev/watchdog0":                             device(0o600, 0),
		"sys/class/watchdog/watchdog0/state":        file("active\n"),
		"var/lib/systemd/timesync/clock":            file(""),
		"var/lib/streembit/key.pem":                 &fstest.MapFile{Mode: 0o600},
		"sys/fs/ext4/mmcblk0p3/errors_count":        file("0\n"),
		"sys/block/mmcblk0/device/life_time":        file("0x01 0x02\n"),
		"sys/block/mmcblk0/device/pre_eol_info":     file("0x01\n"),
		"sys/class/hwmon/hwmon1/name":               file("rpi_volt\n"),
		"sys/class/hwmon/hwmon1/in0_lcrit_alarm":    file("0\n"),
		"sys/class/thermal/thermal_zone0/temp":      file("48000\n"),
	}
	m := doctor.Machine{Root: root, State: "/var/lib/streembit", User: "streembit", Unit: "streembitd", Quota: 256 << 20, Synced: true,
		Now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), Built: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Space: func(string) (doctor.Space, error) { return doctor.Space{Total: 8 << 30, Free: 6 << 30}, nil },
		Needs: []doctor.Need{{Sensor: "outdoor", Bus: "i2c"}, {Sensor: "door", Bus: "gpio"}, {Sensor: "tank", Bus: "onewire"}}}
	return m, root
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o444} }

func device(mode fs.FileMode, group uint32) *fstest.MapFile {
	return &fstest.MapFile{Mode: mode, Sys: &syscall.Stat_t{Gid: group}}
}

func TestExamine_Healthy(t *testing.T) {
	m, _ := healthy()
	for _, f := range doctor.Examine(m) {
		if f.Level != doctor.OK {
			t.Errorf("%+v", f)
		}
	}
}

// Each planted fault is found, alone, with a fix.
func TestExamine_FindsEachFault(t *testing.T) {
	type machine = doctor.Machine
	mounts := func(kind, options string) func(*machine, fstest.MapFS) {
		return func(_ *machine, r fstest.MapFS) {
			r["proc/self/mountinfo"] = file("24 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw\n31 24 179:3 / /var/lib/streembit " + options + " - " + kind + " /dev/x rw," + options + "\n")
		}
	}
	remove := func(names ...string) func(*machine, fstest.MapFS) {
		return func(_ *machine, r fstest.MapFS) {
			for name := range r {
				if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(name, n) }) {
					delete(r, name)
				}
			}
		}
	}
	put := func(name, text string) func(*machine, fstest.MapFS) {
		return func(_ *machine, r fstest.MapFS) { r[name] = file(text) }
	}
	space := func(free int64, err error) func(*machine, fstest.MapFS) {
		return func(m *machine, _ fstest.MapFS) {
			m.Space = func(string) (doctor.Space, error) { return doctor.Space{Total: 8 << 30, Free: free}, err }
		}
	}
	for name, c := range map[string]struct {
		plant func(*machine, fstest.MapFS)
		check string
		level doctor.Level
		says  string
		fix   string
	}{
		"I2C is off":             {remove("dev/i2c", "sys/bus/i2c"), "buses", doctor.Fault, "outdoor needs it", "dtparam=i2c_arm=on"},
		"i2c-dev is not loaded":  {remove("dev/i2c"), "buses", doctor.Fault, "i2c-dev is not loaded", "modprobe i2c-dev"},
		"1-wire is off":          {remove("sys/bus/w1"), "buses", doctor.Fault, "tank needs it", "dtoverlay=w1-gpio"},
		"no such bus":            {func(m *machine, _ fstest.MapFS) { m.Needs[0].Device = "/dev/i2c-7" }, "buses", doctor.Fault, "outdoor: there is no /dev/i2c-7", "/dev/i2c-1"},
		"not in the group":       {put("etc/group", "i2c:x:44:pi\ngpio:x:45:\n"), "rights", doctor.Fault, "not in the group i2c", "usermod -aG i2c streembit"},
		"root's alone":           {func(_ *machine, r fstest.MapFS) { r["dev/i2c-1"] = device(0o600, 0) }, "rights", doctor.Fault, "belongs to root alone", "udev"},
		"no user":                {put("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), "rights", doctor.Warning, "no user streembit", "systemd-sysusers"},
		"clock before the build": {func(m *machine, _ fstest.MapFS) { m.Now = time.Unix(5, 0) }, "clock", doctor.Fault, "1970-01-01", "timedatectl"},
		"clock not synchronised": {func(m *machine, _ fstest.MapFS) { m.Synced = false }, "clock", doctor.Warning, "nobody vouches", "timedatectl"},
		"nothing keeps the time": {remove("var/lib/systemd"), "clock", doctor.Warning, "starts in the past", "systemd-timesyncd"},
		"disk is full":           {space(1<<20, nil), "disk", doctor.Fault, "the disk is full", "df -h"},
		"disk is nearly full":    {space(400<<20, nil), "disk", doctor.Warning, "400.0 MiB free", "df -h"},
		"no state folder":        {space(0, errors.New("no such file")), "disk", doctor.Fault, "no such file", "mkdir"},
		"quota beyond the disk":  {func(m *machine, _ fstest.MapFS) { m.Quota = 10 << 30 }, "disk", doctor.Warning, "the config allows 10.0 GiB", "quota"},
		"overlay":                {mounts("overlay", "rw"), "mounts", doctor.Fault, "gone at each restart", "raspi-config"},
		"tmpfs":                  {mounts("tmpfs", "rw"), "mounts", doctor.Fault, "gone at each restart", "partition"},
		"read-only":              {mounts("ext4", "ro"), "mounts", doctor.Fault, "read-only", "fsck"},
		"data=writeback":         {mounts("ext4", "rw,noatime,data=writeback"), "mounts", doctor.Fault, "data=writeback", "tune2fs"},
		"no barriers":            {mounts("ext4", "rw,nobarrier"), "mounts", doctor.Fault, "fsync does not reach", "nobarrier"},
		"FAT":                    {mounts("vfat", "rw"), "mounts", doctor.Fault, "vfat", "ext4"},
		"access times":           {mounts("ext4", "rw,strictatime"), "mounts", doctor.Warning, "access times", "noatime"},
		"damaged file system":    {put("sys/fs/ext4/mmcblk0p3/errors_count", "3\n"), "card", doctor.Fault, "noted 3 errors", "replace the card"},
		"eMMC is worn":           {put("sys/block/mmcblk0/device/life_time", "0x03 0x0a\n"), "card", doctor.Warning, "90 %", "replace"},
		"eMMC is at its end":     {put("sys/block/mmcblk0/device/life_time", "0x0b 0x01\n"), "card", doctor.Fault, "life is over", "replace"},
		"journal on the card":    {put("var/log/journal/x", ""), "writes", doctor.Warning, "journald writes to the card", "Storage=volatile"},
		"swap on the card":       {put("proc/swaps", "Filename\n/var/swap file 1 0 -2\n"), "writes", doctor.Warning, "swaps to the card", "zram"},
		"key is open":            {func(_ *machine, r fstest.MapFS) { r["var/lib/streembit/key.pem"].Mode = 0o644 }, "secrets", doctor.Fault, "key.pem can be read by others (mode 0644)", "chmod 600"},
		"token was not erased": {func(_ *machine, r fstest.MapFS) {
			r["boot/firmware/streembit/enroll.toml"], r["var/lib/streembit/fleet.cbor"] = file(""), file("")
		}, "secrets", doctor.Warning, "claim token", "rm /boot/firmware"},
		"no watchdog":             {remove("dev/watchdog"), "watchdog", doctor.Warning, "no hardware watchdog", "modprobe bcm2835_wdt"},
		"watchdog is not fed":     {put("sys/class/watchdog/watchdog0/state", "inactive\n"), "watchdog", doctor.Warning, "guards nothing", "RuntimeWatchdogSec"},
		"watchdog, an old kernel": {remove("sys/class/watchdog"), "watchdog", doctor.Warning, "guards nothing", "RuntimeWatchdogSec"},
		"supply is weak":          {put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"), "power", doctor.Fault, "too weak", "supply"},
		"hot":                     {put("sys/class/thermal/thermal_zone0/temp", "85200\n"), "power", doctor.Warning, "85 °C", "heat sink"},
		"little memory":           {put("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 20000 kB\n"), "memory", doctor.Warning, "19.5 MiB left", "ps"},
		"killed for memory":       {put("proc/vmstat", "oom_kill 2\n"), "memory", doctor.Warning, "killed 2 programs", "journalctl"},
		"an update went wrong": {func(m *machine, _ fstest.MapFS) {
			m.Updates = func() []doctor.Finding { return []doctor.Finding{{"updates", doctor.Fault, "rolled back", "look"}} }
		}, "updates", doctor.Fault, "rolled back", "look"},
	} {
		t.Run(name, func(t *testing.T) {
			m, root := healthy()
			c.plant(&m, root)
			var found []doctor.Finding
			for _, f := range doctor.Examine(m) {
				if f.Level != doctor.OK {
					found = append(found, f)
				}
			}
			if len(found) != 1 || found[0].Check != c.check || found[0].Level != c.level || !strings.Contains(found[0].What, c.says) || !strings.Contains(found[0].Fix, c.fix) {
				t.Errorf("got %+v, want one %s of %s with %q and the fix %q", found, c.level, c.check, c.says, c.fix)
			}
			if got := doctor.Worst(doctor.Examine(m)); got != c.level {
				t.Errorf("worst %s", got)
			}
		})
	}
}

// An unknown board and an empty root are no reason to fail.
func TestExamine_UnknownMachine(t *testing.T) {
	for _, f := range doctor.Examine(doctor.Machine{Root: fstest.MapFS{}, State: "/s", Now: time.Now()}) {
		if f.Level == doctor.Fault || f.Level == doctor.Warning && f.Fix == "" {
			t.Errorf("%+v", f)
		}
	}
}

// FuzzExamine: whatever the tables of the machine hold, there is an answer.
func FuzzExamine(f *testing.F) {
	f.Add("31 24 179:3 / /var/lib/streembit rw - ext4 /dev/x rw\n", "streembit:x:1:2\n", "i2c:x:44:streembit\n", "0x01 0x02")
	f.Fuzz(func(t *testing.T, mounts, passwd, group, life string) {
		m, root := healthy()
		root["proc/self/mountinfo"], root["etc/passwd"], root["etc/group"], root["sys/block/mmcblk0/device/life_time"] = file(mounts), file(passwd), file(group), file(life)
		for _, x := range doctor.Examine(m) {
			if (x.Level == doctor.Fault || x.Level == doctor.Warning) && x.Fix == "" {
				t.Errorf("no fix: %+v", x)
			}
		}
	})
}
