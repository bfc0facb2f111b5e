// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/streembit/edge"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

func newSensorsCommand() *cobra.Command {
	c := &cobra.Command{Use: "sensors", Short: "Look at the sensors of this board, without any network"}
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
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []driverInfo
			for _, d := range all.Drivers() {
				list = append(list, describe(d))
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			return table(c.OutOrStdout(), "DRIVER\tBUS\tADDRESSES\tMEASURES\tFASTEST", func(w io.Writer) {
				for _, d := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Name, d.Bus, strings.Join(d.Addrs, " "), strings.Join(d.Measures, ", "), d.Fastest)
				}
			})
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
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(listed(cfg.Sensors))
			}
			return table(c.OutOrStdout(), "SENSOR\tDRIVER\tAT\tSTREAM\tINTERVAL", func(w io.Writer) {
				for _, s := range listed(cfg.Sensors) {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Driver, s.At, s.Stream, s.Interval)
				}
			})
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
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			readings, err := readOnce(c, cfg, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(readings)
			}
			return table(c.OutOrStdout(), "QUANTITY\tVALUE\tUNIT", func(w io.Writer) {
				for _, s := range readings {
					fmt.Fprintf(w, "%s\t%v\t%s\n", s.Name, s.Value, s.Unit)
				}
			})
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

func readOnce(c *cobra.Command, cfg config, name string) (out []sample, err error) {
	board, err := openBoard(c.Context(), cfg.Board)
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
			return nil, usageError{err}
		}
		return readFrom(c, board, d, s)
	}
	return nil, usageError{fmt.Errorf("no sensor %q in the config\ntry: streembitd sensors list", name)}
}

func readFrom(c *cobra.Command, board *hal.Board, d sensors.Driver, s sensorConfig) ([]sample, error) {
	sensor, err := connect(c.Context(), board, d, s)
	if err != nil {
		return nil, fmt.Errorf("%w\ntry: streembitd sensors list", err)
	}
	defer func() { _ = sensor.Close() }()
	samples, err := sensor.Read(c.Context())
	if err != nil {
		return nil, fmt.Errorf("%w\ntry: check the wiring, then streembitd sensors read %s", err, s.Name)
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

// table prints rows under a header, in columns.
func table(out io.Writer, header string, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	rows(w)
	return w.Flush()
}

// defaultConfig is where the service's config is.
const defaultConfig = "/etc/streembit/streembitd.toml"
