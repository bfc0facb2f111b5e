// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
)

// boardFiles returns the files of a board, which has others below them.
func boardFiles(t *testing.T, c sim.Config) fs.FS {
	t.Helper()
	c.Root = t.TempDir()
	for name, text := range map[string]string{
		"proc/loadavg":                  "0.25 0.5 0.75 1/100 4242\n",
		"sys/class/hwmon/hwmon0/name":   "hidden\n",
		"sys/class/hwmon/hwmon7/name":   "rpi_volt\n",
		"sys/class/thermal/zone0/type":  "cpu-thermal\n",
		"sys/bus/iio/drivers_autoprobe": "1\n",
	} {
		if err := os.MkdirAll(filepath.Join(c.Root, path.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.Root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return port(t, sim.New(c), hal.Request{Kind: hal.Host}).Files
}

func text(t *testing.T, files fs.FS, name string) string {
	t.Helper()
	b, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFilesAreAFileSystem reads every file several times and in several ways, at one time.
func TestFilesAreAFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		files := boardFiles(t, sim.Config{Now: func() time.Time { return start }})
		if err := fstest.TestFS(files,
			"proc/loadavg", "sys/class/hwmon/hwmon0", "sys/class/hwmon/hwmon7/name", "sys/class/thermal/zone0/type", "sys/bus/iio/drivers_autoprobe",
			"sys/bus/iio/devices/iio:device0", "sys/bus/w1/devices/"+sim.DS18B20Slave, "sys/devices/w1_bus_master1/28-000005e2fdc3/w1_slave",
		); err != nil {
			t.Error(err)
		}
	})
}

func TestFilesLookAsTheKernelsDo(t *testing.T) {
	files := boardFiles(t, sim.Config{})
	for name, want := range map[string]string{
		"proc/loadavg":                                "0.25 0.5 0.75 1/100 4242\n",
		"sys/class/hwmon/hwmon7/name":                 "rpi_volt\n",
		"sys/class/hwmon/hwmon0/name":                 "lm75\n",
		"sys/class/hwmon/hwmon1/name":                 "ina219\n",
		"sys/bus/iio/devices/iio:device0/name":        "bmp280\n",
		"sys/bus/iio/devices/iio:device1/name":        "ads1015\n",
		"sys/bus/iio/devices/iio:device2/name":        "bh1750\n",
		"sys/bus/w1/devices/28-000005e2fdc3/name":     "28-000005e2fdc3\n",
		"sys/bus/w1/devices/28-000005e2fdc3/id":       "\x28\xc3\xfd\xe2\x05\x00\x00\xe9",
		"sys/bus/iio/devices/iio:device1/uevent":      "MAJOR=243\nMINOR=1\nDEVNAME=iio:device1\nDEVTYPE=iio_device\n",
		"sys/devices/w1_bus_master1/w1_master_slaves": "28-000005e2fdc3\n",
	} {
		if got := text(t, files, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	slave := "sys/bus/w1/devices/w1_bus_master1/28-000005e2fdc3"
	if found, err := fs.Glob(files, "sys/bus/w1/devices/w1_bus_master*/28-*"); err != nil || !slices.Equal(found, []string{slave}) {
		t.Errorf("slaves: %v, %v", found, err)
	}
	entries, err := fs.ReadDir(files, "sys/class/hwmon")
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if !slices.Equal(names, []string{"hwmon0", "hwmon1", "hwmon7"}) || entries[0].Type() != fs.ModeSymlink {
		t.Errorf("in /sys/class/hwmon: %v, the first is of type %v, want a link", names, entries[0].Type())
	}
	for _, name := range []string{"sys/class/hwmon/hwmon0/nothing", "sys/class/hwmon/hwmon2/name", "sys/bus/w1/devices/28-0/temperature"} {
		if _, err := fs.ReadFile(files, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := files.Open("/sys"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("an absolute path: %v", err)
	}
}

func TestNoFilesBelow(t *testing.T) {
	files := port(t, sim.New(sim.Config{Root: t.TempDir()}), hal.Request{Kind: hal.Host}).Files
	n := 0
	if err := fs.WalkDir(files, ".", func(_ string, _ fs.DirEntry, err error) error { n++; return err }); err != nil || n < 80 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// maxim is the 1-wire checksum as Maxim's application note 27 has it, one bit at a time; over a block with its checksum it is 0.
func maxim(data []byte) (crc byte) {
	for _, b := range data {
		for i := range 8 {
			bit := (crc ^ b>>i) & 1
			if crc >>= 1; bit == 1 {
				crc ^= 0x8c
			}
		}
	}
	return crc
}

func TestOneWireThermometer(t *testing.T) {
	line := regexp.MustCompile(`^((?:[0-9a-f]{2} ){9}): crc=([0-9a-f]{2}) YES\n((?:[0-9a-f]{2} ){9})t=(-?\d+)\n$`)
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewWorld(sim.Config{Seed: 3, Root: t.TempDir()})
		p := port(t, w.Board, hal.Request{Kind: hal.OneWire})
		files := p.Files
		if p.W1 != "sys/bus/w1/devices" || !slices.Equal(w.Board.Buses(hal.OneWire), []string{sim.OneWireMaster}) {
			t.Errorf("1-wire: %q of %v", p.W1, w.Board.Buses(hal.OneWire))
		}
		if crc := maxim([]byte("\x5e\x01\xff\xff\x7f\xff\xff\xff")); crc != 0x52 { // of a real chip (raspberrypi.stackexchange.com/q/48106)
			t.Fatalf("the test's own checksum is %#x", crc)
		}
		slave := path.Join(p.W1, sim.DS18B20Slave)
		if id := text(t, files, slave+"/id"); maxim([]byte(id)) != 0 {
			t.Errorf("the checksum of the ROM is wrong: %x", id)
		}
		seen := map[string]bool{}
		for range 100 {
			begin := time.Now()
			short := text(t, files, slave+"/temperature")
			if took := time.Since(begin); took != 750*time.Millisecond {
				t.Fatalf("a conversion took %v", took)
			}
			milli, err := strconv.Atoi(strings.TrimSpace(short))
			if err != nil || math.Abs(float64(milli)/1000-w.Weather.At(time.Now()).Celsius) > 0.0325 {
				t.Fatalf("%q, %v; the air has %v", short, err, w.Weather.At(time.Now()).Celsius)
			}
			seen[short] = true
			long := line.FindStringSubmatch(text(t, files, slave+"/w1_slave"))
			if long == nil || long[1] != long[3] {
				t.Fatalf("w1_slave: %q", long)
			}
			pad, err := hex.DecodeString(strings.ReplaceAll(long[1], " ", ""))
			if err != nil || maxim(pad) != 0 || hex.EncodeToString(pad[8:]) != long[2] {
				t.Fatalf("scratchpad % x, %v", pad, err)
			}
			if celsius := float64(int16(pad[0])|int16(pad[1])<<8) / 16; strconv.Itoa(int(celsius*1000)) != long[4] {
				t.Errorf("scratchpad % x is %v °C, not %s", pad, celsius, long[4])
			}
			time.Sleep(20 * time.Minute)
		}
		if len(seen) < 50 {
			t.Errorf("%d values in 33 hours", len(seen))
		}
	})
}

// Each number is what the chip's resolution makes of the weather.
func TestKernelChipsMeasureTheWeather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewWorld(sim.Config{Seed: 3, Root: t.TempDir()})
		files := port(t, w.Board, hal.Request{Kind: hal.Host}).Files
		number := func(name string) float64 {
			t.Helper()
			v, err := strconv.ParseFloat(strings.TrimSpace(text(t, files, name)), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		const iio, hwmon = "sys/bus/iio/devices/iio:device", "sys/class/hwmon/hwmon"
		for range 48 {
			now := time.Now()
			air, lux := w.Weather.At(now), w.Weather.Lux(now)
			volts, amperes := w.Weather.Battery(now)
			for _, c := range []struct {
				name            string
				got, want, step float64
			}{
				{"bmp280 °C", number(iio+"0/in_temp_input") / 1000, air.Celsius, 0.01},
				{"bmp280 kPa", number(iio + "0/in_pressure_input"), air.Pascal / 1000, 0.00001},
				{"ads1015 mV", number(iio+"1/in_voltage0_raw") * number(iio+"1/in_voltage0_scale"), volts / 8 * 1000, 1},
				{"ads1015 mV between two", number(iio + "1/in_voltage0-voltage3_raw"), volts / 8 * 1000, 1},
				{"bh1750 lx", number(iio+"2/in_illuminance_raw") * number(iio+"2/in_illuminance_scale"), lux, 0.84 + lux/1e6},
				{"lm75 °C", number(hwmon+"0/temp1_input") / 1000, air.Celsius, 0.5},
				{"ina219 shunt mV", number(hwmon + "1/in0_input"), amperes * 100, 1},
				{"ina219 V", number(hwmon+"1/in1_input") / 1000, volts, 0.004},
				{"ina219 A", number(hwmon+"1/curr1_input") / 1000, amperes, 0.001},
				{"ina219 W", number(hwmon+"1/power1_input") / 1e6, math.Abs(volts * amperes), 0.02},
			} {
				if math.Abs(c.got-c.want) > c.step/2+1e-9 {
					t.Errorf("%v: %s reads %v, want %v in steps of %v", now, c.name, c.got, c.want, c.step)
				}
			}
			time.Sleep(31 * time.Minute)
		}
	})
}
