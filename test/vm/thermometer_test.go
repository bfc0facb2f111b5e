// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// wireThermometer is the kernel's folder of the DS18B20 of vbus.
const wireThermometer = "/sys/bus/w1/devices/28-000005e2fdc3"

// usualCelsius is the temperature of all chips with vbus -fixed.
const usualCelsius = 21.6

// compareThermometer reads the 1-wire thermometer by our driver and by each of the kernel's two files, above and below zero. They have to be
// the same, and what the model was set to within half of its step of 1/16 °C; the kernel cuts thousandths. Returned is what ours read last.
func compareThermometer(t *testing.T, m *machine, v *vbus) readings {
	t.Helper()
	var ours readings
	for _, celsius := range []float64{-5.3, 101.4, usualCelsius} {
		v.do(fmt.Sprintf("set celsius %g", celsius))
		ours = readSensor(m, "w1")
		got, ok := ours.number("temperature")
		_, slave, _ := strings.Cut(m.run("cat %s/w1_slave", wireThermometer), "t=")
		for file, text := range map[string]string{"w1_slave": slave, "temperature": m.run("cat %s/temperature", wireThermometer)} {
			kernel, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			must(t, err)
			if kernel /= 1000; !ok || math.Abs(got-kernel) > 1e-6 || math.Abs(kernel-celsius) > 1./32+0.001 {
				t.Errorf("DS18B20 at %g °C: streembitd %v, the kernel's %s %v", celsius, ours, file, kernel)
			}
		}
		t.Logf("DS18B20 at %g °C: streembitd and the kernel %g", celsius, got)
	}
	return ours
}
