// SPDX-License-Identifier: Apache-2.0

package hwmon_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/hwmon"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/sysfs"
)

func named(q edge.Quantity, suffix string) edge.Quantity {
	q.Name += "." + suffix
	return q
}

func TestContract(t *testing.T) {
	for _, c := range []struct {
		board   func() *hal.Board
		options map[string]any
		want    []edge.Quantity
	}{
		{simulated, map[string]any{"device": "lm75"}, []edge.Quantity{sensors.Temperature}},
		{simulated, map[string]any{"device": "ina219"}, []edge.Quantity{named(sensors.Voltage, "0"), named(sensors.Voltage, "1"), sensors.Current, sensors.Power}},
		{simulated, map[string]any{"device": "hwmon1", "channels": "in1"}, []edge.Quantity{named(sensors.Voltage, "1")}},
		{func() *hal.Board { return board(chips()) }, map[string]any{"device": "nct7802"}, []edge.Quantity{
			named(sensors.Temperature, "cpu"), named(sensors.Temperature, "cpu.2"), named(sensors.Temperature, "4"), named(sensors.Voltage, "vcc--3-3v"),
			named(sensors.Power, "1"), named(sensors.Power, "2"), sensors.Humidity, sensors.FanSpeed, sensors.EnergyUsed,
		}},
	} {
		sensorstest.Run(t, sensorstest.Case{Driver: hwmon.Driver, Board: c.board, Options: c.options, Want: c.want})
	}
}

func simulated() *hal.Board { return sim.New(sim.Config{Seed: 1}) }

func board(files fs.FS) *hal.Board { return hal.NewBoard(hal.Wiring{Files: files}) }

// chips has a chip with every kind of input and one other. The files are those of the kernel's Documentation/hwmon/sysfs-interface.rst.
func chips() fstest.MapFS {
	files := make(fstest.MapFS)
	for name, text := range map[string]string{
		"hwmon0/name": "acpitz", "hwmon0/temp1_input": "27800", "hwmon0/temp1_crit": "119000",
		"hwmon3/name":        "nct7802",
		"hwmon3/temp1_input": "-1850", "hwmon3/temp1_label": "CPU", "hwmon3/temp1_fault": "0", "hwmon3/temp1_max": "85000",
		"hwmon3/temp2_input": "48312", "hwmon3/temp2_label": "CPU",
		"hwmon3/temp3_input": "1", "hwmon3/temp3_enable": "0", // off: leaves no trace
		"hwmon3/temp4_input": "0", "hwmon3/temp4_enable": "1",
		"hwmon3/in0_input": "3296", "hwmon3/in0_label": "Vcc +3.3V", "hwmon3/in0_min": "0", "hwmon3/in0_average": "1",
		"hwmon3/power1_average": "12500000", "hwmon3/power1_cap": "1", "hwmon3/power2_input": "3000000", "hwmon3/power2_average": "1",
		"hwmon3/humidity1_input": "45123", "hwmon3/fan1_input": "1427", "hwmon3/fan1_fault": "0", "hwmon3/energy1_input": "9876543210",
		"hwmon3/pwm1": "128", "hwmon3/uevent": "", "hwmon3/intrusion0_alarm": "0", "hwmon3/temp_reset_history": "",
	} {
		files["sys/class/hwmon/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return files
}

func read(t *testing.T, files fs.FS, options map[string]any) (map[string]float64, error) {
	t.Helper()
	s, err := hwmon.Driver.Connect(t.Context(), board(files), hal.Request{}, options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	samples, err := s.Read(t.Context())
	got := make(map[string]float64)
	for _, s := range samples {
		got[s.Name+" "+s.Unit] = s.Value
	}
	return got, err
}

// Units: millidegree, millivolt, milliampere, microwatt, milli-percent, revolution/min, microjoule (sysfs-interface.rst).
func TestValues(t *testing.T) {
	got, err := read(t, chips(), map[string]any{"device": "nct7802"})
	want := map[string]float64{
		"temperature.cpu Cel": -1.85, "temperature.cpu.2 Cel": 48.312, "temperature.4 Cel": 0, "voltage.vcc--3-3v V": 3.296, "power.1 W": 12.5, "power.2 W": 3,
		"humidity %RH": 45.123, "fan 1/min": 1427, "energy J": 9876.54321,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

// What goes wrong is an error that names the device and the input, never a value.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change  map[string]string // "" = the file goes away
		options map[string]any
		want    string
		cause   error
	}{
		"no option":       {nil, nil, "acpitz", nil},
		"no such chip":    {nil, map[string]any{"device": "lm75"}, "nct7802", hal.ErrNoBus},
		"no such channel": {nil, map[string]any{"device": "nct7802", "channels": "temp1, temp9"}, "temp9", nil},
		"off":             {nil, map[string]any{"device": "nct7802", "channels": "temp3"}, "temp3", nil},
		"fault":           {map[string]string{"hwmon3/temp1_fault": "1"}, map[string]any{"device": "nct7802"}, "temp1", sensors.ErrNoData},
		"impossible":      {map[string]string{"hwmon3/temp2_input": "-300000"}, map[string]any{"device": "nct7802"}, "temp2", sensors.ErrRange},
		"humid":           {map[string]string{"hwmon3/humidity1_input": "100001"}, map[string]any{"device": "nct7802"}, "humidity1", sensors.ErrRange},
		"words":           {map[string]string{"hwmon3/in0_input": "N/A"}, map[string]any{"device": "nct7802"}, "in0_input", sysfs.ErrFormat},
		"empty":           {map[string]string{"hwmon3/in0_input": "\n"}, map[string]any{"device": "nct7802"}, "in0_input", sysfs.ErrFormat},
		"two of a name":   {map[string]string{"hwmon5/name": "acpitz"}, map[string]any{"device": "acpitz"}, "hwmon5", nil},
		"nothing to read": {map[string]string{"hwmon0/temp1_input": ""}, map[string]any{"device": "acpitz"}, "acpitz", nil},
	} {
		files := chips()
		for file, text := range c.change {
			files["sys/class/hwmon/"+file] = &fstest.MapFile{Data: []byte(text)}
			if text == "" {
				delete(files, "sys/class/hwmon/"+file)
			}
		}
		got, err := read(t, files, c.options)
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), c.want) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v, %v; want an error with %q and %v", name, got, err, c.want, c.cause)
		}
	}
	if _, err := read(t, fstest.MapFS{}, nil); !errors.Is(err, hal.ErrNoBus) {
		t.Errorf("a machine without the class: %v", err)
	}
}

// sick lets one file fail as the kernel lets it when the chip does not answer.
type sick struct {
	fs.FS
	file string
	err  error
}

func (s *sick) Open(name string) (fs.File, error) {
	if s.err != nil && strings.HasSuffix(name, s.file) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: s.err}
	}
	return s.FS.Open(name)
}

// An input that fails is an error with the kernel's cause, and can be left out.
func TestEIO(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENODATA, syscall.ENXIO} {
		files := &sick{chips(), "temp2_input", cause}
		if got, err := read(t, files, map[string]any{"device": "nct7802"}); !errors.Is(err, cause) || len(got) > 0 {
			t.Errorf("%v: %v, %v", cause, got, err)
		}
		if got, err := read(t, files, map[string]any{"device": "nct7802", "channels": "temp1,in0"}); err != nil || len(got) != 2 {
			t.Errorf("left out: %v, %v", got, err)
		}
	}
}

// A chip that is unplugged is gone; when it comes back under another number it is found again, and its old number's new owner is not read.
func TestReplug(t *testing.T) {
	files := chips()
	s, err := hwmon.Driver.Connect(t.Context(), board(files), hal.Request{}, map[string]any{"device": "acpitz"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files["sys/class/hwmon/hwmon0/name"] = &fstest.MapFile{Data: []byte("k10temp\n")}
	if samples, err := s.Read(t.Context()); !errors.Is(err, hal.ErrGone) || samples != nil {
		t.Errorf("another chip has the number: %v, %v", samples, err)
	}
	maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.Contains(name, "/hwmon0/") })
	if samples, err := s.Read(t.Context()); !errors.Is(err, hal.ErrGone) || samples != nil {
		t.Errorf("nothing has the number: %v, %v", samples, err)
	}
	files["sys/class/hwmon/hwmon7/name"] = &fstest.MapFile{Data: []byte("acpitz\n")}
	files["sys/class/hwmon/hwmon7/temp1_input"] = &fstest.MapFile{Data: []byte("30000\n")}
	if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != 30 {
		t.Errorf("back: %v, %v", samples, err)
	}
}

// A number is taken exactly if it is written as the kernel does and possible, and the value is the nearest to the exact one.
func FuzzInput(f *testing.F) {
	for _, text := range []string{"27800", "-1850\n", "0.5", "1e3", "+5", "0x10", "inf", "nan", "1_000", "", "-", ".5", "5.", "99999999999999999999"} {
		f.Add(text)
	}
	form := regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, text string) {
		files := fstest.MapFS{"sys/class/hwmon/hwmon0/name": {Data: []byte("x")}, "sys/class/hwmon/hwmon0/temp1_input": {Data: []byte(text)}}
		got, err := read(t, files, nil)
		word := strings.TrimSpace(text)
		exact, ok := new(big.Rat).SetString(word)
		fine := ok && form.MatchString(word)
		if fine {
			exact.Quo(exact, big.NewRat(1000, 1))
			fine = exact.Cmp(big.NewRat(-27315, 100)) >= 0 && exact.Cmp(big.NewRat(5000, 1)) <= 0
		}
		if fine != (err == nil) {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
		if err == nil {
			want, _ := exact.Float64()
			if d := got["temperature Cel"] - want; d > 1e-11 || d < -1e-11 {
				t.Fatalf("%q: %v, want %v", text, got, fmt.Sprint(want))
			}
		}
	})
}
