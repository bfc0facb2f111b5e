// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
)

// scanned is what a scan found on a board.
type scanned struct {
	Board    string       `json:"board"`
	I2C      []chipFound  `json:"i2c"`
	OneWire  []slaveFound `json:"onewire"`
	IIO      []kernelChip `json:"iio"`
	HWMon    []kernelChip `json:"hwmon"`
	Lines    int          `json:"gpio_lines"`
	Problems []string     `json:"problems"`
}

type scanFlags struct {
	bus, path          string
	sim, write, asJSON bool
}

func newScanCommand() *cobra.Command {
	var f scanFlags
	c := &cobra.Command{
		Use:   "scan",
		Short: "Look for chips on this board's buses, by reading only",
		Long: `Look for chips on this board's buses, and print config entries for what was found.

It only reads, and leaves alone the addresses that are reserved, held by a driver of the kernel, or used by the board itself. Where reading cannot
tell which chip it is, the entry is commented out: choose the driver, then remove the #.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return scan(c.Context(), c.OutOrStdout(), f, c.Flags().Changed("config"))
		},
	}
	c.Flags().StringVar(&f.bus, "bus", "", "look at this I²C bus only")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&f.write, "write", false, "append the entries to the config file")
	c.Flags().StringVar(&f.path, "config", defaultConfig, "config file, which names the board and the sensors that are known already")
	c.Flags().BoolVar(&f.sim, "sim", false, "look at a simulated board, whatever the config says")
	return c
}

func scan(ctx context.Context, out io.Writer, f scanFlags, named bool) (err error) {
	cfg := config{Board: boardConfig{Name: "auto"}}
	if _, serr := os.Stat(f.path); named || f.write || !errors.Is(serr, fs.ErrNotExist) {
		if cfg, err = loadConfig(f.path); err != nil {
			return err
		}
	}
	if f.sim {
		cfg.Board.Name = "sim"
	}
	board, err := openBoard(ctx, cfg.Board)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, board.Close()) }()
	found, err := look(ctx, board, f.bus)
	if err != nil {
		return err
	}
	found.compare(board, &cfg)
	entries := found.entries(&cfg)
	switch {
	case f.asJSON:
		err = cli.PrintJSON(out, found)
	default:
		found.print(out)
	}
	if err != nil || f.asJSON && !f.write {
		return err
	}
	if f.write {
		err = appendEntries(f.path, entries)
	}
	if err == nil && !f.asJSON {
		printEntries(out, f, entries)
	}
	return err
}

func printEntries(out io.Writer, f scanFlags, entries string) {
	switch {
	case entries == "" && f.write:
		fmt.Fprintf(out, "\nnothing is added to %s: all of it is there\n", f.path)
	case f.write:
		fmt.Fprintf(out, "\nadded to %s:\n%s", f.path, entries)
	case entries != "":
		fmt.Fprintf(out, "\nfor the config (--write appends it):\n%s", entries)
	}
}

// look scans all buses, or the one that is named. A bus that fails is a problem and does not stop the others.
func look(ctx context.Context, board *hal.Board, only string) (*scanned, error) {
	s := &scanned{Board: board.Name(), I2C: []chipFound{}, OneWire: []slaveFound{}, IIO: []kernelChip{}, HWMon: []kernelChip{}, Problems: []string{}}
	for _, problem := range board.Problems() {
		s.Problems = append(s.Problems, problem.Error())
	}
	buses := board.Buses(hal.I2C)
	if only != "" {
		if _, err := board.Claimed(only); err != nil {
			return nil, cli.Usage(err)
		}
		buses = []string{only}
	}
	for _, bus := range buses {
		found, err := scanI2C(ctx, board, bus)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.Problems = append(s.Problems, fmt.Sprintf("%s: %v", bus, err))
		}
		s.I2C = append(s.I2C, found...)
	}
	if only != "" {
		return s, nil
	}
	host, err := board.Port(hal.Request{Kind: hal.Host})
	if err != nil {
		return nil, err
	}
	s.OneWire = append(s.OneWire, scanOneWire(ctx, board)...)
	s.IIO = append(s.IIO, scanIIO(host.Files)...)
	s.HWMon = append(s.HWMon, scanHWMon(host.Files)...)
	s.Lines = len(board.Buses(hal.GPIO))
	return s, nil
}

// compare notes what the config has already.
func (s *scanned) compare(board *hal.Board, cfg *config) {
	for _, c := range cfg.Sensors {
		d, err := all.Find(c.Driver)
		if err != nil { // the config was checked
			continue
		}
		where, _, _ := locate(board, d, c) // a place that is not there was not found either
		for i := range s.I2C {
			if where != "" && s.I2C[i].place == where {
				s.I2C[i].Configured = c.Name
			}
		}
		for i, slave := range s.OneWire {
			id, ok := c.Options[slaveOption].(string)
			if d.Bus == hal.OneWire && (strings.EqualFold(id, slave.ID) || !ok && len(s.OneWire) == 1) {
				s.OneWire[i].Configured = c.Name
			}
		}
	}
}

func (s *scanned) print(out io.Writer) {
	fmt.Fprintf(out, "%s\n", s.Board)
	t := cli.NewTable(out)
	if len(s.I2C) > 0 {
		t.Row("BUS", "ADDRESS", "WHAT", "CONFIGURED")
	}
	for _, c := range s.I2C {
		t.Row(c.Bus, c.Addr, c.words(), c.Configured)
	}
	t.Flush()
	if len(s.I2C) == 0 {
		fmt.Fprintln(out, "no chip answers on I2C")
	}
	if len(s.OneWire) > 0 {
		fmt.Fprintln(out)
		t.Row("1-WIRE", "CHIP", "DRIVER", "CONFIGURED")
	}
	for _, c := range s.OneWire {
		t.Row(c.Master, c.ID, c.Driver, c.Configured)
	}
	t.Flush()
	if len(s.IIO)+len(s.HWMon) > 0 {
		fmt.Fprintln(out)
		t.Row("READ BY THE KERNEL", "CHIP", "VALUES (for the drivers iio and hwmon)")
	}
	for _, c := range slices.Concat(s.IIO, s.HWMon) {
		t.Row(c.Device, c.Name, strings.Join(c.Values, " "))
	}
	t.Flush()
	if s.Lines > 0 {
		fmt.Fprintf(out, "\n%d GPIO lines\n", s.Lines)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(out, "problem: %s\n", p)
	}
}

func (c chipFound) words() string {
	text := "unknown"
	switch c.Verdict {
	case verdictIs:
		text = "is a " + c.Drivers[0]
	case verdictMayBe:
		text = "may be " + strings.Join(c.Drivers, ", ")
		if len(c.Drivers) > 1 {
			text += " (cannot be told apart by reading)"
		}
	case verdictClaimed:
		return "in use: " + c.Note
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}
