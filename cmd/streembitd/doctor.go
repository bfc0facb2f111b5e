// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/cmd/streembitd/doctor"
	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
)

// errSick: doctor found a fault.
var errSick = errors.New("faults were found")

// doctorFlags are what streembitd doctor was asked for.
type doctorFlags struct {
	config, root, user, unit string
	asJSON                   bool
}

func newDoctorCommand() *cobra.Command {
	var f doctorFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong with this machine, and how to mend it",
		Long: `Looks at the board and its buses, at the rights of the service's user, the clock, the disk and how it is mounted, the card's health, the watchdog, power and memory; and
asks the running program for its sensors, hubs, outbox and fleet. Where none runs, it looks itself which of the configured chips answer. It only reads.

Each finding that is more than a note says how to mend it. The exit code is 1 if there is a fault; a warning is none: it works, and will cost data or a journey one day.
With --root it examines a system that does not run: a card that is mounted here, say.`,
		Example: "  streembitd doctor\n  streembitd doctor --json\n  streembitd doctor --root /mnt/card",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.run(c.Context(), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&f.config, "config", defaultConfig, "config file")
	c.Flags().StringVar(&f.root, "root", "/", "`folder` that is the root of the system to examine")
	c.Flags().StringVar(&f.user, "user", serviceUser, "`user` as which the service runs")
	c.Flags().StringVar(&f.unit, "unit", serviceUnit, "the service's `unit`")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return c
}

func (f *doctorFlags) run(ctx context.Context, out io.Writer) error {
	path := f.config
	if f.root != "/" {
		path = filepath.Join(f.root, path)
	}
	cfg, err := loadConfig(path)
	found := []doctor.Finding{{Check: "config", Level: doctor.OK, What: path}}
	if err != nil {
		found[0] = doctor.Finding{Check: "config", Level: doctor.Fault, What: err.Error(), Fix: "edit " + path + "; docs/operations.md explains every key"}
		cfg = config{State: defaultState}
	}
	found = append(found, doctor.Examine(f.machine(&cfg))...)
	if f.root == "/" {
		found = append(found, examineProgram(ctx, &cfg)...)
	}
	if !f.asJSON {
		printFindings(out, found)
	} else if err := cli.PrintJSON(out, found); err != nil {
		return err
	}
	if doctor.Worst(found) == doctor.Fault {
		return cli.Try(errSick, "the fixes that are shown, then streembitd doctor again")
	}
	return nil
}

// machine is what is known of the machine to examine.
func (f *doctorFlags) machine(cfg *config) doctor.Machine {
	m := doctor.Machine{Root: os.DirFS(f.root), State: cfg.State, User: f.user, Unit: f.unit, Now: time.Now(), Synced: cfg.Clock == "always" || agent.KernelSynced(),
		Built: builtAt(), Quota: int64(cfg.Outbox.Quota)}
	if cfg.has(hubRole) {
		m.Quota += int64(cfg.Store.Quota)
	}
	m.Space = func(path string) (doctor.Space, error) {
		return doctor.SpaceOf(filepath.Join(f.root, path))
	}
	m.Updates = func() []doctor.Finding { return updateFindings(filepath.Join(f.root, releasesRoot)) }
	if f.root != "/" {
		m.Now = time.Time{} // this machine's clock says nothing of the other's
	}
	if cfg.Board.Name != "sim" {
		m.Needs = needs(cfg)
	}
	return m
}

// needs lists the buses that the config's sensors are on.
func needs(cfg *config) (out []doctor.Need) {
	kinds := map[hal.BusKind]string{hal.I2C: "i2c", hal.SPI: "spi", hal.OneWire: "onewire", hal.GPIO: "gpio"}
	for _, s := range cfg.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil || kinds[d.Bus] == "" {
			continue
		}
		n := doctor.Need{Sensor: s.Name, Bus: kinds[d.Bus]}
		if strings.HasPrefix(s.Bus, "/dev/") {
			n.Device = s.Bus
		}
		out = append(out, n)
	}
	return out
}

// builtAt is the time of the commit that the program was made of; zero if it does not say.
func builtAt() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

func printFindings(out io.Writer, all []doctor.Finding) {
	count := map[doctor.Level]int{}
	for _, f := range all {
		count[f.Level]++
		fmt.Fprintf(out, "%-8s%-10s%s\n", strings.ToUpper(string(f.Level)), f.Check, f.What)
		if f.Fix != "" {
			fmt.Fprintf(out, "        %-10sfix: %s\n", "", f.Fix)
		}
	}
	fmt.Fprintf(out, "%d faults, %d warnings\n", count[doctor.Fault], count[doctor.Warning])
}

// examineProgram asks the running program, or looks itself where none runs.
func examineProgram(ctx context.Context, cfg *config) []doctor.Finding {
	data, err := askStatus(ctx, cfg.State)
	if err == nil {
		var s status
		if err = json.Unmarshal(data, &s); err == nil {
			return s.examine(time.Now())
		}
	}
	found := []doctor.Finding{{Check: "service", Level: doctor.Fault, What: err.Error(), Fix: "systemctl start streembitd; journalctl -u streembitd -n 50"}}
	if cfg.path == "" { // the config cannot be read
		return found
	}
	return append(found, absentChips(ctx, cfg)...)
}

// absentChips looks which of the configured I²C chips do not answer.
func absentChips(ctx context.Context, cfg *config) (out []doctor.Finding) {
	board, err := openBoard(ctx, cfg.Board)
	if err != nil {
		return []doctor.Finding{{Check: "chips", Level: doctor.Fault, What: err.Error(), Fix: "streembitd sensors scan"}}
	}
	defer func() { _ = board.Close() }() // only reads were made
	seen, err := look(ctx, board, "")
	if err != nil {
		return []doctor.Finding{{Check: "chips", Level: doctor.Fault, What: err.Error(), Fix: "streembitd sensors scan"}}
	}
	seen.compare(board, cfg)
	there := map[string]chipFound{}
	for _, c := range seen.I2C {
		there[c.Configured] = c
		if c.Configured == "" && (c.Verdict == verdictIs || c.Verdict == verdictMayBe) {
			out = append(out, doctor.Finding{Check: "chips", Level: doctor.Note, What: fmt.Sprintf("%s at %s of %s is not in the config", c.words(), c.Addr, c.Bus), Fix: "streembitd sensors scan --write"})
		}
	}
	for _, s := range cfg.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil || d.Bus != hal.I2C {
			continue
		}
		c, found := there[s.Name]
		switch {
		case found && c.Verdict == verdictIs && !slices.Contains(c.Drivers, s.Driver):
			out = append(out, doctor.Finding{Check: "chips", Level: doctor.Fault, What: fmt.Sprintf("%s is a %s by the config, and the chip there %s", s.Name, s.Driver, c.words()), Fix: "another driver or addr in the config"})
		case !found:
			out = append(out, doctor.Finding{Check: "chips", Level: doctor.Fault, What: fmt.Sprintf("%s (%s) does not answer", s.Name, s.Driver),
				Fix: "check wiring, supply and addr; streembitd sensors scan shows what answers"})
		}
	}
	return out
}
