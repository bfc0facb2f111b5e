// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
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
	c := &cobra.Command{Use: "sensors", Short: "Look at the sensors of this board, without any network",
		Args: cobra.ArbitraryArgs, RunE: cli.Group}
	c.AddCommand(newDriversCommand(), newSensorListCommand(), newSensorReadCommand())
	return c
}

type driverInfo struct {
	Name     string   `json:"name"`
	Bus      string   `json:"bus"`
	Addrs    []string `json:"addrs,omitempty"`
	Measures []string `json:"measures"` // "temperature (Cel)"
	Fastest  string   `json:"fastest"`
	Doc      string   `json:"doc"`
}

func describe(d sensors.Driver) driverInfo {
	i := driverInfo{Name: d.Name, Bus: d.Bus.String(), Fastest: d.Fastest.String(), Doc: d.Doc}
	for _, a := range d.Addrs {
		i.Addrs = append(i.Addrs, fmt.Sprintf("%#x", a))
	}
	for _, q := range d.Measures {
		name := q.Name
		if q.Unit != "" {
			name += " (" + q.Unit + ")"
		}
		i.Measures = append(i.Measures, name)
	}
	return i
}

func newDriversCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "drivers",
		Short: "List the chips that this program has drivers for",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var list []driverInfo
			for _, d := range all.Drivers() {
				list = append(list, describe(d))
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), list)
			}
			t := cli.NewTable(c.OutOrStdout())
			t.Row("DRIVER", "BUS", "ADDRESSES", "MEASURES", "FASTEST")
			for _, d := range list {
				t.Row(d.Name, d.Bus, strings.Join(d.Addrs, " "), strings.Join(d.Measures, ", "), d.Fastest)
			}
			t.Flush()
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
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

func readOnce(ctx context.Context, cfg config, name string) (out []sample, err error) {
	board, err := openBoard(ctx, cfg.Board)
	if err != nil {
		return nil, err
	}
	defer func() { _ = board.Close() }()
	for _, s := range cfg.Sensors {
		if s.Name != name {
			continue
		}
		d, err := all.Find(s.Driver)
		if err != nil {
			return nil, cli.Usage(err)
		}
		return readFrom(ctx, board, d, s)
	}
	return nil, cli.Try(cli.Usagef("no sensor %q in the config", name), "streembitd sensors list")
}

func readFrom(ctx context.Context, board *hal.Board, d sensors.Driver, s sensorConfig) ([]sample, error) {
	sensor, err := connect(ctx, board, d, s)
	if err != nil {
		return nil, cli.Try(err, "streembitd sensors list")
	}
	defer func() { _ = sensor.Close() }()
	samples, err := sensor.Read(ctx)
	if err != nil {
		return nil, cli.Try(err, "check the wiring, then streembitd sensors read %s", cli.Quote(s.Name))
	}
	var out []sample
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
