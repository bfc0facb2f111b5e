// SPDX-License-Identifier: Apache-2.0

package iio_test

import (
	"errors"
	"io/fs"
	"math"
	"math/big"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/bmp280"
	"github.com/streembit/edge/sensors/iio"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/sysfs"
)

func named(q edge.Quantity, suffix string) edge.Quantity {
	q.Name += "." + suffix
	return q
}

func simulated() *hal.Board { return sim.New(sim.Config{Seed: 1}) }

func TestContract(t *testing.T) {
	volts := func(suffixes ...string) (list []edge.Quantity) {
		for _, s := range suffixes {
			list = append(list, named(sensors.Voltage, s))
		}
		return list
	}
	for _, c := range []struct {
		board   func() *hal.Board
		options map[string]any
		want    []edge.Quantity
	}{
		{simulated, map[string]any{"device": "bmp280"}, []edge.Quantity{sensors.Pressure, sensors.Temperature}},
		{simulated, map[string]any{"device": "iio:device1"}, volts("0-1", "0-3", "0", "1-3", "1", "2-3", "2", "3")},
		{simulated, map[string]any{"device": "ads1015", "channels": "voltage0"}, volts("0")},
		{simulated, map[string]any{"device": "bh1750"}, []edge.Quantity{sensors.Illuminance}},
		{func() *hal.Board { return board(device(all())) }, nil, allQuantities()},
	} {
		sensorstest.Run(t, sensorstest.Case{Driver: iio.Driver, Board: c.board, Options: c.options, Want: c.want})
	}
}

func board(files fs.FS) *hal.Board { return hal.NewBoard(hal.Wiring{Files: files}) }

// device makes the folder of the only device. Its name has a colon, which Go's modules do not allow in testdata.
func device(files map[string]string) fstest.MapFS {
	tree := fstest.MapFS{"sys/bus/iio/devices/iio:device0/name": {Data: []byte("chip\n")}, "sys/bus/iio/devices/trigger0/name": {Data: []byte("t\n")}}
	for name, text := range files {
		tree["sys/bus/iio/devices/iio:device0/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return tree
}

// all has every type of channel, and what must not become one. Names: Documentation/ABI/testing/sysfs-bus-iio.
func all() map[string]string {
	return map[string]string{
		"in_concentration_co2_raw": "415", "in_concentration_co2_scale": "0.0001", "in_concentration0_voc_input": "0.025",
		"in_current1_raw": "-200", "in_current_scale": "0.5",
		"in_distance_input": "1.25", "in_electricalconductivity_raw": "12345", "in_electricalconductivity_scale": "0.00001",
		"in_humidityrelative_raw": "6000", "in_humidityrelative_offset": "-786.432000", "in_humidityrelative_scale": "10.071",
		"in_illuminance_input": "320.5", "in_massconcentration_pm2p5_input": "8.2", "in_ph_raw": "7060000", "in_ph_scale": "0.000001",
		"in_power0_raw": "40", "in_power0_scale": "25", "in_pressure_input": "101.325000000",
		"in_resistance_input": "10500", "in_temp_ambient_raw": "14000", "in_temp_object_raw": "15000", "in_temp_scale": "20", "in_temp_offset": "-13657.500000",
		"in_temp0_input": "21500", "in_temp0_raw": "1",
		"in_voltage0_raw":          "1000",
		"in_voltage_scale":         "0.125",
		"in_voltage0_scale":        "2.000000000", // the more exact one counts
		"in_voltage2_raw":          "-8",
		"in_voltage0-voltage1_raw": "100", "in_voltage-voltage_scale": "3",
		"in_voltage7_supply_raw": "4", "in_voltage7_supply_scale": "500",
		// no channels:
		"in_proximity_raw": "17", "in_intensity_both_raw": "99", "in_temp_peak_raw": "1", "in_voltage0_mean_raw": "1", "out_voltage0_raw": "5",
		"in_capacitance0_raw": "3", "in_temp_calibbias": "1", "sampling_frequency": "50", "in_resistance_raw": "1", "in_anglvel_x_raw": "1",
		"in_magn_x_raw": "0", "uevent": "", "in_count0_raw": "4", "in_temp-voltage_raw": "1",
	}
}

func allQuantities() []edge.Quantity {
	return []edge.Quantity{
		named(sensors.Gas, "0.voc"), sensors.CO2, named(sensors.Current, "1"), sensors.Distance, sensors.Conducting, sensors.Humidity, sensors.Illuminance,
		named(sensors.Particles, "pm2p5"), sensors.Acidity, named(sensors.Power, "0"), sensors.Pressure, sensors.Resistance,
		named(sensors.Temperature, "0"), named(sensors.Temperature, "ambient"), named(sensors.Temperature, "object"),
		named(sensors.Voltage, "0-1"), named(sensors.Voltage, "0"), named(sensors.Voltage, "2"), named(sensors.Voltage, "7.supply"),
	}
}

func read(t *testing.T, files fs.FS, options map[string]any) (map[string]float64, error) {
	t.Helper()
	s, err := iio.Driver.Connect(t.Context(), board(files), hal.Request{}, options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	samples, err := s.Read(t.Context())
	got := make(map[string]float64)
	for _, s := range samples {
		got[s.Name] = s.Value
	}
	return got, err
}

// Units of the kernel: m°C, kPa, m%, lx, mV, mA, mW, Ω, %, µg/m³, S/m, pH, m. The humidity is si7020.c's offset and scale at a raw value of
// 6000, the object's temperature that of mlx90614.c: 0.02 K a step.
func TestValues(t *testing.T) {
	got, err := read(t, device(all()), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"concentration.0.voc": 0.00025, "co2": 0.000415, "current.1": -0.1, "distance": 1.25, "conductivity": 0.12345, "humidity": 52.50584,
		"illuminance": 320.5, "particles.pm2p5": 8.2e-9, "ph": 7.06, "power.0": 1, "pressure": 101325, "resistance": 10500,
		"temperature.0": 21.5, "temperature.ambient": 6.85, "temperature.object": 26.85,
		"voltage.0-1": 0.3, "voltage.0": 2, "voltage.2": -0.001, "voltage.7.supply": 2,
	}
	for name, w := range want {
		if g, ok := got[name]; !ok || math.Abs(g-w) > math.Abs(w)*1e-6 {
			t.Errorf("%s: %v, %v; want %v", name, g, ok, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}

// The kernel's driver and ours read the same air: within a step of the chip.
func TestAgainstDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := simulated()
		defer b.Close()
		time.Sleep(7 * time.Hour)
		values := make(map[string][2]float64)
		for i, c := range []struct {
			driver  sensors.Driver
			at      hal.Request
			options map[string]any
		}{{iio.Driver, hal.Request{}, map[string]any{"device": "bmp280"}}, {bmp280.Driver, hal.Request{Addr: 0x77}, nil}} {
			s, err := c.driver.Connect(t.Context(), b, c.at, c.options)
			if err != nil {
				t.Fatal(err)
			}
			samples, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range samples {
				v := values[s.Name]
				v[i] = s.Value
				values[s.Name] = v
			}
			s.Close()
		}
		for name, within := range map[string]float64{"temperature": 0.02, "pressure": 5} {
			if v := values[name]; v[0] == 0 || math.Abs(v[0]-v[1]) > within {
				t.Errorf("%s: the kernel's driver gives %v, ours %v", name, v[0], v[1])
			}
		}
	})
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		options map[string]any
		want    string
		cause   error
	}{
		"no such device":  {all(), map[string]any{"device": "bme680"}, "chip", hal.ErrNoBus},
		"no such channel": {all(), map[string]any{"channels": "voltage9"}, "voltage9", nil},
		"no unit":         {map[string]string{"in_voltage0_raw": "5", "in_proximity_raw": "5"}, nil, "unit", nil},
		"impossible":      {map[string]string{"in_temp_input": "-273151"}, nil, "temp", sensors.ErrRange},
		"too humid":       {map[string]string{"in_humidityrelative_input": "100001"}, nil, "humidityrelative", sensors.ErrRange},
		"words":           {map[string]string{"in_temp_input": "hot"}, nil, "in_temp_input", sysfs.ErrFormat},
		"bad scale":       {map[string]string{"in_temp_raw": "5", "in_temp_scale": "1 2"}, nil, "in_temp_scale", sysfs.ErrFormat},
		"decibel":         {map[string]string{"in_voltage0_raw": "5", "in_voltage0_scale": "12.500000 dB"}, nil, "in_voltage0_scale", sysfs.ErrFormat},
		"empty":           {map[string]string{"in_temp_input": ""}, nil, "in_temp_input", sysfs.ErrFormat},
	} {
		got, err := read(t, device(c.files), c.options)
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), c.want) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v, %v; want an error with %q and %v", name, got, err, c.want, c.cause)
		}
	}
	if _, err := read(t, fstest.MapFS{}, nil); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("a machine without the subsystem: %v", err)
	}
}

// busy fails one file as the kernel does while a program reads the device's buffer.
type busy struct {
	fs.FS
	file string
}

func (b busy) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, b.file) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EBUSY}
	}
	return b.FS.Open(name)
}

func TestBusy(t *testing.T) {
	files := busy{device(all()), "in_voltage2_raw"}
	if got, err := read(t, files, nil); !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "voltage2") || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := read(t, files, map[string]any{"channels": "voltage0,temp0"}); err != nil || len(got) != 2 {
		t.Errorf("left out: %v, %v", got, err)
	}
}

// (raw + offset) · scale is taken exactly if all three are written as the kernel does and the value is possible, and it is the exact one
// but for rounding.
func FuzzRaw(f *testing.F) {
	f.Add("15000", "-13657.500000", "20")
	f.Add("6000", "-786.432000", "10.071")
	f.Add("-1", "0", "0.000000001")
	f.Add("1e3", "+1", "nan")
	form := regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, raw, offset, scale string) {
		got, err := read(t, device(map[string]string{"in_temp_raw": raw, "in_temp_offset": offset, "in_temp_scale": scale}), nil)
		var parts [3]*big.Rat
		fine := true
		for i, text := range []string{raw, offset, scale} {
			text = strings.TrimSpace(text)
			var ok bool
			parts[i], ok = new(big.Rat).SetString(text)
			fine = fine && ok && form.MatchString(text) && new(big.Rat).Abs(parts[i]).Cmp(big.NewRat(1e15, 1)) < 0
		}
		if !fine {
			if err == nil {
				t.Fatalf("%q %q %q: taken as %v", raw, offset, scale, got)
			}
			return
		}
		exact := new(big.Rat).Add(parts[0], parts[1])
		exact.Mul(exact, parts[2]).Quo(exact, big.NewRat(1000, 1))
		want, _ := exact.Float64()
		x, _ := parts[0].Float64()
		y, _ := parts[1].Float64()
		z, _ := parts[2].Float64()
		rounding := 1e-15 * (math.Abs(x) + math.Abs(y) + 1) * (math.Abs(z) + 1) // what float64 loses
		switch possible := want >= -273.15 && want <= 5000; {
		case err == nil && math.Abs(got["temperature"]-want) > rounding:
			t.Fatalf("%q %q %q: %v, want %v", raw, offset, scale, got, want)
		case possible != (err == nil) && math.Abs(want+273.15) > rounding && math.Abs(want-5000) > rounding:
			t.Fatalf("%q %q %q: %v", raw, offset, scale, err)
		}
	})
}
