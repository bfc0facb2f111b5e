// SPDX-License-Identifier: Apache-2.0

package iio

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/sysfs"
)

// kind is a type of channel whose unit the kernel's ABI fixes: the quantity's unit is the kernel's, times up, divided by down. Types without
// a fixed unit (intensity, proximity) are left out.
type kind struct {
	quantity    edge.Quantity
	up, down    float64
	least, most float64 // beyond these nothing was measured
}

var kinds = map[string]kind{
	"temp":                   {sensors.Temperature, 1, 1e3, -273.15, 5000},
	"pressure":               {sensors.Pressure, 1e3, 1, 0, 1e9},
	"humidityrelative":       {sensors.Humidity, 1, 1e3, 0, 100},
	"illuminance":            {sensors.Illuminance, 1, 1, 0, 1e7},
	"voltage":                {sensors.Voltage, 1, 1e3, -1e6, 1e6},
	"current":                {sensors.Current, 1, 1e3, -1e6, 1e6},
	"power":                  {sensors.Power, 1, 1e3, -1e9, 1e9},
	"resistance":             {sensors.Resistance, 1, 1, 0, math.MaxFloat64},
	"concentration":          {sensors.Gas, 1, 100, 0, 1},
	"massconcentration":      {sensors.Particles, 1, 1e9, 0, 1},
	"electricalconductivity": {sensors.Conducting, 1, 1, 0, 1e9},
	"ph":                     {sensors.Acidity, 1, 1, -2, 16},
	"distance":               {sensors.Distance, 1, 1, 0, 1e9},
}

// channelFile takes the names apart: in_voltage0-voltage1_raw, in_temp_ambient_input, in_concentration0_co2_raw.
var channelFile = regexp.MustCompile(`^in_(([a-z]+)([0-9]*)(?:-([a-z]+)([0-9]+))?((?:_[a-z0-9]+)*?))_(input|raw)$`)

// channel is one input. Either input is set, or raw and scale, and offset if there is one.
type channel struct {
	name                      string // as the kernel has it, for example "voltage0"
	input, raw, scale, offset string // files
	kind
}

// channels lists what the device measures and says in which unit, in the order of the files' names, and keeps those of the option.
func channels(files []string, option string) ([]channel, error) {
	slices.Sort(files)
	var all []channel
	var have []string
	for _, file := range files {
		if c, ok := parse(file, files); ok {
			all, have = append(all, c), append(have, c.name)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the device has no channel whose unit is known")
	}
	chosen, err := sysfs.Chosen(option, have)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c channel) bool { return !slices.Contains(chosen, c.name) })
	names := make(sysfs.Names)
	for i := range all {
		q := &all[i].quantity
		if q.Name = names.Unique(q.Name); len(q.Name) > edge.MaxNameLength {
			return nil, fmt.Errorf("channel %s has too long a name: leave it out with the option channels", all[i].name)
		}
	}
	return all, nil
}

// parse returns the channel of a file. A raw value without a scale has no unit and is left out, as are extremes and means of the past.
func parse(file string, files []string) (channel, bool) {
	m := channelFile.FindStringSubmatch(file)
	if m == nil {
		return channel{}, false
	}
	name, sort, index, sort2, index2, modifier := m[1], m[2], m[3], m[4], m[5], m[6]
	k, known := kinds[sort]
	past := strings.HasSuffix(modifier, "_mean") || strings.HasSuffix(modifier, "_peak") || strings.HasSuffix(modifier, "_trough")
	if !known || past || sort2 != "" && sort2 != sort || m[7] == "raw" && slices.Contains(files, "in_"+name+"_input") {
		return channel{}, false
	}
	c := channel{name: name, kind: k}
	if m[7] == "input" {
		c.input = file
	} else {
		shared := []string{name, sort + modifier, sort}
		if sort2 != "" {
			shared = []string{name, sort + "-" + sort}
		}
		c.raw, c.scale, c.offset = file, first(files, shared, "_scale"), first(files, shared, "_offset")
		if c.scale == "" {
			return channel{}, false
		}
	}
	if rest, ok := strings.CutSuffix(modifier, "_co2"); ok && sort == "concentration" {
		c.quantity, modifier = sensors.CO2, rest
	}
	if suffix := strings.Trim(index+strings.ReplaceAll(modifier, "_", "."), "."); suffix != "" {
		c.quantity.Name += "." + suffix
	}
	if sort2 != "" {
		c.quantity.Name += "-" + index2
	}
	return c, true
}

// first returns the most exact of the files that hold a channel's scale or offset.
func first(files, names []string, ending string) string {
	for _, n := range names {
		if file := "in_" + n + ending; slices.Contains(files, file) {
			return file
		}
	}
	return ""
}
