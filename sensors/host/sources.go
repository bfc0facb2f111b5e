// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sysfs"
)

// candidates are the files that a machine may have. Names of temperatures are unique.
func candidates(files fs.FS) []source {
	list := []source{
		{"proc/loadavg", parseLoad, files, false},
		{"proc/meminfo", parseMemory, files, false},
		{"proc/uptime", parseUptime, files, false},
	}
	taken := make(sysfs.Names)
	temperature := func(file, name string) {
		q := sensors.Temperature
		q.Name = taken.Unique(q.Name + "." + name)
		if len(q.Name) > edge.MaxNameLength {
			return
		}
		read := func(text string) ([]edge.Sample, error) { return parseTemperature(q, text) }
		list = append(list, source{file, read, files, true})
	}
	for _, file := range glob(files, "sys/class/thermal/thermal_zone*/temp") {
		temperature(file, label(files, path.Join(path.Dir(file), "type"), path.Base(path.Dir(file))))
	}
	for _, file := range glob(files, "sys/class/hwmon/hwmon*/temp*_input") {
		dir, input := path.Dir(file), strings.TrimSuffix(path.Base(file), "_input")
		if attached(files, dir) {
			continue
		}
		temperature(file, label(files, path.Join(dir, "name"), path.Base(dir))+"."+label(files, path.Join(dir, input+"_label"), input))
	}
	return list
}

// attached tells whether a hwmon device is, or hangs on, a chip that is wired to the machine or plugged into it: one on I²C, SPI, 1-wire or
// USB. The kernel links a device to what it measures (device) and each of these to the bus it is on (subsystem), see
// Documentation/ABI/testing/sysfs-class-hwmon and Documentation/admin-guide/sysfs-rules.rst. One without such a link is the machine's own.
func attached(files fs.FS, dir string) bool {
	if target, err := fs.ReadLink(files, dir); err == nil {
		dir = path.Join(path.Dir(dir), target) // in sys/class is but a link
	}
	device, err := fs.ReadLink(files, path.Join(dir, "device"))
	if err != nil {
		return false
	}
	for at := path.Join(dir, device); fs.ValidPath(at) && at != "."; at = path.Dir(at) {
		bus, err := fs.ReadLink(files, path.Join(at, "subsystem"))
		if err == nil && slices.Contains([]string{"i2c", "spi", "w1", "usb"}, path.Base(bus)) {
			return true
		}
	}
	return false
}

// glob does not fail with a pattern that is right.
func glob(files fs.FS, pattern string) []string {
	names, err := fs.Glob(files, pattern)
	if err != nil {
		return nil
	}
	return names
}

// label reads a name and turns it into a segment of a quantity's name.
func label(files fs.FS, file, otherwise string) string {
	text, err := sysfs.Text(files, file)
	if err != nil {
		text = otherwise
	}
	return sysfs.Segment(text, otherwise)
}

// parseLoad takes the first field: the mean of one minute.
func parseLoad(text string) ([]edge.Sample, error) {
	return number(sensors.Load, text, 5)
}

func parseUptime(text string) ([]edge.Sample, error) {
	return number(sensors.Uptime, text, 2)
}

// number makes a sample of the first of so many fields.
func number(q edge.Quantity, text string, fields int) ([]edge.Sample, error) {
	f := strings.Fields(text)
	if len(f) != fields {
		return nil, fmt.Errorf("%d fields instead of %d: %w", len(f), fields, sysfs.ErrFormat)
	}
	v, err := strconv.ParseFloat(f[0], 64)
	if err != nil || !(v >= 0 && v < 1e15) {
		return nil, fmt.Errorf("%q: %w", f[0], sysfs.ErrFormat)
	}
	return []edge.Sample{sensors.Of(q, v)}, nil
}

// parseMemory takes two of the lines, "MemAvailable:    1834200 kB". The kernel means KiB.
func parseMemory(text string) ([]edge.Sample, error) {
	var samples []edge.Sample
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "MemTotal:" && f[0] != "MemAvailable:" {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 42)
		if err != nil || f[2] != "kB" {
			return nil, fmt.Errorf("%q: %w", line, sysfs.ErrFormat)
		}
		q := sensors.MemoryTotal
		if f[0] == "MemAvailable:" {
			q = sensors.MemoryFree
		}
		samples = append(samples, sensors.Of(q, float64(kib*1024)))
	}
	if len(samples) != 2 {
		return nil, fmt.Errorf("MemTotal and MemAvailable: %w", sysfs.ErrFormat)
	}
	return samples, nil
}

// parseTemperature reads thousandths of a degree Celsius. Below -273.15 °C and above 1000 °C there is no measurement: some drivers report
// such values for an input that is not wired.
func parseTemperature(q edge.Quantity, text string) ([]edge.Sample, error) {
	milli, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || milli < -273150 || milli > 1_000_000 {
		return nil, fmt.Errorf("%.20q: %w", text, sysfs.ErrFormat)
	}
	s := sensors.Celsius(physic.Temperature(milli)*physic.MilliKelvin + physic.ZeroCelsius)
	s.Quantity = q
	return []edge.Sample{s}, nil
}
