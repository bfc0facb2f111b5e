// SPDX-License-Identifier: Apache-2.0

package hal_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
)

// machine is a file-system root with the files and links of a kernel that a test gives it.
type machine struct {
	t      *testing.T
	root   string
	opened []int
}

func newMachine(t *testing.T) *machine { return &machine{t: t, root: t.TempDir()} }

func (m *machine) path(name string) string {
	p := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return p
}

func (m *machine) write(name, content string) {
	if err := os.WriteFile(m.path(name), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// link makes a relative link, as sysfs has them.
func (m *machine) link(name, to string) {
	target, err := filepath.Rel(filepath.Dir(name), to)
	if err == nil {
		err = os.Symlink(target, m.path(name))
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) remove(names ...string) {
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(m.root, name)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// adapter makes /dev/i2c-N and what sysfs says about it: device is the folder of its parent, node its device-tree node.
func (m *machine) adapter(n int, name, device, node string) {
	dir := fmt.Sprintf("sys/devices/%s/i2c-%d", device, n)
	m.write(fmt.Sprintf("dev/i2c-%d", n), "")
	m.write(dir+"/name", name+"\n")
	m.link(fmt.Sprintf("sys/bus/i2c/devices/i2c-%d", n), dir)
	if node != "" {
		if err := os.MkdirAll(m.path("sys/firmware/devicetree/base/"+node), 0o755); err != nil {
			m.t.Fatal(err)
		}
		m.link(dir+"/of_node", "sys/firmware/devicetree/base/"+node)
		m.write(dir+"/uevent", "OF_NAME=i2c\nOF_FULLNAME=/"+node+"\n")
	}
}

// unplug takes an adapter away, with all that sysfs has below its device.
func (m *machine) unplug(n int, device string) {
	m.remove(fmt.Sprintf("dev/i2c-%d", n), fmt.Sprintf("sys/bus/i2c/devices/i2c-%d", n), "sys/devices/"+device)
}

// chip makes a chip that the kernel knows; driver "" = none is bound to it.
func (m *machine) chip(n int, addr uint16, driver string) {
	dir := fmt.Sprintf("sys/bus/i2c/devices/%d-%04x", n, addr)
	m.write(dir+"/name", "chip\n")
	if driver != "" {
		m.write("sys/bus/i2c/drivers/"+driver+"/bind", "")
		m.link(dir+"/driver", "sys/bus/i2c/drivers/"+driver)
	}
}

func (m *machine) open() *hal.Board {
	b, err := hal.Open(m.t.Context(), hal.Config{Root: m.root, OpenI2C: func(n int) (i2c.BusCloser, error) {
		m.opened = append(m.opened, n)
		return &fakeBus{name: fmt.Sprint("I2C", n)}, nil
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { b.Close() })
	return b
}

const (
	hub     = "platform/scb/fd500000.pcie/pci0000:00/0000:01:00.0/usb1/1-1"
	onUSB   = hub + "/1-1.2/1-1.2:1.0"
	bcmNode = "soc/i2c@7e804000"
)

func pi4(t *testing.T) *machine {
	m := newMachine(t)
	m.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\x00")
	m.write("proc/device-tree/compatible", "raspberrypi,4-model-b\x00brcm,bcm2711\x00")
	m.write("proc/device-tree/aliases/i2c1", "/"+bcmNode+"\x00")
	m.write("proc/device-tree/aliases/serial0", "/soc/serial@7e215040\x00")
	m.adapter(1, "bcm2835 (i2c@7e804000)", "platform/soc/fe804000.i2c", bcmNode)
	m.adapter(0, "bcm2835 (i2c@7e205000)", "platform/soc/fe205000.i2c", "soc/i2c@7e205000")
	m.adapter(11, "i2c-tiny-usb at bus 001 device 005", onUSB, "")
	return m
}

func TestAdapterNames(t *testing.T) {
	m := pi4(t)
	b := m.open()
	if got := b.Buses(hal.I2C); !slices.Equal(got, []string{"/dev/i2c-0", "/dev/i2c-1", "/dev/i2c-11"}) {
		t.Fatal(got)
	}
	for n, names := range map[string][]string{
		"/dev/i2c-1":  {"", "/dev/i2c-1", "i2c-1", "I2C1", "1", "bcm2835 (i2c@7e804000)", "i2c@7e804000", "i2c1"},
		"/dev/i2c-0":  {"/dev/i2c-0", "0", "i2c@7e205000"},
		"/dev/i2c-11": {"11", "i2c-tiny-usb at bus 001 device 005", "usb-1-1.2"},
	} {
		for _, name := range names {
			p, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76})
			if err != nil || p.Name != n+" address 0x76" || p.I2C.Bus.String() != n {
				t.Errorf("%q: %+v, %v", name, p, err)
			}
		}
	}
	slices.Sort(m.opened)
	if !slices.Equal(m.opened, []int{0, 1, 11}) {
		t.Errorf("opened %v", m.opened)
	}
	for _, name := range []string{"2", "usb-1-1", "serial0", "i2c-111"} {
		if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76}); !errors.Is(err, hal.ErrNoBus) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if len(m.opened) != 3 {
		t.Errorf("opened %v", m.opened)
	}
}

// A name that two adapters have means neither.
func TestAmbiguousNames(t *testing.T) {
	m := newMachine(t)
	m.adapter(3, "twin", "platform/x/usb2/2-1/2-1:1.0", "")
	m.adapter(4, "twin", "platform/x/usb2/2-1/2-1:1.1", "")
	b := m.open()
	for _, name := range []string{"twin", "usb-2-1"} {
		if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76}); !errors.Is(err, hal.ErrNoBus) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"3", "4"} {
		if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76}); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76}); err == nil || !strings.Contains(err.Error(), "/dev/i2c-3, /dev/i2c-4: say which") {
		t.Errorf("no name: %v", err)
	}
}

// The channels of a multiplexer have numbers as they were found; their names say where they are.
func TestMultiplexer(t *testing.T) {
	m := pi4(t)
	for parent, device := range map[int]string{1: "platform/soc/fe804000.i2c/i2c-1", 11: onUSB + "/i2c-11"} {
		mux := fmt.Sprintf("sys/devices/%s/%d-0070", device, parent)
		m.chip(parent, 0x70, "")
		for channel := range 2 {
			n := 20 + parent + channel
			m.adapter(n, fmt.Sprintf("i2c-%d-mux (chan_id %d)", parent, channel), device, "")
			dir := fmt.Sprintf("sys/devices/%s/i2c-%d", device, n)
			m.link(dir+"/mux_device", mux)
			m.link(fmt.Sprintf("sys/bus/i2c/devices/%d-0070/channel-%d", parent, channel), dir)
		}
	}
	b := m.open()
	for name, want := range map[string]string{
		"i2c-1-0070.0": "/dev/i2c-21 ", "i2c-1-0070.1": "/dev/i2c-22 ", "usb-1-1.2": "/dev/i2c-11 ", "usb-1-1.2-0070.1": "/dev/i2c-32 ",
	} {
		if p, err := b.Port(hal.Request{Kind: hal.I2C, Bus: name, Addr: 0x76}); err != nil || !strings.HasPrefix(p.Name, want) {
			t.Errorf("%s: %q, %v", name, p.Name, err)
		}
	}
}

func TestAdapterComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		b := m.open()
		r := hal.Request{Kind: hal.I2C, Bus: "usb-1-1.2", Addr: 0x76}
		if _, err := b.Port(r); !errors.Is(err, hal.ErrNoBus) || !strings.Contains(err.Error(), "USB adapter") {
			t.Errorf("before: %v", err)
		}
		m.adapter(7, "i2c-tiny-usb at bus 001 device 002", onUSB, "")
		p, err := b.Port(r)
		if err != nil {
			t.Fatalf("after: %v", err)
		}
		if err := p.I2C.Tx(t.Context(), []byte{1}, nil); err != nil {
			t.Error(err)
		}
		m.unplug(7, onUSB)
		m.adapter(7, "another adapter", "platform/y", "") // it got the number
		time.Sleep(2 * time.Second)
		if h := b.Health(); len(h) != 1 || h[0].State != hal.BusGone {
			t.Errorf("%+v", h)
		}
		m.adapter(8, "i2c-tiny-usb at bus 001 device 003", onUSB, "")
		if err := p.I2C.Tx(t.Context(), []byte{1}, nil); err != nil || !slices.Equal(m.opened, []int{7, 8}) {
			t.Errorf("%v, opened %v", err, m.opened)
		}
		if h := b.Health(); len(h) != 1 || h[0].Name != "/dev/i2c-8" || h[0].Key != "usb-1-1.2" || h[0].Reopens != 1 {
			t.Errorf("%+v", h)
		}
	})
}

func TestClaimedAddresses(t *testing.T) {
	m := pi4(t)
	m.chip(1, 0x76, "bmp280")
	m.chip(1, 0x48, "") // the device tree names it, but no driver has taken it
	m.chip(11, 0x68, "rtc-ds1307")
	b := m.open()
	want := map[string][]uint16{"1": {0x76}, "": {0x76}, "usb-1-1.2": {0x68}, "0": {0x50}}
	for bus, addrs := range want {
		claims, err := b.Claimed(bus)
		if got := slices.Sorted(maps.Keys(claims)); err != nil || !slices.Equal(got, addrs) {
			t.Errorf("%q: %v, %v", bus, claims, err)
		}
	}
	for r, says := range map[hal.Request][]string{
		{Bus: "1", Addr: 0x76}: {"bmp280", "1-0076", "iio", "unbind"},
		{Bus: "0", Addr: 0x50}: {"EEPROM"},
	} {
		r.Kind = hal.I2C
		_, err := b.Port(r)
		if !errors.Is(err, hal.ErrClaimed) {
			t.Errorf("%+v: %v", r, err)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%v; want it to say %q", err, s)
			}
		}
	}
	for _, addr := range []uint16{0x48, 0x77, 0x68} {
		if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: "1", Addr: addr}); err != nil {
			t.Error(err)
		}
	}
	m.remove("sys/bus/i2c/devices/1-0076/driver") // unbound
	if _, err := b.Port(hal.Request{Kind: hal.I2C, Bus: "1", Addr: 0x76}); err != nil {
		t.Error(err)
	}
	if _, err := b.Claimed("5"); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("a bus that is not there: %v", err)
	}
}

func TestMastersComeLater(t *testing.T) {
	m := pi4(t)
	b := m.open()
	if _, err := b.Port(hal.Request{Kind: hal.OneWire}); !errors.Is(err, hal.ErrNoBus) || !strings.Contains(err.Error(), "w1-gpio") {
		t.Errorf("before: %v", err)
	}
	m.write("sys/bus/w1/devices/w1_bus_master1/uevent", "")
	p, err := b.Port(hal.Request{Kind: hal.OneWire, Bus: "w1_bus_master1"})
	if err != nil || p.W1 != "sys/bus/w1/devices/w1_bus_master1" {
		t.Errorf("after: %+v, %v", p, err)
	}
	if p, err = b.Port(hal.Request{Kind: hal.OneWire}); err != nil || p.W1 != "sys/bus/w1/devices" {
		t.Errorf("without a name: %+v, %v", p, err)
	}
}

func TestUnknownBoardSaysSo(t *testing.T) {
	m := newMachine(t)
	m.write("proc/device-tree/model", "Acme Board 9\x00")
	m.adapter(2, "acme", "platform/i2c", "")
	b := m.open()
	if b.Name() != "Acme Board 9" || !slices.ContainsFunc(b.Problems(), func(err error) bool {
		return strings.Contains(err.Error(), "Acme Board 9") && strings.Contains(err.Error(), "/dev/i2c-N")
	}) {
		t.Errorf("%q, %v", b.Name(), b.Problems())
	}
	if p, err := b.Port(hal.Request{Kind: hal.I2C, Addr: 0x76}); err != nil || !strings.HasPrefix(p.Name, "/dev/i2c-2 ") {
		t.Errorf("%+v, %v", p, err)
	}
	known := pi4(t).open()
	for _, err := range known.Problems() {
		if strings.Contains(err.Error(), "table") {
			t.Error(err)
		}
	}
}
