// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/streembit/edge/agent"
)

// piModules are for the Raspberry Pi and for a network card on the board under test.
var piModules = []string{"bcm2835_wdt", "i2c-bcm2835", "udc-core", "dwc2", "mii", "usbnet", "cdc_ether", "rndis_host"}

// piSensors is a thermometer on the Pi's own I²C controller.
const piSensors = `
[[sensor]]
name = "outdoor"
driver = "tmp105"
addr = 0x48
interval = "1s"
[[sensor]]
name = "machine"
driver = "host"
interval = "2s"
`

// The Pi's own I²C controller with chips that QEMU brings: a temperature that is set while all runs is pulled on this machine. The kernel's
// driver agrees, the clock chip beside it is found, an address without a chip is not.
func TestRaspberryPi3(t *testing.T) {
	arch := filepath.Join(guests(t), "arm64")
	s := newSwarm(t)
	fs := newInitramfs(t, arch, modules(t, arch, "industrialio", "kfifo_buf", "industrialio-triggered-buffer", "bmp280", "bmp280-i2c",
		"tmp102", "jc42", "ina2xx-adc", "ti-ads1015", "sht3x", "sht4x", "bh1750", "vhci-hcd", "usbip-core", "i2c-tiny-usb", "ds2482", "w1_therm", "wire",
		"virtio_net", "net_failover", "failover", "lm75"))
	fs.file(t, "modules/lm75.ko", filepath.Join(arch, "modules", "lm75.ko"))
	fs.file(t, "bin/streembitd", program(t, "arm64", "./cmd/streembitd"))
	fs.addDevice(t, s, piSensors)
	control := filepath.Join(t.TempDir(), "qmp")
	m := start(t, "-M", "raspi3b", "-accel", "tcg,thread=single", // the other CPUs spin while one boots
		"-kernel", filepath.Join(arch, "vmlinuz"), "-initrd", fs.write(t), "-dtb", filepath.Join(arch, "bcm2837-rpi-3-b.dtb"),
		"-append", "console=ttyS1,115200 panic=-1 loglevel=3", "-serial", "null", "-serial", "stdio",
		"-device", "tmp105,id=t0,bus=i2c-bus.1,address=0x48", "-device", "ds1338,bus=i2c-bus.1,address=0x68",
		"-device", "usb-net,netdev=n0", "-netdev", "user,id=n0", "-qmp", "unix:"+control+",server=on,wait=off")
	set := func(milliCelsius int) {
		qmp(t, control, "qom-set", map[string]any{"path": "/machine/peripheral/t0", "property": "temperature", "value": milliCelsius}, nil)
	}
	set(19500)
	if got, _ := readSensor(m, "outdoor").number("temperature"); got != 19.5 {
		t.Errorf("streembitd reads %v °C, want 19.5", got)
	}
	m.run("insmod /modules/lm75.ko; echo tmp105 0x48 >/sys/bus/i2c/devices/i2c-1/new_device")
	if got := m.run("cat /sys/bus/i2c/devices/1-0048/hwmon/hwmon*/temp1_input"); got != "19500" {
		t.Errorf("the kernel reads %s, want 19500", got)
	}
	m.run("echo 0x48 >/sys/bus/i2c/devices/i2c-1/delete_device")
	scan := m.run("streembitd sensors scan 2>&1")
	if !strings.Contains(scan, "Raspberry Pi 3 Model B") || !regexp.MustCompile(`/dev/i2c-1 +0x48 .*tmp105.* outdoor`).MatchString(scan) ||
		!regexp.MustCompile(`/dev/i2c-1 +0x68 `).MatchString(scan) || strings.Count(scan, "/dev/i2c-1") != 2 {
		t.Errorf("the scan found\n%s", scan)
	}

	m.connect()
	m.run("streembitd run >/tmp/run.log 2>&1 & echo $! >/tmp/run.pid")
	m.awaitSensors("both sensors work", []string{"outdoor", "machine"}, working)
	awaitRow(t, s, "outdoor", "temperature", func(v float64) bool { return v == 19.5 })
	set(-12250)
	awaitRow(t, s, "outdoor", "temperature", func(v float64) bool { return v == -12.25 })
	m.run("kill $(cat /tmp/run.pid) && wait $(cat /tmp/run.pid)")
}

// The program for ARMv6 on the oldest Raspberry Pi: it runs, reads the machine's own values, seals, signs and publishes them, and who pulls them on this machine
// can verify and open them.
func TestRaspberryPiZero(t *testing.T) {
	arch := filepath.Join(guests(t), "armel")
	s := newSwarm(t)
	fs := newInitramfs(t, arch, modules(t, arch))
	fs.file(t, "bin/streembitd", program(t, "arm", "./cmd/streembitd"))
	fs.addDevice(t, s, "[[sensor]]\nname = \"machine\"\ndriver = \"host\"\ninterval = \"1s\"\n")
	// The kernel sets the timer of this chip a few µs ahead; on a loaded machine that is over before QEMU has it, and the next tick is an hour
	// away. With -icount the guest's clock stands still while QEMU does.
	m := start(t, "-M", "raspi0", "-icount", "shift=auto", "-kernel", filepath.Join(arch, "vmlinuz"), "-initrd", fs.write(t), "-dtb", filepath.Join(arch, "bcm2835-rpi-zero.dtb"),
		"-append", "console=ttyAMA0,115200 panic=-1 loglevel=3 initcall_blacklist=bcm2835_power_driver_init", "-serial", "stdio",
		"-device", "usb-net,netdev=n0", "-netdev", "user,id=n0")
	if cpu := m.run("cat /proc/cpuinfo"); !strings.Contains(cpu, "ARMv6") {
		t.Errorf("not an ARMv6: %s", cpu)
	}
	i2cDrivers(t, m)
	if got, ok := readSensor(m, "machine").number("memory-total"); !ok || got < 100e6 {
		t.Errorf("the machine has %v bytes of memory", got)
	}
	m.connect()
	m.run("streembitd run >/tmp/run.log 2>&1 & echo $! >/tmp/run.pid")
	m.awaitSensors("the machine's own sensor works", []string{"machine"}, func(h agent.Health) bool { return working(h) && h.Reads > 3 })
	awaitRow(t, s, "machine", "memory-total", func(bytes float64) bool { return bytes > 100e6 })
	m.run("kill $(cat /tmp/run.pid) && wait $(cat /tmp/run.pid)")
}
