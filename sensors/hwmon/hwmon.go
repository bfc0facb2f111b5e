// SPDX-License-Identifier: Apache-2.0

// Package hwmon reads the chips that the kernel drives as hardware monitors, and there are hundreds: temperatures, voltages, currents, power,
// humidity, fans, energy.
//
// Formats: the kernel's Documentation/hwmon/sysfs-interface.rst and Documentation/ABI/testing/sysfs-class-hwmon. Accuracy and range are those of
// the chip; see Documentation/hwmon/<driver>.rst.
package hwmon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sysfs"
)

// Driver describes one chip of the class. A quantity's name goes on with the input's label, "temperature.composite", or, if the chip has several
// of the kind and no label, with the input's number.
var Driver = sensors.Driver{
	Name: "hwmon",
	Doc:  "a chip that the kernel drives as a hardware monitor (sensors -u shows them): temperatures, voltages, currents, power, fans",
	Bus:  hal.Host,
	Measures: []edge.Quantity{
		sensors.Temperature, sensors.Voltage, sensors.Current, sensors.Power, sensors.Humidity, sensors.FanSpeed, sensors.EnergyUsed,
	},
	Options: []sensors.Option{
		{Name: "device", Doc: "name of the chip, for example \"lm75\", or folder, for example \"hwmon2\"; empty = the only one"},
		{Name: "channels", Doc: "inputs as the kernel calls them, for example \"temp1, in0\"; empty = all that are on"},
	},
	Fastest: time.Second,
	Open:    open,
}

// kinds are the inputs of a chip: their unit is the quantity's, divided by per. Beyond least and most nothing was measured.
var kinds = []struct {
	prefix      string
	quantity    edge.Quantity
	per         float64
	least, most float64
}{
	{"temp", sensors.Temperature, 1e3, -273.15, 5000},
	{"in", sensors.Voltage, 1e3, -1e6, 1e6},
	{"curr", sensors.Current, 1e3, -1e6, 1e6},
	{"power", sensors.Power, 1e6, -1e9, 1e9},
	{"humidity", sensors.Humidity, 1e3, 0, 100},
	{"fan", sensors.FanSpeed, 1, 0, 1e6},
	{"energy", sensors.EnergyUsed, 1e6, 0, 1e15},
}

type input struct {
	channel     string // for example "temp1"
	file, fault string // fault "" = the input has no such file
	quantity    edge.Quantity
	per         float64
	least, most float64
}

type chip struct {
	device *sysfs.Device
	inputs []input
}

func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	device, err := sysfs.Open(p.Files, "sys/class/hwmon", "hwmon", opts["device"])
	if err != nil {
		return nil, fmt.Errorf("hwmon: %w", err)
	}
	c := &chip{device: device}
	if c.inputs, err = inputs(device, opts["channels"]); err != nil {
		return nil, fmt.Errorf("hwmon: %s: %w", device.Name, err)
	}
	if _, err := c.Read(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// inputs lists what the chip measures, in the order of kinds, without what is switched off.
func inputs(d *sysfs.Device, channels string) ([]input, error) {
	files, err := d.List()
	if err != nil {
		return nil, err
	}
	folder, err := d.Folder()
	if err != nil {
		return nil, err
	}
	var all []input
	for _, k := range kinds {
		for _, file := range files {
			channel, what, _ := strings.Cut(file, "_")
			number := strings.TrimPrefix(channel, k.prefix)
			average := what == "average" && k.prefix == "power" && !slices.Contains(files, channel+"_input")
			if number == channel || number == "" || strings.Trim(number, "0123456789") != "" || what != "input" && !average {
				continue
			}
			if slices.Contains(files, channel+"_enable") {
				if on, err := sysfs.Text(d.Files, path.Join(folder, channel+"_enable")); err != nil || on == "0" {
					if err != nil {
						return nil, err
					}
					continue
				}
			}
			i := input{channel: channel, file: file, quantity: k.quantity, per: k.per, least: k.least, most: k.most}
			if fault := channel + "_fault"; slices.Contains(files, fault) {
				i.fault = fault
			}
			all = append(all, i)
		}
	}
	return choose(d, folder, files, all, channels)
}

// choose keeps the inputs of the option and names their quantities.
func choose(d *sysfs.Device, folder string, files []string, all []input, option string) ([]input, error) {
	var have []string
	several := make(map[string]int)
	for _, i := range all {
		have = append(have, i.channel)
		several[i.quantity.Name]++
	}
	chosen, err := sysfs.Chosen(option, have)
	if err != nil {
		return nil, err
	}
	if len(chosen) == 0 {
		return nil, errors.New("the chip has no input that is on")
	}
	all = slices.DeleteFunc(all, func(i input) bool { return !slices.Contains(chosen, i.channel) })
	names := make(sysfs.Names)
	for n := range all {
		i := &all[n]
		suffix := strings.TrimLeft(i.channel, "abcdefghijklmnopqrstuvwxyz")
		if slices.Contains(files, i.channel+"_label") {
			label, err := sysfs.Text(d.Files, path.Join(folder, i.channel+"_label"))
			if err != nil {
				return nil, err
			}
			i.quantity.Name += "." + sysfs.Segment(label, suffix)
		} else if several[i.quantity.Name] > 1 {
			i.quantity.Name += "." + suffix
		}
		i.quantity.Name = names.Unique(i.quantity.Name)
	}
	return all, nil
}

// Read implements sensors.Sensor. One input that cannot be read, or reports a fault, is an error: leave it out with the option channels.
func (c *chip) Read(ctx context.Context) ([]edge.Sample, error) {
	folder, err := c.device.Folder()
	if err != nil {
		return nil, fmt.Errorf("hwmon: %s: reading: %w", c.device.Name, err)
	}
	var samples []edge.Sample
	for _, i := range c.inputs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("hwmon: %s: reading: %w", c.device.Name, err)
		}
		s, err := i.sample(c.device.Files, folder)
		if err != nil {
			return nil, fmt.Errorf("hwmon: %s: reading %s: %w", c.device.Name, i.channel, err)
		}
		samples = append(samples, s)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hwmon: %s: reading: %w", c.device.Name, err)
	}
	return samples, nil
}

func (i input) sample(files fs.FS, folder string) (edge.Sample, error) {
	if i.fault != "" {
		switch fault, err := sysfs.Text(files, path.Join(folder, i.fault)); {
		case err != nil:
			return edge.Sample{}, err
		case fault != "0":
			return edge.Sample{}, fmt.Errorf("%s = %.8q: %w", i.fault, fault, sensors.ErrNoData)
		}
	}
	v, err := sysfs.Number(files, path.Join(folder, i.file))
	if err != nil {
		return edge.Sample{}, err
	}
	if v /= i.per; v < i.least || v > i.most {
		return edge.Sample{}, fmt.Errorf("%v %s: %w", v, i.quantity.Unit, sensors.ErrRange)
	}
	return sensors.Of(i.quantity, v), nil
}

// Close implements sensors.Sensor. The chip is the kernel's: it is left as it is.
func (c *chip) Close() error { return nil }
