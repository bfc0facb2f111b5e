// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"time"
)

// What the kernel drives on the board: the 1-wire master, and the thermometer on it. On an I²C bus of the kernel's own, which a program
// does not see, are the chips of its IIO and hwmon drivers.
const (
	OneWireMaster = "w1_bus_master1"
	DS18B20Slave  = "28-000005e2fdc3"
)

const (
	kernelBus = "sys/devices/platform/soc/fe205000.i2c/i2c-0"
	w1Folder  = "sys/devices/" + OneWireMaster

	ds18b20Conversion = 750 * time.Millisecond // 12 bits (data sheet 19-7487, AC characteristics); the kernel's file waits for it
	ina219Shunt       = 0.1                    // Ω
)

// sysfs makes the files in which the kernel shows the chips that it drives. The names and the formats of the numbers are those of
// Linux 6.x: drivers/w1/w1.c and slaves/w1_therm.c, iio/pressure/bmp280-core.c, iio/adc/ti-ads1015.c, iio/light/bh1750.c,
// hwmon/lm75.c and ina2xx.c; as there, the entries of the folders in /sys/bus and /sys/class are links.
type sysfs struct {
	*overlay
	now     func() time.Time
	weather Weather
}

// newSysfs returns the board's files over those below.
func newSysfs(now func() time.Time, w Weather, below fs.FS) fs.FS {
	s := sysfs{overlay: newOverlay(below), now: now, weather: w}
	s.oneWire()
	s.bmp280()
	s.ads1015()
	s.bh1750()
	s.hwmon()
	return s.overlay
}

// fixed adds a file that does not change.
func (s sysfs) fixed(dir, name, text string) {
	s.add(path.Join(dir, name), node{text: func() []byte { return []byte(text + "\n") }})
}

// value adds a file with a number of now.
func (s sysfs) value(dir, name, format string, value func(t time.Time) any) {
	s.add(path.Join(dir, name), node{text: func() []byte { return fmt.Appendf(nil, format+"\n", value(s.now())) }})
}

func (s sysfs) link(name, target string) { s.add(name, node{link: target}) }

func (s sysfs) oneWire() {
	const slave = w1Folder + "/" + DS18B20Slave
	rom := []byte{0x28, 0xc3, 0xfd, 0xe2, 0x05, 0x00, 0x00}
	rom = append(rom, maximCRC(rom))
	s.add(slave+"/id", node{text: func() []byte { return rom }})
	s.fixed(slave, "name", DS18B20Slave)
	s.fixed(slave, "uevent", "DRIVER=w1_slave_driver\nW1_FID=28\nW1_SLAVE_ID=000005E2FDC3")
	s.fixed(slave, "resolution", "12")
	s.fixed(slave, "ext_power", "1")
	s.fixed(slave, "conv_time", "750")
	s.fixed(slave, "alarms", "70 75")
	s.add(slave+"/temperature", node{wait: ds18b20Conversion, text: func() []byte {
		return fmt.Appendf(nil, "%d\n", milliCelsius(s.scratchpad()))
	}})
	s.add(slave+"/w1_slave", node{wait: ds18b20Conversion, text: func() []byte {
		pad := s.scratchpad()
		return fmt.Appendf(nil, "% x : crc=%02x YES\n% x t=%d\n", pad, pad[8], pad, milliCelsius(pad))
	}})
	s.fixed(w1Folder, "w1_master_name", OneWireMaster)
	s.fixed(w1Folder, "w1_master_slave_count", "1")
	s.fixed(w1Folder, "w1_master_slaves", DS18B20Slave)
	s.link("sys/bus/w1/devices/"+OneWireMaster, w1Folder)
	s.link("sys/bus/w1/devices/"+DS18B20Slave, slave)
}

// scratchpad is the memory of the DS18B20 after a conversion with 12 bits (data sheet, figure 9).
func (s sysfs) scratchpad() []byte {
	raw := int16(quantise(s.weather.At(s.now()).Celsius, 1.0/16, -55*16, 125*16))
	pad := []byte{byte(raw), byte(raw >> 8), 0x4b, 0x46, 0x7f, 0xff, byte(0x10 - raw&0xf), 0x10}
	return append(pad, maximCRC(pad))
}

func milliCelsius(pad []byte) int { return int(int16(pad[0])|int16(pad[1])<<8) * 1000 / 16 }

// maximCRC is the checksum of 1-wire chips: X⁸ + X⁵ + X⁴ + 1, least significant bit first, from 0.
func maximCRC(data []byte) (crc byte) {
	for _, b := range data {
		crc ^= b
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0x8c
			}
		}
	}
	return crc
}

// iio adds the folder of an IIO device and returns its path.
func (s sysfs) iio(n int, addr, name string) string {
	device := fmt.Sprintf("iio:device%d", n)
	dir := path.Join(kernelBus, addr, device)
	s.fixed(dir, "name", name)
	s.fixed(dir, "uevent", fmt.Sprintf("MAJOR=243\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=iio_device", n, device))
	s.link("sys/bus/iio/devices/"+device, dir)
	return dir
}

func (s sysfs) bmp280() {
	dir := s.iio(0, "0-0076", "bmp280")
	s.value(dir, "in_temp_input", "%d", func(t time.Time) any { return 10 * quantise(s.weather.At(t).Celsius, 0.01, -4000, 8500) })
	s.value(dir, "in_pressure_input", "%s", func(t time.Time) any { // in 1/256 Pa, shown in kPa
		return fraction(int64(quantise(s.weather.At(t).Pascal, 1.0/256, 30000*256, 110000*256)), 256000)
	})
	for _, ratio := range []struct{ what, now string }{{"temp", "2"}, {"pressure", "16"}} {
		s.fixed(dir, "in_"+ratio.what+"_oversampling_ratio", ratio.now)
		s.fixed(dir, "in_"+ratio.what+"_oversampling_ratio_available", "1 2 4 8 16")
	}
}

// fraction formats a/b as IIO does (IIO_VAL_FRACTIONAL).
func fraction(a, b int64) string {
	nano := a * 1e9 / b
	return fmt.Sprintf("%d.%09d", nano/1e9, nano%1e9)
}

func (s sysfs) ads1015() {
	dir := s.iio(1, "0-0049", "ads1015")
	volts := s.weather.analogue()
	single := func(i int) func(time.Time) float64 { return volts[i] }
	against := func(i, j int) func(time.Time) float64 {
		return func(t time.Time) float64 { return volts[i](t) - volts[j](t) }
	}
	for name, v := range map[string]func(time.Time) float64{
		"voltage0": single(0), "voltage1": single(1), "voltage2": single(2), "voltage3": single(3),
		"voltage0-voltage1": against(0, 1), "voltage0-voltage3": against(0, 3), "voltage1-voltage3": against(1, 3), "voltage2-voltage3": against(2, 3),
	} {
		s.value(dir, "in_"+name+"_raw", "%d", func(t time.Time) any { return quantise(v(t), 0.001, -2048, 2047) })
		s.fixed(dir, "in_"+name+"_scale", "1.000000000") // mV; the range is ±2.048 V
		s.fixed(dir, "in_"+name+"_sampling_frequency", "1600")
	}
	s.fixed(dir, "scale_available", "3 2 1 0.5 0.25 0.125")
	s.fixed(dir, "sampling_frequency_available", "128 250 490 920 1600 2400 3300")
}

func (s sysfs) bh1750() {
	dir := s.iio(2, "0-0023", "bh1750")
	s.value(dir, "in_illuminance_raw", "%d", func(t time.Time) any { return quantise(s.weather.Lux(t)*1.2, 1, 0, 0xffff) })
	s.fixed(dir, "in_illuminance_scale", "0.833333")
	s.fixed(dir, "in_illuminance_integration_time", "0.120060")
}

func (s sysfs) hwmon() {
	for n, addr := range []string{"0-0048", "0-0040"} {
		device := fmt.Sprintf("hwmon%d", n)
		s.link("sys/class/hwmon/"+device, path.Join(kernelBus, addr, "hwmon", device))
	}
	lm75, ina219 := s.resolve("sys/class/hwmon/hwmon0"), s.resolve("sys/class/hwmon/hwmon1")
	s.fixed(lm75, "name", "lm75")
	s.value(lm75, "temp1_input", "%d", func(t time.Time) any { return 500 * quantise(s.weather.At(t).Celsius, 0.5, -110, 250) })
	s.fixed(lm75, "temp1_max", "80000")
	s.fixed(lm75, "temp1_max_hyst", "75000")
	s.fixed(lm75, "update_interval", "100")

	s.fixed(ina219, "name", "ina219")
	s.fixed(ina219, "shunt_resistor", "100000")
	s.value(ina219, "in0_input", "%d", func(t time.Time) any {
		_, amperes := s.weather.Battery(t)
		return quantise(amperes*ina219Shunt, 0.001, -320, 320)
	})
	s.value(ina219, "in1_input", "%d", func(t time.Time) any {
		volts, _ := s.weather.Battery(t)
		return 4 * quantise(volts, 0.004, 0, 8000)
	})
	s.value(ina219, "curr1_input", "%d", func(t time.Time) any {
		_, amperes := s.weather.Battery(t)
		return quantise(amperes, 0.001, -3200, 3200)
	})
	s.value(ina219, "power1_input", "%d", func(t time.Time) any { // the chip gives its magnitude
		volts, amperes := s.weather.Battery(t)
		return 20000 * quantise(math.Abs(volts*amperes), 0.02, 0, 0xffff)
	})
}
