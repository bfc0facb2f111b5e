// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/hal/sim"
)

func port(t *testing.T, b *hal.Board, r hal.Request) hal.Port {
	t.Helper()
	p, err := b.Port(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWeather(t *testing.T) {
	w, other := sim.Weather{Seed: 7}, sim.Weather{Seed: 8}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var night, afternoon, differs, step float64
	var sumTH, sumT, sumH, sumTT, sumHH, n float64
	last := w.At(start)
	for i := range 60 * 24 * 12 { // every 5 minutes for 60 days
		at := start.Add(time.Duration(i) * 5 * time.Minute)
		air := w.At(at)
		if air != w.At(at) {
			t.Fatal("the weather is not a function of the time")
		}
		if air.Celsius < -20 || air.Celsius > 45 || air.Pascal < 98000 || air.Pascal > 104000 || air.Percent < 0 || air.Percent > 100 {
			t.Fatalf("%s: %+v", at, air)
		}
		switch at.Hour() {
		case 3:
			night += air.Celsius
		case 15:
			afternoon += air.Celsius
		}
		differs += math.Abs(air.Celsius - other.At(at).Celsius)
		step = max(step, math.Abs(air.Celsius-last.Celsius))
		last = air
		n++
		sumT, sumH, sumTH = sumT+air.Celsius, sumH+air.Percent, sumTH+air.Celsius*air.Percent
		sumTT, sumHH = sumTT+air.Celsius*air.Celsius, sumHH+air.Percent*air.Percent
	}
	if (afternoon-night)/720 < 8 {
		t.Errorf("the afternoon is only %v °C warmer than the night", (afternoon-night)/720)
	}
	if differs/n < 0.1 {
		t.Error("two seeds have one weather")
	}
	if step > 1 {
		t.Errorf("the temperature jumps by %v °C in 5 minutes", step)
	}
	r := (n*sumTH - sumT*sumH) / math.Sqrt((n*sumTT-sumT*sumT)*(n*sumHH-sumH*sumH))
	if r > -0.6 {
		t.Errorf("temperature and humidity have the correlation %v, want clearly below 0", r)
	}
}

// The other sources go round their day, stay in what their chips can measure, and are functions of the seed and the time.
func TestSources(t *testing.T) {
	w, other := sim.Weather{Seed: 7}, sim.Weather{Seed: 8}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	type sums struct{ co2, lux, volts, amperes, n float64 }
	var night, noon sums
	balance, differ := 0.0, 0
	for i := range 60 * 24 * 12 {
		at := start.Add(time.Duration(i) * 5 * time.Minute)
		co2, lux := w.CO2(at), w.Lux(at)
		volts, amperes := w.Battery(at)
		if again, _ := w.Battery(at); co2 != w.CO2(at) || lux != w.Lux(at) || volts != again {
			t.Fatal("a source is not a function of the time")
		}
		if co2 < 380 || co2 > 2000 || lux < 1 || lux > 40000 || volts < 11 || volts > 14.6 || math.Abs(amperes) > 3 {
			t.Fatalf("%s: %v ppm, %v lx, %v V, %v A", at, co2, lux, volts, amperes)
		}
		if co2 != other.CO2(at) && lux != other.Lux(at) {
			differ++
		}
		balance += amperes
		for hour, s := range map[int]*sums{1: &night, 12: &noon} {
			if at.Hour() == hour {
				s.co2, s.lux, s.volts, s.amperes, s.n = s.co2+co2, s.lux+lux, s.volts+volts, s.amperes+amperes, s.n+1
			}
		}
	}
	if noon.co2-night.co2 < 200*noon.n || noon.lux < 1000*night.lux || noon.volts <= night.volts || night.amperes > 0 || noon.amperes < 0 {
		t.Errorf("by night %+v, at noon %+v", night, noon)
	}
	if balance < 0 {
		t.Errorf("the battery is drained by %v A on average", -balance/60/24/12)
	}
	if differ < 60*24*11 {
		t.Error("two seeds have one world")
	}
}

// TestAllChipsAnswer looks for exactly the chips that the board has.
func TestAllChipsAnswer(t *testing.T) {
	b := sim.New(sim.Config{Seed: 1})
	defer b.Close()
	var found []uint16
	for addr := uint16(1); addr < 0x80; addr++ {
		switch err := port(t, b, hal.Request{Kind: hal.I2C, Addr: addr}).I2C.Tx(t.Context(), nil, nil); {
		case err == nil:
			found = append(found, addr)
		case !errors.Is(err, hal.ErrAbsent):
			t.Errorf("%#x: %v", addr, err)
		}
	}
	if want := []uint16{
		sim.MCP9808Address, sim.PCF8574Address, sim.PCA9554Address, sim.BH1750Address, sim.AHT20Address, sim.INA219Address, sim.SHT4xAddress, sim.SHT3xAddress,
		sim.ADS1115Address, sim.ADS1015Address, sim.LM75Address, sim.TMP102Address, sim.TMP105Address, sim.SCD4xAddress, sim.BME280Address, sim.BMP280Address,
	}; !slices.Equal(found, want) {
		t.Errorf("chips at %#x, want %#x", found, want)
	}
}

func TestBusAnswersAsChipsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Config{Seed: 1})
		defer b.Close()
		c := port(t, b, hal.Request{Kind: hal.I2C, Bus: "I2C1", Addr: sim.BME280Address}).I2C
		read := func(reg byte, n int) []byte {
			t.Helper()
			r := make([]byte, n)
			if err := c.Tx(t.Context(), []byte{reg}, r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		if id := read(0xd0, 1)[0]; id != 0x60 {
			t.Errorf("id %#x", id)
		}
		if status := read(0xf3, 1)[0]; status&1 == 0 {
			t.Errorf("status %#x right after power-up: the NVM is being copied", status)
		}
		wrong := port(t, b, hal.Request{Kind: hal.I2C, Addr: 0x75})
		if err := wrong.I2C.Tx(t.Context(), []byte{0xd0}, make([]byte, 1)); !errors.Is(err, sim.ErrNAK) {
			t.Errorf("an address without a chip: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		if data := read(0xf7, 8); fmt.Sprintf("%x", data) != "8000008000008000" {
			t.Errorf("data before any conversion: %x", data)
		}
		if err := c.Tx(t.Context(), []byte{0xf2, 1, 0xf4, 0x25}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Millisecond)
		if status := read(0xf3, 1)[0]; status&8 == 0 {
			t.Error("the conversion has ended after 9 ms, the data sheet says 9.3")
		}
		time.Sleep(time.Millisecond)
		if status, mode := read(0xf3, 1)[0], read(0xf4, 1)[0]&3; status != 0 || mode != 0 {
			t.Errorf("after the conversion: status %#x, mode %d", status, mode)
		}
		first := read(0xf7, 8)
		time.Sleep(time.Hour)
		if again := read(0xf7, 8); string(first) != string(again) {
			t.Error("a sleeping chip has measured")
		}
		if err := c.Tx(t.Context(), []byte{0xe0, 0xb6}, nil); err != nil {
			t.Fatal(err)
		}
		if data := read(0xf7, 8); data[0] != 0x80 || data[1] != 0 {
			t.Errorf("data after a reset: %x", data)
		}
	})
}

// The level at each edge fits the edge, none is missed, and a time-out ends a wait in time.
func TestLines(t *testing.T) {
	for _, pin := range []string{sim.DoorPin, sim.MeterPin} {
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Config{Seed: 3})
			defer b.Close()
			p := port(t, b, hal.Request{Kind: hal.GPIO, Pin: pin})
			line, err := p.Pin.Input(gpio.PullUp, gpio.BothEdges)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Pin.Input(gpio.PullUp, gpio.NoEdge); err == nil {
				t.Error("one line was given to two users")
			}
			level, err := line.Read()
			if err != nil {
				t.Fatal(err)
			}
			edges := 0
			for begin := time.Now(); time.Since(begin) < time.Hour; {
				waited := time.Now()
				edge, err := line.WaitForEdge(100 * time.Millisecond)
				if err != nil || time.Since(waited) > 100*time.Millisecond {
					t.Fatalf("waited %v, %v", time.Since(waited), err)
				}
				now, err := line.Read()
				if err != nil || edge == (now == level) {
					t.Fatalf("%s after %v: edge %v, level %v then %v, %v", pin, time.Since(begin), edge, level, now, err)
				}
				if level = now; edge {
					edges++
				}
			}
			if edges < 50 {
				t.Errorf("%s moved %d times in an hour", pin, edges)
			}
			if err := line.Close(); err != nil {
				t.Error(err)
			}
			if _, err := p.Pin.Input(gpio.PullUp, gpio.NoEdge); err != nil {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// A line to which nothing is wired is what its user makes of it.
func TestFreeLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.NewWorld(sim.Config{})
		defer w.Board.Close()
		expect := func(want gpio.Level, when string) {
			t.Helper()
			if got, ok := w.Level(sim.FreePin); !ok || got != want {
				t.Errorf("%s: the line is %v, %v; want %v", when, got, ok, want)
			}
		}
		expect(gpio.High, "unused")
		p := port(t, w.Board, hal.Request{Kind: hal.GPIO, Pin: sim.FreePin}).Pin
		out, err := p.Output(gpio.Low)
		if err != nil {
			t.Fatal(err)
		}
		expect(gpio.Low, "from the request on")
		if _, err := p.Output(gpio.Low); err == nil {
			t.Error("one line was given to two users")
		}
		for _, l := range []gpio.Level{gpio.High, gpio.Low} {
			if err := out.Set(l); err != nil {
				t.Error(err)
			}
			expect(l, "set")
			if got, err := out.Read(); got != l || err != nil {
				t.Errorf("read back %v, %v; set was %v", got, err, l)
			}
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		expect(gpio.High, "closed")
		if err := out.Set(gpio.Low); err == nil {
			t.Error("a closed output can be set")
		}
		for pull, want := range map[gpio.Pull]gpio.Level{gpio.PullUp: gpio.High, gpio.PullNoChange: gpio.High, gpio.PullDown: gpio.Low} {
			in, err := p.Input(pull, gpio.BothEdges)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := in.Read(); got != want || err != nil {
				t.Errorf("%v: %v, %v", pull, got, err)
			}
			begin := time.Now()
			if edge, err := in.WaitForEdge(time.Minute); edge || err != nil || time.Since(begin) != time.Minute {
				t.Errorf("%v, %v after %v on a line on which nothing happens", edge, err, time.Since(begin))
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
		}
		door := port(t, w.Board, hal.Request{Kind: hal.GPIO, Pin: sim.DoorPin}).Pin
		if _, err := door.Output(gpio.Low); err == nil {
			t.Error("a line with a contact on it was driven")
		}
		if _, ok := w.Level("GPIO99"); ok {
			t.Error("a line that is not there has a level")
		}
	})
}

func ExampleNew() {
	board := sim.New(sim.Config{Seed: 1})
	defer board.Close()
	port, err := board.Port(hal.Request{Kind: hal.I2C, Addr: sim.BME280Address})
	if err != nil {
		fmt.Println(err)
		return
	}
	var id [1]byte
	if err := port.I2C.Tx(context.Background(), []byte{0xd0}, id[:]); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: chip id %#x\n", port.Name, id[0])
	// Output: /dev/i2c-1 address 0x76: chip id 0x60
}
