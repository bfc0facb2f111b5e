// SPDX-License-Identifier: Apache-2.0

// Package sim is a whole simulated board: a hal.Board made of register-level chip models on an I²C bus and of GPIO lines,
// with values that move as weather does. Drivers cannot tell it from a real one, since they talk to registers.
//
// Everything is a function of a seed and the time, so two boards with one seed agree, and testing/synctest can drive days in
// a moment. The bus can be made to fail: Bus.Inject by hand, Config.Faults at random.
//
// What is on the board: on bus /dev/i2c-1 the chips of the constants below, all in the same air, the INA219 with 0.1 Ω between
// a solar battery and its loads, nothing on the expanders; a door contact on line GPIO17, closed = low; an energy meter's pulse output
// on line GPIO27, low during a pulse; the free lines GPIO22 and GPIO23; and in its files chips that the kernel drives: a DS18B20 on
// a 1-wire master, BMP280, ADS1015 and BH1750 by IIO, LM75 and INA219 by hwmon.
package sim

import (
	"os"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"

	"github.com/streembit/edge/hal"
)

// What the board has, for configs and tests.
const (
	I2CBus         = "/dev/i2c-1"
	MCP9808Address = 0x18
	PCF8574Address = 0x20
	PCA9554Address = 0x21
	BH1750Address  = 0x23
	AHT20Address   = 0x38
	INA219Address  = 0x40
	SHT4xAddress   = 0x44
	SHT3xAddress   = 0x45
	ADS1115Address = 0x48
	ADS1015Address = 0x49
	LM75Address    = 0x4a
	TMP102Address  = 0x4b
	TMP105Address  = 0x4c
	SCD4xAddress   = 0x62
	BME280Address  = 0x76
	BMP280Address  = 0x77

	DoorPin      = "GPIO17"
	MeterPin     = "GPIO27"
	FreePin      = "GPIO22" // nothing is wired to it: an input with a pull-up, or an output
	SpareFreePin = "GPIO23" // the same
)

// Config describes a simulated board.
type Config struct {
	Seed   uint64           // boards with different seeds have different weather
	Now    func() time.Time // nil = time.Now; it must run at the pace of package time's timers
	Root   string           // root of the files that are not simulated; "" = "/"
	Faults Faults           // random faults on the bus; the zero value has none
}

// World is a simulated board and what a test or a demonstration can do to it.
type World struct {
	Board   *hal.Board
	Bus     *Bus
	Weather Weather
	// The expanders, of which the outputs can be looked at.
	PCF8574 *PCF8574
	PCA9554 *PCA9554
	pins    map[string]*pin
}

// New returns a simulated board.
func New(c Config) *hal.Board { return NewWorld(c).Board }

// NewWorld returns a simulated board with access to what is behind it.
func NewWorld(c Config) *World {
	if c.Now == nil {
		c.Now = time.Now
	}
	w := &World{
		Bus:     NewBus(I2CBus),
		Weather: Weather{Seed: c.Seed},
		pins: map[string]*pin{
			DoorPin:      {now: c.Now, wave: door{c.Seed}},
			MeterPin:     {now: c.Now, wave: meter{c.Seed}},
			FreePin:      {now: c.Now},
			SpareFreePin: {now: c.Now},
		},
	}
	w.Bus.now, w.Bus.schedule = c.Now, c.Faults
	w.attach(c.Now)
	if c.Root == "" {
		c.Root = "/"
	}
	wiring := hal.Wiring{
		Name:    "simulated board",
		Root:    c.Root,
		Files:   newSysfs(c.Now, w.Weather, os.DirFS(c.Root)),
		OneWire: []string{OneWireMaster},
		I2C: []hal.Bus[i2c.BusCloser]{{
			Name: I2CBus, Aliases: []string{"1", "I2C1", "i2c-1"}, Usual: true,
			Open: w.Bus.Open,
		}},
	}
	for _, name := range []string{DoorPin, MeterPin, FreePin, SpareFreePin} {
		wiring.Pins = append(wiring.Pins, hal.NamedPin{Name: name, Pin: w.pins[name]})
	}
	w.Board = hal.NewBoard(wiring)
	return w
}

// attach puts the chips on the bus.
func (w *World) attach(now func() time.Time) {
	air, analogue := w.Weather.At, w.Weather.analogue()
	celsius := func(t time.Time) float64 { return air(t).Celsius }
	free := func(time.Time) byte { return 0xff }
	w.PCF8574, w.PCA9554 = NewPCF8574(now, free), NewPCA9554(now, free)
	for addr, chip := range map[uint16]Device{
		MCP9808Address: NewMCP9808(now, celsius),
		PCF8574Address: w.PCF8574,
		PCA9554Address: w.PCA9554,
		BH1750Address:  NewBH1750(now, w.Weather.Lux),
		AHT20Address:   NewAHT20(now, air),
		INA219Address:  NewINA219(now, w.Weather.Battery, ina219Shunt),
		SHT4xAddress:   NewSHT4x(now, air),
		SHT3xAddress:   NewSHT3x(now, air),
		ADS1115Address: NewADS1115(now, analogue),
		ADS1015Address: NewADS1015(now, analogue),
		LM75Address:    NewLM75(now, celsius),
		TMP102Address:  NewTMP102(now, celsius),
		TMP105Address:  NewTMP105(now, celsius),
		SCD4xAddress:   NewSCD4x(now, air, w.Weather.CO2),
		BME280Address:  NewBME280(now, air),
		BMP280Address:  NewBMP280(now, air),
	} {
		w.Bus.Attach(addr, chip)
	}
}

// Level returns what a meter at the line would show now, whoever uses it; false means that the board has no such line.
func (w *World) Level(line string) (level gpio.Level, ok bool) {
	p, ok := w.pins[line]
	if !ok {
		return gpio.Low, false
	}
	return p.level(), true
}
