// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// duplicates returns what is wrong with a list of drivers.
func duplicates(drivers []sensors.Driver) error {
	seen := make(map[string]bool)
	for i, d := range drivers {
		if seen[d.Name] {
			return fmt.Errorf("two drivers are called %q", d.Name)
		}
		seen[d.Name] = true
		if i > 0 && d.Name < drivers[i-1].Name {
			return fmt.Errorf("%q stands after %q", d.Name, drivers[i-1].Name)
		}
	}
	return nil
}

func TestDrivers(t *testing.T) {
	drivers := all.Drivers()
	if err := duplicates(drivers); err != nil {
		t.Error(err)
	}
	if err := duplicates(append(slices.Clone(drivers), drivers[0])); err == nil {
		t.Error("a duplicate is not noticed")
	}
	for _, d := range drivers {
		r := edge.Reading{Sensor: d.Name, Sample: edge.Sample{Quantity: d.Measures[0]}}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: a driver's name must also do for a sensor: %v", d.Name, err)
		}
		found, err := all.Find(d.Name)
		if err != nil || found.Name != d.Name {
			t.Errorf("Find(%q) = %q, %v", d.Name, found.Name, err)
		}
	}
	if _, err := all.Find("bme680"); err == nil || !strings.Contains(err.Error(), "ads1015, ads1115, aht20, bh1750, bme280") {
		t.Errorf("a driver that is not there: %v", err)
	}
}
