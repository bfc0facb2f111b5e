// SPDX-License-Identifier: Apache-2.0

package ds18b20_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/ds18b20"
	"github.com/streembit/edge/sensors/sensorstest"
	"github.com/streembit/edge/sensors/sysfs"
)

func TestContract(t *testing.T) {
	for _, at := range []hal.Request{{}, {Bus: sim.OneWireMaster}} {
		sensorstest.Run(t, sensorstest.Case{
			Driver:  ds18b20.Driver,
			At:      at,
			Options: map[string]any{"id": sim.DS18B20Slave},
			Board:   func() *hal.Board { return sim.New(sim.Config{Seed: 1}) },
			Want:    []edge.Quantity{sensors.Temperature},
		})
	}
}

// board has the given w1_slave files; the id is the folder.
func board(slaves map[string]string) *hal.Board {
	files := fstest.MapFS{"sys/bus/w1/devices/w1_bus_master1/w1_master_slaves": {}}
	for id, text := range slaves {
		files["sys/bus/w1/devices/"+id+"/w1_slave"] = &fstest.MapFile{Data: []byte(text)}
	}
	return hal.NewBoard(hal.Wiring{Files: files, OneWire: []string{"w1_bus_master1"}})
}

const good = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"

// The scratchpads are those of the data sheet's table 1 and of w1_therm.c; the last column is the kernel's arithmetic (w1_DS18B20_convert_temp).
func TestValues(t *testing.T) {
	line := func(pad string, milli int) string {
		return fmt.Sprintf("%s : crc=%s YES\n%s t=%d\n", pad, pad[24:], pad, milli)
	}
	for name, c := range map[string]struct {
		text  string
		want  float64
		cause error
	}{
		"w1_therm":          {good, 23.125, nil},
		"+125":              {line("d0 07 4b 46 7f ff 10 10 00", 125000), 125, nil},
		"+85, measured":     {line("50 05 4b 46 7f ff 10 10 00", 85000), 85, nil},
		"+10.125":           {line("a2 00 4b 46 7f ff 0e 10 00", 10125), 10.125, nil},
		"0":                 {line("00 00 4b 46 7f ff 10 10 00", 0), 0, nil},
		"-0.5":              {line("f8 ff 4b 46 7f ff 08 10 00", -500), -0.5, nil},
		"-25.0625":          {line("6f fe 4b 46 7f ff 01 10 00", -25062), -25.062, nil},
		"-55":               {line("90 fc 4b 46 7f ff 10 10 00", -55000), -55, nil},
		"power-up":          {"50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n", 0, sensors.ErrNoData},
		"power-up, alarms":  {line("50 05 00 64 3f ff 0c 10 00", 85000), 0, sensors.ErrNoData},
		"supply broke down": {line("ff 07 4b 46 7f ff 0c 10 00", 127937), 0, sensors.ErrNoData},
		"DS18S20 power-up":  {line("aa 00 4b 46 ff ff 0c 10 87", 85000), 0, sensors.ErrNoData},
		"too hot":           {line("d1 07 4b 46 7f ff 0f 10 00", 125062), 0, sensors.ErrRange},
		"too cold":          {line("8f fc 4b 46 7f ff 01 10 00", -55062), 0, sensors.ErrRange},
		"CRC":               {"72 01 4b 46 7f ff 0e 10 58 : crc=57 NO\n72 01 4b 46 7f ff 0e 10 57 t=23125\n", 0, sensors.ErrCRC},
		"line high":         {"ff ff ff ff ff ff ff ff ff : crc=c9 NO\n72 01 4b 46 7f ff 0e 10 57 t=-62\n", 0, sensors.ErrNoData},
		"line low":          {"00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n", 0, sensors.ErrNoData},
		"no answer":         {"", 0, sensors.ErrNoData},
		"cut":               {"72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n", 0, sysfs.ErrFormat},
		"no number":         {"72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=\n", 0, sysfs.ErrFormat},
		"no verdict":        {"72 01 4b 46 7f ff 0e 10 57 : crc=57 \n72 01 4b 46 7f ff 0e 10 57 t=23125\n", 0, sysfs.ErrFormat},
		"short":             {"72 01 : crc=57 YES\n72 01 t=23125\n", 0, sysfs.ErrFormat},
		"words":             {"hello\n", 0, sysfs.ErrFormat},
	} {
		got, err := ds18b20.Parse(c.text)
		if !errors.Is(err, c.cause) || err == nil && math.Abs(got.Celsius()-c.want) > 1e-9 || (err != nil) != (c.cause != nil) {
			t.Errorf("%s: %v, %v; want %v, %v", name, got.Celsius(), err, c.want, c.cause)
		}
		s, err := ds18b20.Driver.Connect(t.Context(), board(map[string]string{"28-000005e2fdc3": c.text}), hal.Request{}, nil)
		if !errors.Is(err, c.cause) || (err == nil) != (c.cause == nil) {
			t.Errorf("%s: Connect: %v, want %v", name, err, c.cause)
		}
		if err == nil {
			if samples, err := s.Read(t.Context()); err != nil || samples[0].Value != c.want {
				t.Errorf("%s: %v, %v; want %v", name, samples, err, c.want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Without the option the only chip is taken; otherwise the error lists what there is. Folders that are no thermometers do not count.
func TestFind(t *testing.T) {
	two := map[string]string{"28-000005e2fdc3": good, "10-0008032d5234": good, "28-x": good, "05-000005e2fdc3": good}
	for name, c := range map[string]struct {
		slaves map[string]string
		id     any
		want   []string // words of the error; none = it is found
		cause  error
	}{
		"the only one": {map[string]string{"22-0000003c1a2b": good}, nil, nil, nil},
		"capitals":     {two, "10-0008032D5234", nil, nil},
		"several":      {two, nil, []string{"id", "10-0008032d5234, 28-000005e2fdc3"}, nil},
		"another":      {two, "28-000000000000", []string{"28-000000000000", "10-0008032d5234, 28-000005e2fdc3"}, hal.ErrAbsent},
		"a path":       {two, "../../..", []string{"10-0008032d5234"}, hal.ErrAbsent},
		"none":         {map[string]string{"05-000005e2fdc3": good}, nil, []string{"no thermometer"}, hal.ErrAbsent},
	} {
		opts := map[string]any{}
		if c.id != nil {
			opts["id"] = c.id
		}
		s, err := ds18b20.Driver.Connect(t.Context(), board(c.slaves), hal.Request{}, opts)
		if (err == nil) != (c.want == nil) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", name, err, w)
			}
		}
		if err == nil {
			s.Close()
		}
	}
}

// slave is a file system with one chip, whose file opens as late as it is told, as the kernel's does.
type slave struct {
	mu     sync.Mutex
	delay  time.Duration
	text   string // "" = the chip was unplugged
	opened int
}

func (s *slave) set(delay time.Duration, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay, s.text = delay, text
}

func (s *slave) conversions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *slave) Open(name string) (fs.File, error) {
	s.mu.Lock()
	delay, text := s.delay, s.text
	if strings.HasSuffix(name, "w1_slave") {
		s.opened++
	} else {
		delay = 0
	}
	s.mu.Unlock()
	time.Sleep(delay)
	files := fstest.MapFS{}
	if text != "" {
		files["sys/bus/w1/devices/28-000005e2fdc3/w1_slave"] = &fstest.MapFile{Data: []byte(text)}
	}
	return files.Open(name)
}

// A conversion that does not end does not hold the caller; the next Read does not give its stale result, and Close waits for it.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := &slave{delay: 750 * time.Millisecond, text: good}
		b := hal.NewBoard(hal.Wiring{Files: chip, OneWire: []string{"w1_bus_master1"}})
		s, err := ds18b20.Driver.Connect(t.Context(), b, hal.Request{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		within := func(d time.Duration) ([]edge.Sample, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			start := time.Now()
			samples, err := s.Read(ctx)
			return samples, time.Since(start), err
		}
		chip.set(time.Minute, good)
		if samples, took, err := within(time.Second); !errors.Is(err, context.DeadlineExceeded) || samples != nil || took != time.Second {
			t.Errorf("after %v: %v, %v", took, samples, err)
		}
		if _, _, err := within(time.Second); !errors.Is(err, context.DeadlineExceeded) || chip.conversions() != 2 {
			t.Errorf("a second Read started another conversion (%d): %v", chip.conversions(), err)
		}
		chip.set(time.Second, strings.ReplaceAll(good, "t=23125", "t=30000"))
		if samples, took, err := within(time.Hour); err != nil || samples[0].Value != 30 || chip.conversions() != 3 || took < 58*time.Second {
			t.Errorf("%v, %v after %d conversions and %v: want a new one", samples, err, chip.conversions(), took)
		}
		chip.set(0, "")
		if _, _, err := within(time.Second); !errors.Is(err, hal.ErrAbsent) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the chip was unplugged: %v", err)
		}
		chip.set(time.Hour, good)
		if _, _, err := within(time.Second); err == nil {
			t.Error("a conversion of an hour ended at once")
		}
		start := time.Now()
		if err := s.Close(); err != nil || time.Since(start) < 59*time.Minute {
			t.Errorf("Close did not wait: %v after %v", err, time.Since(start))
		}
	})
}

// What the kernel writes of a scratchpad and a temperature is taken exactly if the chip could have measured it, with this value.
func FuzzParse(f *testing.F) {
	f.Add([]byte{0x72, 1, 0x4b, 0x46, 0x7f, 0xff, 0x0e, 0x10, 0x57}, 23125)
	f.Add([]byte{0x50, 5, 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10, 0x1c}, 85000)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, pad []byte, milli int) {
		got, err := ds18b20.Parse(fmt.Sprintf("% x : crc=%02x YES\n% x t=%d\n", pad, append(pad, make([]byte, 9)...)[8], pad, milli))
		all := func(b byte) bool { return bytes.Count(pad, []byte{b}) == 9 }
		fine := len(pad) == 9 && milli >= -55000 && milli <= 125000 && !all(0) && !all(0xff)
		if fine && pad[6] == 0x0c {
			value := int(pad[0]) | int(pad[1])<<8
			fine = value != 0x550 && value != 0x7ff && value != 0xaa
		}
		if fine != (err == nil) {
			t.Fatalf("% x %d: %v", pad, milli, err)
		}
		if want := physic.ZeroCelsius + physic.Temperature(milli)*physic.MilliKelvin; err == nil && got != want {
			t.Fatalf("% x %d: %v, want %v", pad, milli, got, want)
		}
	})
}

// Any other text is refused: what is taken is what the kernel would write of it.
func FuzzText(f *testing.F) {
	f.Add(good)
	f.Add("ff ff ff ff ff ff ff ff ff : crc=c9 NO\nff ff ff ff ff ff ff ff ff t=-62\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ds18b20.Parse(text)
		if err != nil {
			return
		}
		milli := strconv.FormatInt(int64((got-physic.ZeroCelsius)/physic.MilliKelvin), 10)
		if want := text[:26] + " : crc=" + text[24:26] + " YES\n" + text[:26] + " t=" + milli; strings.TrimSuffix(text, "\n") != want {
			t.Fatalf("%q was taken as %q", text, want)
		}
	})
}
