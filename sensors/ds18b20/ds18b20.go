// SPDX-License-Identifier: Apache-2.0

// Package ds18b20 reads the thermometers that the kernel's w1_therm drives: DS18B20, and DS18S20, DS1822, DS1825 and DS28EA00 of the same kind.
//
// Data sheet: Maxim 19-7487, "DS18B20"; file formats: the kernel's Documentation/w1/slaves/w1_therm.rst and drivers/w1/slaves/w1_therm.c. The
// chip makes 12 bits (1/16 °C) unless it was told otherwise, in 750 ms; the kernel gives thousandths, cut and not rounded. Between measurements it
// sleeps by itself.
package ds18b20

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3/physic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

// families are the first byte of the ids of the chips that w1_therm knows.
var families = map[string]string{"10": "DS18S20", "22": "DS1822", "28": "DS18B20", "3b": "DS1825", "42": "DS28EA00"}

// Driver describes the chip. Accuracy ±0.5 °C from -10 to 85 °C, ±2 °C beyond (DS1822: ±2 °C); range -55 to 125 °C.
var Driver = sensors.Driver{
	Name:     "ds18b20",
	Doc:      "Maxim DS18B20 on 1-wire, by the kernel's w1_therm: temperature ±0.5 °C (19-7487); also DS18S20, DS1822, DS1825, DS28EA00",
	Bus:      hal.OneWire,
	Measures: []edge.Quantity{sensors.Temperature},
	Options:  []sensors.Option{{Name: "id", Doc: "the chip's id, for example \"28-000005e2fdc3\"; empty = the only one"}},
	Fastest:  time.Second,
	Open:     open,
}

// probe is one chip. A read of its file takes as long as the conversion and cannot be stopped: it runs in a goroutine, at most one, whose
// result waits in pending when the caller did not.
type probe struct {
	files   fs.FS
	file    string
	pending chan result
}

type result struct {
	text []byte
	err  error
}

func open(ctx context.Context, p hal.Port, opts map[string]string) (sensors.Sensor, error) {
	id, err := find(p, opts["id"])
	if err != nil {
		return nil, fmt.Errorf("ds18b20: %w", err)
	}
	s := &probe{files: p.Files, file: path.Join(p.W1, id, "w1_slave")}
	if _, err := s.Read(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// find returns the id of the chip that is meant. The kernel has a folder for each chip it found: family, dash, serial number.
func find(p hal.Port, want string) (string, error) {
	entries, err := fs.ReadDir(p.Files, p.W1)
	if err != nil {
		return "", err
	}
	var have []string
	for _, e := range entries {
		family, serial, _ := strings.Cut(e.Name(), "-")
		if families[family] != "" && len(serial) == 12 {
			have = append(have, e.Name())
		}
	}
	list := strings.Join(have, ", ")
	switch want = strings.ToLower(want); {
	case slices.Contains(have, want):
		return want, nil
	case len(have) == 0:
		return "", fmt.Errorf("%w: no thermometer in %s", hal.ErrAbsent, p.W1)
	case want != "":
		return "", fmt.Errorf("%w: option id = %q: the bus has %s", hal.ErrAbsent, want, list)
	case len(have) > 1:
		return "", fmt.Errorf("the bus has several: set id to one of %s", list)
	}
	return have[0], nil
}

// Read implements sensors.Sensor. When the context ends before the conversion does, the next Read waits for that conversion first and
// throws its result away, which may be old by then.
func (s *probe) Read(ctx context.Context) ([]edge.Sample, error) {
	if s.pending != nil {
		_, _ = s.wait(ctx) // the result is old
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ds18b20: reading: %w", err)
	}
	done := make(chan result, 1)
	s.pending = done
	go func() {
		text, err := fs.ReadFile(s.files, s.file)
		done <- result{text, err}
	}()
	text, err := s.wait(ctx)
	if err == nil {
		err = ctx.Err()
	}
	var t physic.Temperature
	if err == nil {
		t, err = parse(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("ds18b20: reading %s: %w", path.Base(path.Dir(s.file)), err)
	}
	return []edge.Sample{sensors.Celsius(t)}, nil
}

func (s *probe) wait(ctx context.Context) ([]byte, error) {
	select {
	case r := <-s.pending:
		s.pending = nil
		if errors.Is(r.err, fs.ErrNotExist) {
			r.err = fmt.Errorf("%w: %w", hal.ErrAbsent, r.err) // the kernel looked for the chip and dropped it
		}
		return r.text, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close implements sensors.Sensor. It waits for a conversion that still runs.
func (s *probe) Close() error {
	if s.pending != nil {
		<-s.pending
		s.pending = nil
	}
	return nil
}
