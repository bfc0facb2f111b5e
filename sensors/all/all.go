// SPDX-License-Identifier: Apache-2.0

// Package all is the list of the drivers that the programs have. A new driver is one line here.
package all

import (
	"fmt"
	"strings"

	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/ads1x15"
	"github.com/streembit/edge/sensors/aht20"
	"github.com/streembit/edge/sensors/bh1750"
	"github.com/streembit/edge/sensors/bme280"
	"github.com/streembit/edge/sensors/bmp280"
	"github.com/streembit/edge/sensors/ds18b20"
	"github.com/streembit/edge/sensors/expander"
	"github.com/streembit/edge/sensors/gpio"
	"github.com/streembit/edge/sensors/host"
	"github.com/streembit/edge/sensors/hwmon"
	"github.com/streembit/edge/sensors/iio"
	"github.com/streembit/edge/sensors/ina219"
	"github.com/streembit/edge/sensors/lm75"
	"github.com/streembit/edge/sensors/mcp9808"
	"github.com/streembit/edge/sensors/scd4x"
	"github.com/streembit/edge/sensors/sht3x"
	"github.com/streembit/edge/sensors/sht4x"
)

// Drivers returns all drivers, in the order of their names.
func Drivers() []sensors.Driver {
	return []sensors.Driver{
		ads1x15.ADS1015,
		ads1x15.ADS1115,
		aht20.Driver,
		bh1750.Driver,
		bme280.Driver,
		bmp280.Driver,
		ds18b20.Driver,
		gpio.Input,
		gpio.Output,
		gpio.Pulses,
		host.Driver,
		hwmon.Driver,
		iio.Driver,
		ina219.Driver,
		lm75.LM75,
		mcp9808.Driver,
		expander.PCA9554,
		expander.PCF8574,
		scd4x.Driver,
		sht3x.Driver,
		sht4x.Driver,
		lm75.TMP102,
		lm75.TMP105,
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
