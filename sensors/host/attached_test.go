// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/host"
)

// tree makes files and links as the kernel has them in sysfs.
type tree struct {
	t    *testing.T
	root string
}

func (k tree) file(name, text string) {
	k.t.Helper()
	file := filepath.Join(k.root, name)
	must(k.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(k.t, os.WriteFile(file, []byte(text+"\n"), 0o644))
}

// link makes a relative link, as those of sysfs are.
func (k tree) link(name, to string) {
	k.t.Helper()
	file := filepath.Join(k.root, name)
	must(k.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(k.t, os.MkdirAll(filepath.Join(k.root, to), 0o755))
	target, err := filepath.Rel(filepath.Dir(file), filepath.Join(k.root, to))
	must(k.t, err)
	must(k.t, os.Symlink(target, file))
}

// hwmon adds a hwmon device that measures a device.
func (k tree) hwmon(number, name, device string) {
	k.t.Helper()
	dir := device + "/hwmon/hwmon" + number
	k.file(dir+"/name", name)
	k.file(dir+"/temp1_input", "21500")
	k.link(dir+"/device", device)
	k.link("sys/class/hwmon/hwmon"+number, dir)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What is wired or plugged into the machine is not the machine: host neither reports it nor fails with it.
func TestOnlyTheBoardsOwnHwmon(t *testing.T) {
	k := tree{t, t.TempDir()}
	const (
		soc     = "sys/devices/platform/soc"
		adapter = soc + "/fe804000.i2c/i2c-1"
		usb     = soc + "/fe980000.usb/usb1/1-1"
		pci     = "sys/devices/pci0000:00/0000:00:1d.0/0000:01:00.0"
	)
	for device, bus := range map[string]string{
		soc: "platform", soc + "/fe804000.i2c": "platform", adapter: "i2c", adapter + "/1-0048": "i2c", soc + "/fe204000.spi": "platform",
		soc + "/fe204000.spi/spi_master/spi0/spi0.0": "spi", "sys/devices/w1_bus_master1": "w1", "sys/devices/w1_bus_master1/28-000005e2fdc3": "w1",
		usb: "usb", usb + "/1-1:1.0": "usb", usb + "/1-1:1.0/i2c-11": "i2c", usb + "/1-1:1.0/i2c-11/11-004a": "i2c",
		usb + "/1-1:1.1/0003:1B1C:0C10.0001": "hid", soc + "/soc:firmware/raspberrypi-hwmon": "platform", pci: "pci",
	} {
		k.link(device+"/subsystem", "sys/bus/"+bus)
	}
	k.link(pci+"/nvme/nvme0/subsystem", "sys/class/nvme")
	k.link(pci+"/nvme/nvme0/device", pci)
	k.link("sys/devices/virtual/thermal/thermal_zone0/subsystem", "sys/class/thermal")
	k.file("sys/devices/virtual/thermal/thermal_zone0/type", "cpu-thermal")
	k.file("sys/devices/virtual/thermal/thermal_zone0/temp", "48312")
	k.link("sys/class/thermal/thermal_zone0", "sys/devices/virtual/thermal/thermal_zone0")
	k.hwmon("0", "cpu_thermal", "sys/devices/virtual/thermal/thermal_zone0")
	k.hwmon("1", "rpi_volt", soc+"/soc:firmware/raspberrypi-hwmon")
	k.hwmon("2", "nvme", pci+"/nvme/nvme0")
	k.hwmon("3", "lm75", adapter+"/1-0048")
	k.hwmon("4", "w1_slave_temp", "sys/devices/w1_bus_master1/28-000005e2fdc3")
	k.hwmon("5", "max31722", soc+"/fe204000.spi/spi_master/spi0/spi0.0")
	k.hwmon("6", "tmp102", usb+"/1-1:1.0/i2c-11/11-004a")
	k.hwmon("7", "corsairpsu", usb+"/1-1:1.1/0003:1B1C:0C10.0001")

	board := hal.NewBoard(hal.Wiring{Root: k.root})
	machine, err := host.Driver.Connect(t.Context(), board, hal.Request{}, nil)
	must(t, err)
	defer machine.Close()
	for _, gone := range []string{usb, "sys/devices/w1_bus_master1", adapter} { // one after another
		samples, err := machine.Read(t.Context())
		if err != nil {
			t.Fatalf("without what was before %s: %v", gone, err)
		}
		var names []string
		for _, s := range samples {
			if strings.HasPrefix(s.Name, sensors.Temperature.Name) {
				names = append(names, s.Name)
			}
		}
		want := []string{"temperature.cpu-thermal", "temperature.cpu_thermal.temp1", "temperature.rpi_volt.temp1", "temperature.nvme.temp1"}
		if !slices.Equal(names, want) {
			t.Errorf("%v, want %v", names, want)
		}
		must(t, os.RemoveAll(filepath.Join(k.root, gone)))
	}
}
