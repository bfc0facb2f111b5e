// SPDX-License-Identifier: Apache-2.0

// Package host reads the machine that the agent runs on: load, memory, disk, uptime, and the temperatures that the kernel knows
// (thermal zones and the board's own hwmon chips). It needs no bus. Everything is read below a file-system root, so fixtures of other boards can be used.
//
// Chips on I²C, SPI, 1-wire or USB are left to the driver hwmon and the drivers of these chips, although the kernel's drivers show them as hwmon
// devices: they may be unplugged, and then would take the machine's own readings with them.
//
// What the machine does not have is left out when the sensor is opened, never made up. Formats: proc(5); the kernel's
// Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-hwmon.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// Driver describes the machine itself. Temperatures are named temperature.<zone> and temperature.<chip>.<input>.
var Driver = sensors.Driver{
	Name: "host",
	Doc:  "this machine: load, memory, disk, uptime, temperatures of thermal zones and the board's own hwmon chips",
	Bus:  hal.Host,
	Measures: []edge.Quantity{
		sensors.Load, sensors.MemoryFree, sensors.MemoryTotal, sensors.Uptime, sensors.DiskFree, sensors.Temperature,
	},
	Options: []sensors.Option{{Name: "disk", Default: "/", Doc: "a path on the disk whose free space is reported"}},
	Fastest: time.Second,
	Open:    open,
}

// source is one file and what it gives.
type source struct {
	file  string // below the root; for messages
	read  func(text string) ([]edge.Sample, error)
	files fs.FS
	maybe bool // a driver may have the file and still refuse to be read, for example a zone that is switched off
}

func (s source) samples() ([]edge.Sample, error) {
	b, err := fs.ReadFile(s.files, s.file)
	if err != nil {
		return nil, err
	}
	samples, err := s.read(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	return samples, nil
}

type machine struct {
	sources []source
	disk    string // "" = the disk is not reported
}

func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	m := &machine{disk: filepath.Join(p.Root, opts["disk"])}
	for _, s := range candidates(p.Files) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("host: looking for %s: %w", s.file, err)
		}
		switch _, err := s.samples(); {
		case err == nil:
			m.sources = append(m.sources, s)
		case !s.maybe && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("host: %w", err)
		}
	}
	if _, err := diskFree(m.disk); errors.Is(err, errors.ErrUnsupported) {
		m.disk = ""
	} else if err != nil {
		return nil, fmt.Errorf("host: option disk = %q: %w", opts["disk"], err)
	}
	if len(m.sources) == 0 && m.disk == "" {
		return nil, fmt.Errorf("host: nothing to read below %s: is /proc mounted?", p.Root)
	}
	return m, nil
}

// Read implements sensors.Sensor.
func (m *machine) Read(ctx context.Context) ([]edge.Sample, error) {
	var all []edge.Sample
	for _, s := range m.sources {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("host: reading: %w", err)
		}
		samples, err := s.samples()
		if err != nil {
			return nil, fmt.Errorf("host: reading: %w", err)
		}
		all = append(all, samples...)
	}
	if m.disk != "" {
		free, err := diskFree(m.disk)
		if err != nil {
			return nil, fmt.Errorf("host: reading the free space of %s: %w", m.disk, err)
		}
		all = append(all, sensors.Of(sensors.DiskFree, float64(free)))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("host: reading: %w", err)
	}
	return all, nil
}

// Close implements sensors.Sensor; there is nothing to power down.
func (m *machine) Close() error { return nil }
