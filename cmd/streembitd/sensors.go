// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

func newSensorsCommand() *cobra.Command {
	c := &cobra.Command{Use: "sensors", Short: "Find, read and set the sensors of this board, without any network",
		Args: cobra.ArbitraryArgs, RunE: cli.Group}
	c.AddCommand(newDriversCommand(), newScanCommand(), newSensorListCommand(), newSensorReadCommand(), newSensorSetCommand())
	return c
}

func newSensorListCommand() *cobra.Command {
	var path string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the configured sensors",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), listed(cfg.Sensors))
			}
			t := cli.NewTable(c.OutOrStdout())
			t.Row("SENSOR", "DRIVER", "AT", "STREAM", "INTERVAL")
			for _, s := range listed(cfg.Sensors) {
				t.Row(s.Name, s.Driver, s.At, s.Stream, s.Interval)
			}
			t.Flush()
			return nil
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "config file")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

type sensorInfo struct {
	Name     string `json:"name"`
	Driver   string `json:"driver"`
	At       string `json:"at"`
	Stream   string `json:"stream"`
	Interval string `json:"interval"`
}

func listed(configs []sensorConfig) []sensorInfo {
	out := []sensorInfo{}
	for _, s := range configs {
		at := strings.TrimSpace(s.Bus + " " + s.Pin)
		if s.Addr != 0 {
			at = strings.TrimSpace(fmt.Sprintf("%s %#x", at, s.Addr))
		}
		out = append(out, sensorInfo{Name: s.Name, Driver: s.Driver, At: at, Stream: s.Stream, Interval: time.Duration(s.Interval).String()})
	}
	return out
}

func newSensorReadCommand() *cobra.Command {
	var path string
	var asJSON bool
	c := &cobra.Command{
		Use:   "read NAME",
		Short: "Read one configured sensor once, now",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			readings, err := readOnce(c.Context(), cfg, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), readings)
			}
			t := cli.NewTable(c.OutOrStdout())
			t.Row("QUANTITY", "VALUE", "UNIT")
			for _, s := range readings {
				t.Row(s.Name, fmt.Sprint(s.Value), s.Unit)
			}
			t.Flush()
			return nil
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "config file")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// sample is a value as people and scripts see it.
type sample struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
	Unit  string `json:"unit,omitempty"`
}

// attached is an open sensor and what has to be closed with it.
type attached struct {
	sensors.Sensor
	driver sensors.Driver
	board  *hal.Board
}

// attach opens the board and one configured sensor.
func attach(ctx context.Context, cfg config, name string) (*attached, error) {
	i := slices.IndexFunc(cfg.Sensors, func(s sensorConfig) bool { return s.Name == name })
	if i < 0 {
		return nil, cli.Try(cli.Usagef("no sensor %q in the config", name), "streembitd sensors list")
	}
	d, err := all.Find(cfg.Sensors[i].Driver)
	if err != nil {
		return nil, cli.Usage(err)
	}
	board, err := openBoard(ctx, cfg.Board)
	if err != nil {
		return nil, err
	}
	s, err := connect(ctx, board, d, cfg.Sensors[i])
	if err != nil {
		return nil, errors.Join(cli.Try(err, "streembitd sensors scan"), board.Close())
	}
	return &attached{s, d, board}, nil
}

// Close puts the chip into its safe state.
func (a *attached) Close() error { return errors.Join(a.Sensor.Close(), a.board.Close()) }

func readOnce(ctx context.Context, cfg config, name string) (out []sample, err error) {
	s, err := attach(ctx, cfg, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	samples, err := s.Read(ctx)
	if err != nil {
		return nil, cli.Try(err, "check the wiring, then streembitd sensors read %s", cli.Quote(name))
	}
	for _, v := range samples {
		out = append(out, sample{Name: v.Name, Value: shown(v), Unit: v.Unit})
	}
	return out, nil
}

func shown(s edge.Sample) any {
	switch s.Kind {
	case edge.State:
		return s.Value != 0
	case edge.Text:
		return s.Text
	}
	v, err := strconv.ParseFloat(strconv.FormatFloat(s.Value, 'g', 7, 64), 64)
	if err != nil {
		return s.Value
	}
	return v
}

// defaultConfig is where the service's config is.
const defaultConfig = "/etc/streembit/streembitd.toml"
