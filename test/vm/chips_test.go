// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"cmp"
	"fmt"
	"strings"
)

// chip is a sensor on vbus: how streembitd is told of it, and how the kernel's own driver shows the same values.
type chip struct {
	name    string // of the sensor and of its driver
	addr    uint16
	every   string // interval; "" = 2s
	options map[string]any
	kernel  string // name of the device for the kernel's driver; "" = Debian's kernel has none
	module  string // that brings it
	prepare string // shell to run in the kernel's folder of the device before anything is read
	values  []value
}

// value is one quantity of ours and the kernel's files for it.
type value struct {
	quantity string
	within   float64 // the coarser of the two resolutions, or of a rounding
	// The kernel's value is raw × scale × unit; scale names a file, "" = 1. With empty raw the kernel has none, and want is what vbus was set to.
	raw, scale string
	unit       float64
	want       float64
}

// air are the files of hwmon drivers of humidity sensors.
func air(celsius, percent float64) []value {
	return []value{
		{quantity: "temperature", within: celsius, raw: "hwmon/hwmon*/temp1_input", unit: 1e-3},
		{quantity: "humidity", within: percent, raw: "hwmon/hwmon*/humidity1_input", unit: 1e-3},
	}
}

func thermometer(within float64) []value {
	return []value{{quantity: "temperature", within: within, raw: "hwmon/hwmon*/temp1_input", unit: 1e-3}}
}

// voltages are the files of an analogue converter; within is our step, which is the coarser one.
func voltages(within float64) (all []value) {
	for i := range 4 {
		all = append(all, value{quantity: fmt.Sprintf("voltage.%d", i), within: within,
			raw: fmt.Sprintf("iio:device*/in_voltage%d_raw", i), scale: fmt.Sprintf("iio:device*/in_voltage%d_scale", i), unit: 1e-3})
	}
	return all
}

// usualInputs are the levels at the lines of the expanders with vbus -fixed.
const usualInputs = 0b10100101

// contacts are the eight lines of an expander.
func contacts(from func(line int) value) (all []value) {
	for i := range 8 {
		v := from(i)
		v.quantity = fmt.Sprintf("contact.%d", i)
		all = append(all, v)
	}
	return all
}

// chips are all I²C sensors of vbus.
func chips() []chip {
	bosch := []value{
		{quantity: "temperature", within: 0.01, raw: "iio:device*/in_temp_input", unit: 1e-3},
		{quantity: "pressure", within: 0.05, raw: "iio:device*/in_pressure_input", unit: 1e3},
	}
	wet := value{quantity: "humidity", within: 0.001, raw: "iio:device*/in_humidityrelative_input", unit: 1e-3}
	return []chip{
		{name: "bme280", addr: 0x76, kernel: "bme280", module: "bmp280-i2c", values: append(bosch[:2:2], wet)},
		{name: "bmp280", addr: 0x77, kernel: "bmp280", module: "bmp280-i2c", values: bosch},
		{name: "sht3x", addr: 0x45, kernel: "sht3x", module: "sht3x", values: air(0.003, 0.003)},
		{name: "sht4x", addr: 0x44, kernel: "sht4x", module: "sht4x", values: air(0.003, 0.003)},
		{name: "lm75", addr: 0x4a, kernel: "lm75", module: "lm75", values: thermometer(1e-9)},
		{name: "tmp102", addr: 0x4b, kernel: "tmp102", module: "tmp102", values: thermometer(0.001)},
		{name: "tmp105", addr: 0x4c, kernel: "tmp105", module: "lm75", values: thermometer(0.001)},
		{name: "mcp9808", addr: 0x18, kernel: "jc42", module: "jc42", values: thermometer(0.0625)},
		{name: "bh1750", addr: 0x23, kernel: "bh1750", module: "bh1750",
			values: []value{{quantity: "illuminance", within: 0.01, raw: "iio:device*/in_illuminance_raw", scale: "iio:device*/in_illuminance_scale", unit: 1}}},
		{name: "ads1115", addr: 0x48, kernel: "ads1115", module: "ti-ads1015", values: voltages(0.125e-3)},
		{name: "ads1015", addr: 0x49, kernel: "ads1015", module: "ti-ads1015", values: voltages(2e-3)},
		{name: "ina219", addr: 0x40, kernel: "ina219", module: "ina2xx-adc", prepare: "for f in iio:device*/in_shunt_resistor; do echo 0.1 >$f; done", values: []value{
			{quantity: "voltage", within: 0.004, raw: "iio:device*/in_voltage1_raw", scale: "iio:device*/in_voltage1_scale", unit: 1e-3},
			{quantity: "current", within: 0.001, raw: "iio:device*/in_current3_raw", scale: "iio:device*/in_current3_scale", unit: 1e-3},
			{quantity: "power", within: 0.02, raw: "iio:device*/in_power2_raw", scale: "iio:device*/in_power2_scale", unit: 1e-3},
		}},
		{name: "aht20", addr: 0x38, values: []value{{quantity: "temperature", within: 0.001, want: 21.6}, {quantity: "humidity", within: 0.001, want: 47.5}}},
		{name: "scd4x", addr: 0x62, every: "5s", values: []value{{quantity: "co2", within: 1e-9, want: 640e-6},
			{quantity: "temperature", within: 0.003, want: 21.6}, {quantity: "humidity", within: 0.002, want: 47.5}}},
		{name: "pcf8574", addr: 0x20, options: map[string]any{"active": "high"}, values: contacts(func(line int) value {
			return value{want: float64(uint(usualInputs) >> line & 1)}
		})},
		{name: "pca9554", addr: 0x21, options: map[string]any{"active": "high"}, kernel: "pca9554", module: "pca953x",
			prepare: "b=$(cat gpio/gpiochip*/base) && for i in 0 1 2 3 4 5 6 7; do echo $((b+i)) >/sys/class/gpio/export; done",
			values: contacts(func(line int) value {
				return value{raw: fmt.Sprintf("/sys/class/gpio/gpio$(( $(cat gpio/gpiochip*/base) + %d ))/value", line), unit: 1}
			})},
	}
}

// config is the sensor's entry in the config of streembitd.
func (c chip) config() string {
	text := fmt.Sprintf("[[sensor]]\nname = %q\ndriver = %q\naddr = %#x\ninterval = %q\n", c.name, c.name, c.addr, cmp.Or(c.every, "2s"))
	for name, value := range c.options {
		text += fmt.Sprintf("options.%s = %q\n", name, value)
	}
	return text
}

// folder is the kernel's folder of the device.
func (c chip) folder(bus string) string {
	return fmt.Sprintf("/sys/bus/i2c/devices/%s-%04x", strings.TrimPrefix(bus, "i2c-"), c.addr)
}
