// SPDX-License-Identifier: Apache-2.0

package hal

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/boards"
)

const i2cDevices = "sys/bus/i2c/devices"

// adapters finds the I²C adapters in the file system each time it is asked. periph looks once, at its start.
type adapters struct {
	files fs.FS
	board boards.Board
	open  func(number int) (i2c.BusCloser, error)
}

// adapter is what sysfs says about one.
type adapter struct {
	number int
	link   string // where sysfs has it, below the root; "" = unknown
	stable string // alias by what it is plugged into
	others []string
}

// scan returns the adapters in the order of their numbers.
func (a adapters) scan() []Bus[i2c.BusCloser] {
	nodes, err := fs.Glob(a.files, "dev/i2c-*")
	if err != nil { // only a malformed pattern
		return nil
	}
	var found []adapter
	for _, node := range nodes {
		if n, err := strconv.Atoi(strings.TrimPrefix(node, "dev/i2c-")); err == nil {
			found = append(found, a.describe(n))
		}
	}
	slices.SortFunc(found, func(x, y adapter) int { return x.number - y.number })
	times := make(map[string]int)
	for _, f := range found {
		for _, alias := range append(f.others, f.stable) {
			times[alias]++
		}
	}
	buses := make([]Bus[i2c.BusCloser], len(found))
	for i, f := range found {
		buses[i] = a.bus(f, func(alias string) bool { return alias != "" && times[alias] == 1 })
	}
	return buses
}

// bus makes a Bus of an adapter, with the aliases that no other has.
func (a adapters) bus(f adapter, unique func(string) bool) Bus[i2c.BusCloser] {
	n := strconv.Itoa(f.number)
	b := Bus[i2c.BusCloser]{
		Name:    "/dev/i2c-" + n,
		Aliases: []string{n, "i2c-" + n, "I2C" + n},
		Usual:   a.board.I2C.Is(a.files, f.number),
		Open:    func() (i2c.BusCloser, error) { return a.open(f.number) },
		Present: func() bool { return a.present(f) },
		Claimed: func() map[uint16]string { return a.claimed(f.number) },
	}
	for _, alias := range f.others {
		if unique(alias) && !slices.Contains(b.Aliases, alias) {
			b.Aliases = append(b.Aliases, alias)
		}
	}
	if unique(f.stable) {
		b.Key = f.stable
	}
	return b
}

func (a adapters) describe(number int) adapter {
	dir := fmt.Sprintf("%s/i2c-%d", i2cDevices, number)
	f := adapter{number: number}
	if link, err := fs.ReadLink(a.files, dir); err == nil {
		f.link = path.Join(i2cDevices, link)
		f.stable = a.stable(number, f.link)
	}
	if name := a.text(dir + "/name"); name != "" {
		f.others = append(f.others, name)
	}
	if node, err := fs.ReadLink(a.files, dir+"/of_node"); err == nil {
		f.others = append(f.others, path.Base(node))
		f.others = append(f.others, a.treeAliases(node)...)
	}
	return f
}

// text reads a small file of the kernel; "" if it cannot be read.
func (a adapters) text(name string) string {
	b, err := fs.ReadFile(a.files, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.Trim(string(b), "\x00"))
}

// treeAliases returns the names that the device tree gives to a node, for example "i2c1".
func (a adapters) treeAliases(node string) (names []string) {
	_, node, found := strings.Cut(node, "devicetree/base")
	entries, err := fs.ReadDir(a.files, "proc/device-tree/aliases")
	if err != nil || !found {
		return nil
	}
	for _, e := range entries {
		if a.text("proc/device-tree/aliases/"+e.Name()) == node {
			names = append(names, e.Name())
		}
	}
	return names
}

// stable names an adapter whose number may change by where it is plugged in: "usb-1-1.2" is port 2 of the hub in port 1 of USB bus 1
// (the kernel's name of the USB device), "usb-1-1.2-0070.3" channel 3 of the multiplexer at 0x70 behind it, "i2c-1-0070.3"
// the same on the board's own bus. "" for what has its number for good.
func (a adapters) stable(number int, link string) string {
	above := path.Base(path.Dir(link))
	if parent, err := strconv.Atoi(strings.TrimPrefix(above, "i2c-")); err == nil && parent != number {
		return a.channel(number, parent, path.Dir(link))
	}
	usb := ""
	for part := range strings.SplitSeq(link, "/") {
		switch {
		case part == "":
		case strings.HasPrefix(part, "usb"):
			usb = "usb"
		case usb != "" && part[0] >= '0' && part[0] <= '9' && strings.Contains(part, "-") && !strings.Contains(part, ":"):
			usb = "usb-" + part
		}
	}
	if usb == "usb" { // not a device below a host controller
		return ""
	}
	return usb
}

// channel names an adapter that is a channel of a multiplexer.
func (a adapters) channel(number, parent int, parentLink string) string {
	device, err := fs.ReadLink(a.files, fmt.Sprintf("%s/i2c-%d/mux_device", i2cDevices, number))
	if err != nil {
		return ""
	}
	_, addr, _ := strings.Cut(path.Base(device), "-")
	before := a.stable(parent, parentLink)
	if before == "" {
		before = fmt.Sprintf("i2c-%d", parent)
	}
	channels, _ := fs.Glob(a.files, fmt.Sprintf("%s/%d-%s/channel-*", i2cDevices, parent, addr)) // the pattern is well formed
	for _, c := range channels {
		if to, err := fs.ReadLink(a.files, c); err == nil && path.Base(to) == fmt.Sprintf("i2c-%d", number) {
			return before + "-" + addr + "." + strings.TrimPrefix(path.Base(c), "channel-")
		}
	}
	return ""
}

// present tells whether the adapter that was found is still there, and not another one under its number.
func (a adapters) present(f adapter) bool {
	dir := fmt.Sprintf("%s/i2c-%d", i2cDevices, f.number)
	if f.link == "" {
		_, err := fs.Stat(a.files, fmt.Sprintf("dev/i2c-%d", f.number))
		return err == nil
	}
	link, err := fs.ReadLink(a.files, dir)
	return err == nil && path.Join(i2cDevices, link) == f.link
}

// claimed lists the chips of an adapter that a driver of the kernel is bound to, and those never to touch.
func (a adapters) claimed(number int) map[uint16]string {
	claims := make(map[uint16]string)
	for addr := uint16(1); addr <= 0x7f; addr++ {
		if why, forbidden := a.board.Forbidden(a.files, number, addr); forbidden {
			claims[addr] = "the board's own: " + why
		}
	}
	chips, _ := fs.Glob(a.files, fmt.Sprintf("%s/%d-00[0-7]?", i2cDevices, number)) // the pattern is well formed
	for _, chip := range chips {
		driver, err := fs.ReadLink(a.files, chip+"/driver")
		addr, notHex := strconv.ParseUint(strings.TrimPrefix(path.Base(chip), fmt.Sprintf("%d-", number)), 16, 7)
		if err != nil || notHex != nil {
			continue // known to the kernel, but nobody's
		}
		name := path.Base(driver)
		claims[uint16(addr)] = fmt.Sprintf("the kernel's driver %s has it: read it through the kernel with driver iio or hwmon, "+
			"or free it: echo %s > /sys/bus/i2c/drivers/%s/unbind (for good: take it out of the device tree)", name, path.Base(chip), name)
	}
	return claims
}
