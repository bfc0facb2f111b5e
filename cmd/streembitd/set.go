// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors"
)

func newSensorSetCommand() *cobra.Command {
	var path string
	var hold time.Duration
	c := &cobra.Command{
		Use:   "set NAME QUANTITY VALUE",
		Short: "Set one configured actuator, hold it, then leave it in its safe state",
		Long: `Set one configured actuator and hold it until Ctrl-C or for the time of --for; then its driver leaves it in its safe state.
It talks to the chip itself and not to a running streembitd, which it would fight for the chip: stop that one first.`,
		Example: "  streembitd sensors set lamp switch on --for 5s",
		Args:    cli.Args(cobra.ExactArgs(3)),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			return setAndHold(c.Context(), c.OutOrStdout(), cfg, args[0], args[1], args[2], hold)
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "config file")
	c.Flags().DurationVar(&hold, "for", 0, "hold it so long; 0 = until Ctrl-C")
	return c
}

func setAndHold(ctx context.Context, out io.Writer, cfg config, name, quantity, value string, hold time.Duration) (err error) {
	if hold < 0 {
		return cli.Usagef("--for %s: want a time above 0, or 0 for until Ctrl-C", hold)
	}
	s, err := attach(ctx, cfg, name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("%s may not be in its safe state: %w", name, cerr))
		} else {
			fmt.Fprintf(out, "%s is in its safe state\n", name)
		}
	}()
	v, err := parseAction(s.driver, quantity, value)
	if err != nil {
		return err
	}
	actuator, ok := s.Sensor.(sensors.Actuator)
	if !ok {
		return fmt.Errorf("the driver %s promises actions and gave no actuator", s.driver.Name)
	}
	if err := actuator.Set(ctx, v); err != nil {
		return cli.Try(err, "streembitd sensors read %s", cli.Quote(name))
	}
	if err := readBack(ctx, out, actuator, name, v.Quantity); err != nil {
		return err
	}
	if hold == 0 {
		<-ctx.Done()
		return nil
	}
	if err := hal.Sleep(ctx, hold); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// readBack shows the state that is on the lines, which need not be the one asked for.
func readBack(ctx context.Context, out io.Writer, s sensors.Sensor, name string, q edge.Quantity) error {
	samples, err := s.Read(ctx)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	for _, v := range samples {
		if v.Name == q.Name {
			fmt.Fprintln(out, strings.TrimSpace(fmt.Sprintf("%s/%s reads %v %s", name, v.Name, shown(v), v.Unit)))
			return nil
		}
	}
	fmt.Fprintf(out, "%s/%s is set and cannot be read back\n", name, q.Name)
	return nil
}

// parseAction makes the sample of one of the driver's actions from words.
func parseAction(d sensors.Driver, quantity, value string) (edge.Sample, error) {
	i := slices.IndexFunc(d.Actions, func(a edge.Quantity) bool {
		return quantity == a.Name || strings.HasPrefix(quantity, a.Name+".")
	})
	switch {
	case len(d.Actions) == 0:
		return edge.Sample{}, cli.Try(cli.Usagef("a %s cannot be set, only read", d.Name), "streembitd sensors drivers")
	case i < 0:
		return edge.Sample{}, cli.Usagef("a %s has no %q to set: use %s", d.Name, quantity, strings.Join(quantities(d.Actions), ", "))
	}
	v := edge.Sample{Quantity: d.Actions[i]}
	v.Name = quantity
	switch v.Kind {
	case edge.Text:
		v.Text = value
		return v, nil
	case edge.State:
		on := map[string]float64{"on": 1, "true": 1, "1": 1, "off": 0, "false": 0, "0": 0}
		state, ok := on[value]
		if !ok {
			return v, cli.Usagef("%s %q: want on or off", quantity, value)
		}
		v.Value = state
		return v, nil
	}
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return v, cli.Usagef("%s %q: want a number in %s", quantity, value, v.Unit)
	}
	v.Value = number
	return v, nil
}
