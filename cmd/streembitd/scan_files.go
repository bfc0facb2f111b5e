// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
)

// slaveOption is the option by which drivers of 1-wire chips say which one they mean.
const slaveOption = "id"

// slaveFound is a chip on a 1-wire bus, as the kernel lists it.
type slaveFound struct {
	Master     string `json:"master"`
	ID         string `json:"id"` // family code and serial number, for example 28-000005e2fdc3
	Driver     string `json:"driver,omitempty"`
	Configured string `json:"configured,omitempty"`
}

// kernelChip is a chip that a driver of the kernel reads, in the subsystem iio or hwmon.
type kernelChip struct {
	Device string   `json:"device"` // for example iio:device0 or hwmon1
	Name   string   `json:"name"`   // what its driver calls it
	Values []string `json:"values"` // the files with its values, for example temp1_input
}

// scanOneWire lists the slaves that the kernel found; it searches the buses by itself every few seconds.
func scanOneWire(ctx context.Context, board *hal.Board) (found []slaveFound) {
	slave := regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{12}$`)
	for _, master := range board.Buses(hal.OneWire) {
		port, err := board.Port(hal.Request{Kind: hal.OneWire, Bus: master})
		if err != nil { // it went since it was listed
			continue
		}
		entries, err := fs.ReadDir(port.Files, port.W1)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if slave.MatchString(e.Name()) {
				found = append(found, slaveFound{Master: master, ID: e.Name(), Driver: slaveDriver(ctx, board, master, e.Name())})
			}
		}
	}
	return found
}

// slaveDriver returns the driver that can read a slave. On this bus the kernel talks to the chips, so that opening one does no harm.
func slaveDriver(ctx context.Context, board *hal.Board, master, id string) string {
	for _, d := range all.Drivers() {
		if d.Bus != hal.OneWire {
			continue
		}
		s, err := d.Connect(ctx, board, hal.Request{Bus: master}, map[string]any{slaveOption: id})
		if err == nil && s.Close() == nil {
			return d.Name
		}
	}
	return ""
}

// scanKernel lists what a subsystem of the kernel reads: folders below dir with a file "name" and files of values.
func scanKernel(files fs.FS, dir string, value *regexp.Regexp) (found []kernelChip) {
	devices, err := fs.ReadDir(files, dir)
	if err != nil { // the kernel has no such subsystem
		return nil
	}
	for _, d := range devices {
		name, err := fs.ReadFile(files, path.Join(dir, d.Name(), "name"))
		if err != nil { // a trigger
			continue
		}
		chip := kernelChip{Device: d.Name(), Name: strings.TrimSpace(string(name)), Values: []string{}}
		entries, err := fs.ReadDir(files, path.Join(dir, d.Name()))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if value.MatchString(e.Name()) {
				chip.Values = append(chip.Values, e.Name())
			}
		}
		found = append(found, chip)
	}
	return found
}

func scanIIO(files fs.FS) []kernelChip {
	return scanKernel(files, "sys/bus/iio/devices", regexp.MustCompile(`^in_[a-z0-9_-]+_(input|raw)$`))
}

func scanHWMon(files fs.FS) []kernelChip {
	return scanKernel(files, "sys/class/hwmon", regexp.MustCompile(`^[a-z]+[0-9]+_input$`))
}
