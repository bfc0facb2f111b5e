// SPDX-License-Identifier: Apache-2.0

// Package all is the list of the drivers that the programs have. A new driver is one line here.
package all

import (
	"fmt"
	"strings"

	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bme280"
	"github.com/streembit/edge/sensors/gpio"
	"github.com/streembit/edge/sensors/host"
)

// Drivers returns all drivers, in the order of their names.
func Drivers() []sensors.Driver {
	return []sensors.Driver{
		bme280.Driver,
		gpio.Input,
		gpio.Pulses,
		host.Driver,
	}
}

// Find returns the driver of a name. The error lists the names there are.
func Find(name string) (sensors.Driver, error) {
	var names []string
	for _, d := range Drivers() {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return sensors.Driver{}, fmt.Errorf("all: there is no driver %q: use one of %s", name, strings.Join(names, ", "))
}
