// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
)

// lineNames are the names of the eight lines of the board's GPIO chip. Line 3 is the power key, which the board already uses.
var lineNames = []string{"GPIO4", "GPIO17", "GPIO22", "PWRKEY", "GPIO23", "GPIO24", "GPIO25", "GPIO27"}

// virtBoard is what the device tree and the machine have in common.
var virtBoard = []string{"-cpu", "cortex-a53", "-smp", "1", "-m", "512", "-nic", "none"}

// virtTree returns the board's own device tree with names for its GPIO lines.
func virtTree(t *testing.T) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "virt.dtb")
	dump := exec.Command("qemu-system-aarch64", append([]string{"-M", "virt,dumpdtb=" + tree, "-display", "none"}, virtBoard...)...)
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("dumping the device tree: %v: %s", err, out)
	}
	name := exec.Command("fdtput", append([]string{"-t", "s", tree, "/pl061@9030000", "gpio-line-names"}, lineNames...)...)
	if out, err := name.CombinedOutput(); err != nil {
		t.Fatalf("naming the GPIO lines: %v: %s", err, out)
	}
	return tree
}

// The drivers of the chips on vbus are loaded when the kernel is to have them: some look for their chip and claim it by themselves.
var chipModules = []string{"industrialio", "kfifo_buf", "industrialio-triggered-buffer", "bmp280", "bmp280-i2c", "lm75", "tmp102",
	"jc42", "ina2xx-adc", "ti-ads1015", "sht3x", "sht4x", "bh1750"}

// startVirt boots the board as the fleet's device, with streembitd, vbus and a network card.
func startVirt(t *testing.T, s *swarm.Swarm, sockets, sensors string) *machine {
	t.Helper()
	arch := filepath.Join(guests(t), "arm64")
	fs := newInitramfs(t, arch, modules(t, arch, append(chipModules, piModules...)...))
	for _, m := range chipModules {
		fs.file(t, "modules/"+m+".ko", filepath.Join(arch, "modules", m+".ko"))
	}
	fs.file(t, "bin/vbus", program(t, "arm64", "./test/vbus"))
	fs.file(t, "bin/streembitd", program(t, "arm64", "./cmd/streembitd"))
	fs.addDevice(t, s, sensors)
	fs.add("etc/streembit/kernel.toml", 0o600, []byte(kernelConfig))
	return start(t, append([]string{"-M", "virt", "-kernel", filepath.Join(arch, "vmlinuz"), "-initrd", fs.write(t), "-dtb", virtTree(t),
		"-append", "console=ttyAMA0 panic=-1 loglevel=3", "-serial", "stdio",
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=",
		"-qmp", "unix:" + sockets + "/qmp,server=on,wait=off", "-qtest", "unix:" + sockets + "/qtest,server=on,wait=off", "-qtest-log", "none",
	}, virtBoard...)...)
}

// readings are what streembitd reads from one sensor, by quantity.
type readings map[string]any

// number returns a value, a state as 0 or 1.
func (r readings) number(quantity string) (float64, bool) {
	switch v := r[quantity].(type) {
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// readSensor reads one configured sensor with the program itself.
func readSensor(m *machine, name string) readings {
	m.t.Helper()
	return parseReadings(m.t, m.run("streembitd sensors read %s --json 2>&1", name))
}

func parseReadings(t *testing.T, text string) readings {
	t.Helper()
	var samples []struct {
		Name  string
		Value any
	}
	if err := json.Unmarshal([]byte(text), &samples); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	r := readings{}
	for _, s := range samples {
		r[s.Name] = s.Value
	}
	return r
}

// Everything that a gateway does with its sensors, on real kernel buses: each chip is read by our driver and by the kernel's, chips and the adapter
// fail and come back, edges are counted, an output moves a wire, and what was published is pulled.
func TestVirt(t *testing.T) {
	guests(t)
	s := newSwarm(t)
	sensors := lineSensors
	for _, c := range chips() {
		sensors += c.config()
	}
	sockets := t.TempDir()
	m := startVirt(t, s, sockets, sensors)
	m.connect()
	v := startVbus(t, m)
	v.addThermometer()
	lines := watchGPIO(t, filepath.Join(sockets, "qtest"), devicePath(t, filepath.Join(sockets, "qmp"), "pl061"))

	ours := readAll(t, m, v)
	record(t, m, ours)
	compare(t, m, v, ours)
	ours["w1"] = compareThermometer(t, m, v)
	switchOutput(t, m, lines)
	lines.drive(meterLine, 1)
	lines.drive(doorLine, 1)
	m.run("streembitd run >/tmp/run.log 2>&1 & echo $! >/tmp/run.pid")
	all := m.awaitSensors("all sensors work", sensorNames(), working)
	all = oneFails(t, m, v, all)
	unplugged(t, m, v, all)
	const pulses = 25
	pulse(m, lines, pulses)
	lines.drive(doorLine, 0)
	awaitRow(t, s, "door", "contact", func(closed float64) bool { return closed == 1 })
	newest := awaitRow(t, s, "meter", "count", func(n float64) bool { return n >= pulses })
	m.run("kill $(cat /tmp/run.pid) && wait $(cat /tmp/run.pid)")
	pulled(t, newest, ours, pulses)
}

// readAll reads every chip with streembitd. vbus logs the transactions between two notes.
func readAll(t *testing.T, m *machine, v *vbus) map[string]readings {
	t.Helper()
	begin := time.Now()
	all := map[string]readings{}
	known := i2cDrivers(t, m)
	for _, c := range chips() {
		if !known[c.name] {
			t.Errorf("streembitd has no driver %s", c.name)
			continue
		}
		delete(known, c.name)
		v.do("note begin " + c.name)
		all[c.name] = readSensor(m, c.name)
		v.do("note end " + c.name)
	}
	for name := range known {
		t.Errorf("nothing here tests the driver %s: add its chip to vbus and to chips", name)
	}
	t.Logf("read %d chips with streembitd in %.1f s", len(all), time.Since(begin).Seconds())
	return all
}

// i2cDrivers asks streembitd for its drivers of chips on I²C.
func i2cDrivers(t *testing.T, m *machine) map[string]bool {
	t.Helper()
	var list []struct{ Name, Bus string }
	must(t, json.Unmarshal([]byte(m.run("streembitd sensors drivers --json")), &list))
	if len(list) < 15 {
		t.Errorf("streembitd has %d drivers, want 15 or more", len(list))
	}
	names := map[string]bool{}
	for _, d := range list {
		if d.Bus == "I2C" {
			names[d.Name] = true
		}
	}
	return names
}

// compare reads every chip with the kernel's driver, if it has one, and wants the same values.
func compare(t *testing.T, m *machine, v *vbus, ours map[string]readings) {
	t.Helper()
	begin := time.Now()
	for _, name := range chipModules {
		m.run("insmod /modules/%s.ko", name)
	}
	table := fmt.Sprintf("%-8s %-12s %12s %12s %10s  %s\n", "chip", "quantity", "streembitd", "kernel", "within", "kernel's driver")
	for _, c := range chips() {
		dir := c.folder(v.bus)
		if c.kernel != "" {
			m.run("[ -e %s/driver ] || echo %s %#x >/sys/bus/i2c/devices/%s/new_device", dir, c.kernel, c.addr, v.bus)
			if c.prepare != "" {
				m.run("(cd %s && %s)", dir, c.prepare)
			}
		}
		for _, q := range c.values {
			if ours[c.name] == nil {
				break // said already
			}
			ours, ok := ours[c.name].number(q.quantity)
			if !ok {
				t.Errorf("%s gave no %s", c.name, q.quantity)
				continue
			}
			kernel, by := q.want, "none: what the model was set to"
			if c.kernel != "" {
				kernel, by = kernelValue(m, dir, q), c.module+" "+c.kernel
			}
			table += fmt.Sprintf("%-8s %-12s %12.6g %12.6g %10.2g  %s\n", c.name, q.quantity, ours, kernel, q.within, by)
			if math.Abs(ours-kernel) > q.within*1.0001 {
				t.Errorf("%s %s: streembitd %v, kernel %v, want them within %v", c.name, q.quantity, ours, kernel, q.within)
			}
		}
	}
	held, status := m.try("streembitd sensors read lm75 2>&1")
	if status == 0 || !strings.Contains(held, "the kernel's driver lm75") {
		t.Errorf("reading a chip that the kernel's driver has ended with %d: %s", status, held)
	}
	byKernel(t, m, ours)
	for _, c := range chips() {
		m.try("echo %#x >/sys/bus/i2c/devices/%s/delete_device", c.addr, v.bus)
	}
	for _, name := range slices.Backward(chipModules) {
		m.run("rmmod %s", name)
	}
	t.Logf("the same chips by two drivers, in %.1f s:\n%s", time.Since(begin).Seconds(), table)
}

// kernelValue reads what the kernel's driver says. A first conversion may not be over when the driver is loaded, then it has nothing yet.
func kernelValue(m *machine, dir string, q value) float64 {
	m.t.Helper()
	number := func(file string) float64 {
		x, err := strconv.ParseFloat(strings.TrimSpace(m.until(file, "(cd %s && cat %s)", dir, file)), 64)
		must(m.t, err)
		return x
	}
	x := number(q.raw) * q.unit
	if q.scale != "" {
		x *= number(q.scale)
	}
	return x
}

// kernelConfig lets streembitd read what the kernel's drivers show, by its two generic ones.
const kernelConfig = `state = "/state"
roles = ["device"]
[[sensor]]
name = "bme280"
driver = "iio"
options.device = "bme280"
[[sensor]]
name = "ina219"
driver = "iio"
options.device = "ina219"
options.channels = "voltage1, current3, power2"
[[sensor]]
name = "lm75"
driver = "hwmon"
options.device = "lm75"
[[sensor]]
name = "sht3x"
driver = "hwmon"
options.device = "sht3x"
`

// byKernel reads four chips through the kernel's drivers with streembitd, which has to give every value that its own drivers gave.
func byKernel(t *testing.T, m *machine, ours map[string]readings) {
	t.Helper()
	for _, c := range chips() {
		if !strings.Contains(kernelConfig, "\""+c.name+"\"\n") {
			continue
		}
		got := parseReadings(t, m.run("streembitd sensors read %s --json --config /etc/streembit/kernel.toml 2>&1", c.name))
		for _, q := range c.values {
			want, _ := ours[c.name].number(q.quantity)
			found := false
			for name := range got {
				x, ok := got.number(name)
				kind, _, _ := strings.Cut(q.quantity, ".")
				found = found || ok && strings.HasPrefix(name, kind) && math.Abs(x-want) <= q.within*1.0001
			}
			if !found {
				t.Errorf("%s through the kernel: %v, want %s = %v", c.name, got, q.quantity, want)
			}
		}
	}
}
