// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"testing"
	"time"

	"github.com/streembit/edge/agent"
)

// Lines of the board's GPIO chip, by lineNames.
const (
	doorLine  = 1 // GPIO17
	meterLine = 7 // GPIO27
	lampLine  = "2"
)

// lineSensors are those that are not on I²C.
const lineSensors = `
[[sensor]]
name = "w1"
driver = "ds18b20"
interval = "2s"
[[sensor]]
name = "door"
driver = "gpio"
pin = "GPIO17"
interval = "1s"
[[sensor]]
name = "meter"
driver = "gpio-pulses"
pin = "GPIO27"
interval = "1s"
[[sensor]]
name = "lamp"
driver = "gpio-out"
pin = "GPIO22"
interval = "2s"
[[sensor]]
name = "machine"
driver = "host"
interval = "2s"
`

func sensorNames() []string {
	names := []string{"w1", "door", "meter", "lamp", "machine"}
	for _, c := range chips() {
		names = append(names, c.name)
	}
	return names
}

func working(h agent.Health) bool { return h.Open && h.Reads > 0 && h.Error == "" }

// oneFails breaks one chip after another, each in another way; the others go on.
func oneFails(t *testing.T, m *machine, v *vbus, before map[string]agent.Health) map[string]agent.Health {
	t.Helper()
	broken := map[string]string{}
	for _, c := range []struct{ command, sensor, addr, fault string }{
		{"nak", "bme280", "0x76", "absent"},
		{"flip", "sht4x", "0x44", "crc"},
		{"ones", "mcp9808", "0x18", "no-data"},
		{"zeros", "ina219", "0x40", "no-data"},
		{"stuck", "tmp102", "0x4b", "other"}, // i2c-tiny-usb makes EIO of it, which says nothing
	} {
		broken[c.sensor] = c.addr
		v.do(c.command + " " + c.addr)
		m.awaitSensors(c.sensor+" with the fault "+c.fault, []string{c.sensor}, func(h agent.Health) bool { return h.Fault == c.fault })
	}
	others := []string{}
	for _, name := range sensorNames() {
		if broken[name] == "" {
			others = append(others, name)
		}
	}
	m.awaitSensors("the others still work", others, func(h agent.Health) bool {
		return working(h) && h.Reads > before[h.Sensor].Reads && h.Errors == before[h.Sensor].Errors
	})
	for _, addr := range broken {
		v.do("heal " + addr)
	}
	return m.awaitSensors("all work again", sensorNames(), working)
}

// unplugged takes the adapter away and brings it back.
func unplugged(t *testing.T, m *machine, v *vbus, before map[string]agent.Health) {
	t.Helper()
	var onBus []string
	for _, c := range chips() {
		onBus = append(onBus, c.name)
	}
	v.do("unplug")
	gone := m.awaitSensors("every chip says that the adapter is gone", onBus, func(h agent.Health) bool { return h.Fault == "gone" })
	for _, name := range onBus {
		if n := gone[name].Faults["config"] - before[name].Faults["config"]; n != 0 {
			t.Errorf("%s: the unplugged adapter was counted as a bus that was never there %d times", name, n)
		}
		for _, kind := range []string{"other", "timeout"} { // until the kernel has taken the adapter out of sysfs, which may take long in a slow guest
			if n := gone[name].Faults[kind] - before[name].Faults[kind]; n != 0 {
				t.Logf("%s: %s counted %d times before the kernel told of the unplug", name, kind, n)
			}
		}
	}
	m.awaitSensors("the thermometer behind it fails too", []string{"w1"}, func(h agent.Health) bool { return h.Error != "" })
	m.awaitSensors("meanwhile the others work", []string{"door", "meter", "lamp", "machine"}, func(h agent.Health) bool {
		return working(h) && h.Reads > gone[h.Sensor].Reads && h.Errors == 0
	})
	file := v.do("plug")
	t.Logf("the adapter was i2c %s and is %s", v.bus, file)
	v.bus = file[len("/dev/"):]
	v.addThermometer()
	m.awaitSensors("every chip is back", sensorNames(), func(h agent.Health) bool { return working(h) && h.Reads > gone[h.Sensor].Reads })
}

// pulse makes n pulses on the meter's line. The guest answers a command after each edge: by then it has served its interrupt.
func pulse(m *machine, lines *gpioChip, n int) {
	m.t.Helper()
	begin := time.Now()
	for range n {
		lines.drive(meterLine, 0)
		m.run("true")
		lines.drive(meterLine, 1)
		m.run("true")
	}
	m.t.Logf("%d pulses in %.1f s", n, time.Since(begin).Seconds())
}

// switchOutput lets streembitd switch an output and looks at the wire.
func switchOutput(t *testing.T, m *machine, lines *gpioChip) {
	t.Helper()
	m.run("streembitd sensors set lamp switch on --for 100ms 2>&1")
	lines.expect("raise " + lampLine)
	lines.expect("lower " + lampLine)
}

// pulled wants of every sensor readings in what was pulled, with the values that a technician read on the spot, and every pulse.
func pulled(t *testing.T, newest, ours map[string]readings, pulses float64) {
	t.Helper()
	for _, name := range sensorNames() {
		if len(newest[name]) == 0 {
			t.Errorf("nothing of %s was pulled", name)
		}
		for quantity := range ours[name] {
			want, _ := ours[name].number(quantity)
			if got, ok := newest[name].number(quantity); !ok || !near(got, want) {
				t.Errorf("%s %s: pulled %v, streembitd sensors read gave %v", name, quantity, newest[name][quantity], want)
			}
		}
	}
	if got, _ := newest["meter"].number("count"); got != pulses {
		t.Errorf("counted %v pulses, want %v", got, pulses)
	}
}
