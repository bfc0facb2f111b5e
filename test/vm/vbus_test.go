// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"strings"
	"testing"
)

// vbus is test/vbus running in a guest, with constant values.
type vbus struct {
	m   *machine
	bus string // for example "i2c-0"
}

// startVbus starts vbus with its stdin and stdout on fifos, so that a command and its answer need no waiting.
func startVbus(t *testing.T, m *machine) *vbus {
	t.Helper()
	m.run("mkfifo /tmp/vbus.in /tmp/vbus.out && exec 4<>/tmp/vbus.out")
	m.run("vbus -fixed -log /tmp/vbus.log </tmp/vbus.in >/tmp/vbus.out 2>&1 & exec 3>/tmp/vbus.in")
	m.run(`v() { echo "$*" >&3 && read -r answer <&4 && echo "$answer"; }`)
	file := m.run("read -r answer <&4 && echo $answer")
	if !strings.HasPrefix(file, "/dev/i2c-") {
		t.Fatalf("vbus says %q, want the file of a bus", file)
	}
	return &vbus{m: m, bus: strings.TrimPrefix(file, "/dev/")}
}

// do gives vbus a command.
func (v *vbus) do(command string) string {
	v.m.t.Helper()
	answer := v.m.run("v %s", command)
	if strings.HasPrefix(answer, "error") {
		v.m.t.Fatalf("vbus: %s: %s", command, answer)
	}
	return answer
}

// addThermometer tells the kernel of the 1-wire master on the bus and waits until it has found the DS18B20 behind it.
func (v *vbus) addThermometer() {
	v.m.t.Helper()
	v.m.run("echo ds2482 0x1b >/sys/bus/i2c/devices/%s/new_device", v.bus)
	v.m.until("the 1-wire thermometer", "[ -e %s/w1_slave ]", wireThermometer)
}
