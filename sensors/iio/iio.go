// SPDX-License-Identifier: Apache-2.0

// Package iio reads the chips that the kernel drives in its Industrial I/O subsystem, and there are hundreds: weather sensors, light sensors,
// ADCs, gas sensors.
//
// Names and units: the kernel's Documentation/ABI/testing/sysfs-bus-iio. A value is in_<channel>_input, or (in_<channel>_raw + offset) · scale;
// offset and scale are read each time, since they change with the chip's range. Accuracy is that of the chip.
package iio

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sysfs"
)

// Driver describes one device. A quantity's name goes on with the channel's number and modifier: "voltage.0", "temperature.ambient".
var Driver = sensors.Driver{
	Name: "iio",
	Doc:  "a chip that the kernel drives in its IIO subsystem (weather, light, gas, ADC): every channel whose unit is known",
	Bus:  hal.Host,
	Measures: []edge.Quantity{
		sensors.Temperature, sensors.Pressure, sensors.Humidity, sensors.Illuminance, sensors.Voltage, sensors.Current, sensors.Power,
		sensors.Resistance, sensors.Gas, sensors.CO2, sensors.Particles, sensors.Conducting, sensors.Acidity, sensors.Distance,
	},
	Options: []sensors.Option{
		{Name: "device", Doc: "name of the chip, for example \"bmp280\", or folder, for example \"iio:device0\"; empty = the only one"},
		{Name: "channels", Doc: "channels as the kernel calls them, for example \"voltage0, voltage1\"; empty = all"},
	},
	Fastest: time.Second,
	Open:    open,
}

type chip struct {
	device   *sysfs.Device
	channels []channel
}

func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	device, err := sysfs.Open(p.Files, "sys/bus/iio/devices", "iio:device", opts["device"])
	if err != nil {
		return nil, fmt.Errorf("iio: %w", err)
	}
	c := &chip{device: device}
	files, err := device.List()
	if err != nil {
		return nil, fmt.Errorf("iio: %s: %w", device.Name, err)
	}
	if c.channels, err = channels(files, opts["channels"]); err != nil {
		return nil, fmt.Errorf("iio: %s: %w", device.Name, err)
	}
	if _, err := c.Read(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Read implements sensors.Sensor. One channel that cannot be read is an error: leave it out with the option channels.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	folder, err := c.device.Folder()
	if err != nil {
		return nil, fmt.Errorf("iio: %s: reading: %w", c.device.Name, err)
	}
	var samples []edge.Sample
	for _, ch := range c.channels {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("iio: %s: reading: %w", c.device.Name, err)
		}
		s, err := ch.sample(c.device, folder)
		if err != nil {
			return nil, fmt.Errorf("iio: %s: reading %s: %w", c.device.Name, ch.name, err)
		}
		samples = append(samples, s)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("iio: %s: reading: %w", c.device.Name, err)
	}
	return samples, nil
}

func (c channel) sample(d *sysfs.Device, folder string) (edge.Sample, error) {
	var v float64
	for _, part := range []struct {
		file  string
		apply func(x float64)
	}{
		{c.input, func(x float64) { v = x }},
		{c.raw, func(x float64) { v = x }},
		{c.offset, func(x float64) { v += x }},
		{c.scale, func(x float64) { v *= x }},
	} {
		if part.file == "" {
			continue
		}
		x, err := sysfs.Number(d.Files, path.Join(folder, part.file))
		if err != nil {
			return edge.Sample{}, err
		}
		part.apply(x)
	}
	if v = v * c.up / c.down; !(v >= c.least && v <= c.most) {
		return edge.Sample{}, fmt.Errorf("%v %s: %w", v, c.quantity.Unit, sensors.ErrRange)
	}
	return sensors.Of(c.quantity, v), nil
}

// Close implements sensors.Sensor. The chip is the kernel's: it is left as it is.
func (c *chip) Close() error { return nil }
