// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/streembit/edge/boards"
)

// busCheck looks whether the buses that sensors need are there.
func busCheck(m Machine, b boards.Board, _ bool) []Finding {
	var all []Finding
	for _, kind := range kinds(m.Needs) {
		devices := glob(m.Root, pattern(kind))
		var names []string
		for _, n := range m.Needs {
			if n.Bus == kind && !slices.Contains(names, n.Sensor) {
				names = append(names, n.Sensor)
			}
			if n.Bus == kind && n.Device != "" && !exists(m.Root, n.Device) && len(devices) > 0 {
				all = append(all, Finding{"buses", Fault, fmt.Sprintf("%s: there is no %s", n.Sensor, n.Device),
					"name one of these in the config: /" + strings.Join(devices, ", /")})
			}
		}
		switch {
		case len(devices) > 0:
			all = append(all, Finding{"buses", OK, fmt.Sprintf("%s: /%s", kind, strings.Join(devices, ", /")), ""})
		case kind == "i2c" && len(glob(m.Root, "sys/bus/i2c/devices/i2c-*")) > 0:
			all = append(all, Finding{"buses", Fault, "the kernel has an I2C adapter, but programs cannot use it: the module i2c-dev is not loaded",
				"modprobe i2c-dev && echo i2c-dev >/etc/modules-load.d/streembit.conf"})
		default:
			all = append(all, Finding{"buses", Fault, fmt.Sprintf("there is no %s bus, and %s needs it", kind, strings.Join(names, ", ")), enable(b, kind)})
		}
	}
	return all
}

func kinds(needs []Need) (all []string) {
	for _, n := range needs {
		if pattern(n.Bus) != "" && !slices.Contains(all, n.Bus) {
			all = append(all, n.Bus)
		}
	}
	return all
}

// pattern says where devices of a kind are; "" = the kind has none of its own.
func pattern(kind string) string {
	return map[string]string{"i2c": "dev/i2c-[0-9]*", "spi": "dev/spidev*", "gpio": "dev/gpiochip[0-9]*", "onewire": "sys/bus/w1/devices/w1_bus_master*"}[kind]
}

func enable(b boards.Board, kind string) string {
	fix := map[string]string{"i2c": b.EnableI2C, "spi": b.EnableSPI, "onewire": b.OneWire.Enable}[kind]
	if fix == "" {
		fix = "enable it in the board's device tree (an overlay), or plug in a USB adapter"
	}
	return fix
}

// account is a user of the machine: number, and the numbers of all groups.
type account struct {
	uid    uint32
	groups []uint32
}

// lookUp finds a user in /etc/passwd, with the groups of /etc/group and those that the unit adds.
func (m Machine) lookUp() (account, bool) {
	var a account
	found := false
	for line := range strings.Lines(text(m.Root, "etc/passwd")) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) > 3 && f[0] == m.User {
			uid, err1 := strconv.ParseUint(f[2], 10, 32)
			gid, err2 := strconv.ParseUint(f[3], 10, 32)
			if found = err1 == nil && err2 == nil; found {
				a = account{uint32(uid), []uint32{uint32(gid)}}
			}
		}
	}
	extra := m.unitGroups()
	for line := range strings.Lines(text(m.Root, "etc/group")) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), m.User) && !slices.Contains(extra, f[0]) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			a.groups = append(a.groups, uint32(gid))
		}
	}
	return a, found
}

// unitGroups lists the SupplementaryGroups= of the unit and its drop-ins.
func (m Machine) unitGroups() (all []string) {
	for _, dir := range []string{"usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"} {
		files := append(glob(m.Root, dir+"/"+m.Unit+".service.d/*.conf"), dir+"/"+m.Unit+".service")
		for _, file := range files {
			for line := range strings.Lines(text(m.Root, file)) {
				if list, ok := strings.CutPrefix(strings.TrimSpace(line), "SupplementaryGroups="); ok {
					all = append(all, strings.Fields(list)...)
				}
			}
		}
	}
	return all
}

// rightsCheck looks whether the service's user may use the devices that sensors need.
func rightsCheck(m Machine, _ boards.Board, _ bool) []Finding {
	user, found := m.lookUp()
	if !found {
		if !exists(m.Root, "etc/passwd") || m.User == "" {
			return nil
		}
		return []Finding{{"rights", Warning, fmt.Sprintf("there is no user %s, as which the service would run", m.User), "install the package, or: systemd-sysusers"}}
	}
	var all []Finding
	for _, kind := range kinds(m.Needs) {
		if kind == "onewire" { // read through files that everybody may read
			continue
		}
		for _, dev := range glob(m.Root, pattern(kind)) {
			if needed(m.Needs, kind, "/"+dev) {
				all = append(all, m.mayUse(user, dev)...)
			}
		}
	}
	if len(all) == 0 && len(kinds(m.Needs)) > 0 {
		return ok("rights", m.User+" may use the buses")
	}
	return all
}

func needed(needs []Need, kind, dev string) bool {
	return slices.ContainsFunc(needs, func(n Need) bool { return n.Bus == kind && (n.Device == "" || n.Device == dev) })
}

// mayUse returns a finding unless the user may read and write a device.
func (m Machine) mayUse(user account, dev string) []Finding {
	info, err := fs.Stat(m.Root, dev)
	if err != nil {
		return nil
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode := info.Mode().Perm()
	switch {
	case user.uid == 0, mode&0o006 == 0o006, owner.Uid == user.uid && mode&0o600 == 0o600, slices.Contains(user.groups, owner.Gid) && mode&0o060 == 0o060:
		return nil
	case mode&0o060 != 0o060 || owner.Gid == 0:
		return []Finding{{"rights", Fault, fmt.Sprintf("%s may not use /%s: it belongs to root alone", m.User, dev),
			"install the package's udev rules, then: udevadm control --reload && udevadm trigger"}}
	}
	group := m.groupName(owner.Gid)
	return []Finding{{"rights", Fault, fmt.Sprintf("%s may not use /%s: it is not in the group %s", m.User, dev, group),
		fmt.Sprintf("usermod -aG %s %s && systemctl restart %s", group, m.User, m.Unit)}}
}

func (m Machine) groupName(gid uint32) string {
	for line := range strings.Lines(text(m.Root, "etc/group")) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) > 2 && f[2] == strconv.FormatUint(uint64(gid), 10) {
			return f[0]
		}
	}
	return strconv.FormatUint(uint64(gid), 10)
}

// secretsCheck looks who can read keys and tokens.
func secretsCheck(m Machine, _ boards.Board, _ bool) []Finding {
	var all []Finding
	for _, name := range []string{"key.pem", "reader.pem", "enroll.toml"} {
		file := path.Join(m.State, name)
		info, err := fs.Stat(m.Root, strings.TrimPrefix(file, "/"))
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			all = append(all, Finding{"secrets", Fault, fmt.Sprintf("%s can be read by others (mode %04o)", file, info.Mode().Perm()), "chmod 600 " + file})
		}
	}
	for _, boot := range []string{"boot/firmware/streembit/enroll.toml", "boot/streembit/enroll.toml"} {
		if exists(m.Root, boot) && exists(m.Root, path.Join(m.State, "fleet.cbor")) {
			all = append(all, Finding{"secrets", Warning, "a claim token still lies on the boot partition, and this device is in a fleet already: whoever takes the card can join too",
				"rm /" + boot})
		}
	}
	return all
}
