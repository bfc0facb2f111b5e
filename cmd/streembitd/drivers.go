// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// driverInfo is a driver as lists show it.
type driverInfo struct {
	Name     string       `json:"name"`
	Bus      string       `json:"bus"`
	Addrs    []string     `json:"addrs,omitempty"`   // the default first
	Measures []string     `json:"measures"`          // "temperature (Cel)"
	Actions  []string     `json:"actions,omitempty"` // what streembitd sensors set can set
	Options  []optionInfo `json:"options,omitempty"`
	Fastest  string       `json:"fastest"`
	Doc      string       `json:"doc"`
}

type optionInfo struct {
	Name    string   `json:"name"`
	Default string   `json:"default"`
	Allowed []string `json:"allowed,omitempty"` // none = the driver checks the value
	Doc     string   `json:"doc"`
}

func describe(d sensors.Driver) driverInfo {
	i := driverInfo{Name: d.Name, Bus: d.Bus.String(), Fastest: d.Fastest.String(), Doc: d.Doc,
		Measures: quantities(d.Measures), Actions: quantities(d.Actions)}
	for _, a := range d.Addrs {
		i.Addrs = append(i.Addrs, fmt.Sprintf("%#x", a))
	}
	for _, o := range d.Options {
		i.Options = append(i.Options, optionInfo(o))
	}
	return i
}

func quantities(list []edge.Quantity) (names []string) {
	for _, q := range list {
		name := q.Name
		if q.Unit != "" {
			name += " (" + q.Unit + ")"
		}
		names = append(names, name)
	}
	return names
}

// addresses writes a run of addresses, as of a chip with address pins, as a range.
func (i driverInfo) addresses() string {
	var out []string
	for n := 0; n < len(i.Addrs); {
		last := n
		for last+1 < len(i.Addrs) && hex(i.Addrs[last+1]) == hex(i.Addrs[last])+1 {
			last++
		}
		if last-n < 2 {
			out = append(out, i.Addrs[n])
			n++
			continue
		}
		out = append(out, i.Addrs[n]+"-"+strings.TrimPrefix(i.Addrs[last], "0x"))
		n = last + 1
	}
	return strings.Join(out, " ")
}

func hex(text string) (n int) {
	_, _ = fmt.Sscanf(text, "%v", &n) // describe wrote it
	return n
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
			t.Row("DRIVER", "BUS", "ADDRESSES", "FASTEST", "SETS", "MEASURES")
			for _, d := range list {
				t.Row(d.Name, d.Bus, d.addresses(), d.Fastest, strings.Join(d.Actions, ", "), strings.Join(d.Measures, ", "))
			}
			t.Flush()
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
