// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/repair"
)

// config is the TOML file of streembitd; docs/operations.md explains every key.
type config struct {
	Roles    []string       `toml:"roles"`    // device, hub; none = those of them that the fleet has granted
	State    string         `toml:"state"`    // folder: key.pem, fleet.cbor, outbox, store, status.sock
	Listen   []string       `toml:"listen"`   // multiaddrs
	Announce []string       `toml:"announce"` // multiaddrs that others should use instead
	Log      string         `toml:"log"`      // debug, info, warn, error
	Clock    string         `toml:"clock"`    // kernel: believed when the kernel says synchronised; always: believed as it is
	MDNS     bool           `toml:"mdns"`     // on the LAN: a device is found by members, one without a fleet by who looks for devices
	TPM      string         `toml:"tpm"`      // device of the TPM that opens key.tpm
	Enroll   enrollConfig   `toml:"enroll"`
	Board    boardConfig    `toml:"board"`
	Direct   directConfig   `toml:"direct"`
	Outbox   outboxConfig   `toml:"outbox"`
	Uplink   uplinkConfig   `toml:"uplink"`
	Store    storeConfig    `toml:"store"`
	Streams  []streamConfig `toml:"stream"`
	Sensors  []sensorConfig `toml:"sensor"`
	Rules    []ruleConfig   `toml:"rule"`
	Update   updateConfig   `toml:"update"`

	level slog.Level // what Log says
	path  string     // of the file …
	text  []byte     // … and what it says, for messages
}

type boardConfig struct {
	Name   string      `toml:"name"` // auto, or sim = a simulated board
	Seed   uint64      `toml:"seed"` // of the simulated weather and faults
	Faults faultConfig `toml:"faults"`
}

// faultConfig is how often things go wrong on the simulated board.
type faultConfig struct {
	PerHour float64  `toml:"per_hour"` // of each chip
	Unplugs float64  `toml:"unplugs"`  // of the whole bus, in an hour
	Longest duration `toml:"longest"`
}

type outboxConfig struct {
	Quota      size   `toml:"quota"`
	Durability string `toml:"durability"` // strict, balanced
	Receipts   string `toml:"receipts"`   // file outside the state folder that notes every published segment
}

// uplinkConfig is of a device.
type uplinkConfig struct {
	Metered bool     `toml:"metered"` // its bytes cost money: one copy crosses it, and one hub hands it on
	Gather  duration `toml:"gather"`  // metered: how long segments wait to share their proofs
}

type storeConfig struct {
	Quota size `toml:"quota"`
	Rate  size `toml:"rate"` // bytes a second of one device, and 256 s worth of it at once

	RepairRate size `toml:"repair_rate"` // bytes a second that are fetched from other hubs
}

type streamConfig struct {
	Name          string   `toml:"name"`
	BatchAge      duration `toml:"batch_age"`
	BatchReadings int      `toml:"batch_readings"`
}

type sensorConfig struct {
	Name     string         `toml:"name"`
	Driver   string         `toml:"driver"`
	Stream   string         `toml:"stream"`
	Bus      string         `toml:"bus"`
	Addr     uint16         `toml:"addr"`
	Pin      string         `toml:"pin"`
	Interval duration       `toml:"interval"`
	Options  map[string]any `toml:"options"`
}

// duration is a TOML string such as "10s" or "1m30s".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want for example \"10s\" or \"1m30s\"", text)
	}
	*d = duration(v)
	return nil
}

// size is a TOML string such as "256MiB", in bytes.
type size int64

func (s *size) UnmarshalText(text []byte) error {
	number, factor := strings.TrimSpace(string(text)), int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n, ok := strings.CutSuffix(number, unit); ok {
			number, factor = strings.TrimSpace(n), 1<<(10*(i+1))
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v <= 0 || v > (1<<62)/factor {
		return fmt.Errorf("size %q: want for example \"256MiB\" or \"10GiB\"", text)
	}
	*s = size(v * factor)
	return nil
}

// loadConfig reads, completes and checks a config file. Messages name the file and, where the text tells, the line.
func loadConfig(path string) (config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return config{}, cli.Try(cli.Usagef("reading config: %w", err), "--config with the file that docs/operations.md describes")
	}
	return parseConfig(path, data)
}

func parseConfig(path string, data []byte) (config, error) {
	c := config{Log: "info", Clock: "kernel", MDNS: true, Board: boardConfig{Name: "auto"},
		Outbox: outboxConfig{Quota: 256 << 20, Durability: "balanced"}, Uplink: uplinkConfig{Gather: duration(30 * time.Second)}, Store: storeConfig{Quota: 10 << 30, Rate: 256 << 10, RepairRate: repair.DefaultRate},
		Update: updateConfig{Channel: "stable", Quota: 2 << 30, Every: duration(15 * time.Minute)}}
	if err := cli.ParseTOML(data, &c); err != nil {
		return config{}, cli.Usagef("config %s:\n%w", path, err)
	}
	c.path, c.text = path, data
	c.complete()
	if err := c.check(); err != nil {
		return config{}, c.misuse(err)
	}
	return c, nil
}

// misuse says where in the file an error lies, if it says of which entry it is.
func (c *config) misuse(err error) error {
	at := c.path
	if e, ok := errors.AsType[*faultyEntry](err); ok {
		at = place(c.path, c.text, e)
	}
	return cli.Usagef("config %s: %w", at, err)
}

func (c *config) complete() {
	if len(c.Streams) == 0 {
		c.Streams = []streamConfig{{Name: "main"}}
	}
	for i := range c.Streams {
		if c.Streams[i].BatchAge == 0 {
			c.Streams[i].BatchAge = duration(10 * time.Second)
		}
		if c.Streams[i].BatchReadings == 0 {
			c.Streams[i].BatchReadings = 1000
		}
	}
	for i := range c.Sensors {
		if c.Sensors[i].Stream == "" {
			c.Sensors[i].Stream = c.Streams[0].Name
		}
		if c.Sensors[i].Interval == 0 {
			c.Sensors[i].Interval = duration(10 * time.Second)
		}
	}
}

func (c *config) check() error {
	if c.State == "" {
		return errors.New(`state: name the folder for keys and data, for example state = "/var/lib/streembit"`)
	}
	for _, r := range c.Roles {
		if r != "device" && r != "hub" {
			return fmt.Errorf("roles: %q: want device or hub", r)
		}
	}
	if c.has("hub") && len(c.Listen) == 0 {
		return errors.New(`listen: a hub needs an address that others reach, for example listen = ["/ip4/0.0.0.0/tcp/32321"]`)
	}
	if err := c.level.UnmarshalText([]byte(c.Log)); err != nil {
		return fmt.Errorf("log = %q: want debug, info, warn or error", c.Log)
	}
	if !slices.Contains([]string{"kernel", "always"}, c.Clock) {
		return fmt.Errorf("clock: %q: want kernel or always", c.Clock)
	}
	if !slices.Contains([]string{"strict", "balanced"}, c.Outbox.Durability) {
		return fmt.Errorf("outbox.durability: %q: want strict or balanced", c.Outbox.Durability)
	}
	if c.Store.RepairRate < repair.MinRate {
		return fmt.Errorf("store.repair_rate: want %dKiB or more", repair.MinRate>>10)
	}
	if err := errors.Join(c.Board.check(), c.checkEnroll(), c.checkUplink(), c.checkUpdate()); err != nil {
		return err
	}
	if err := c.checkStreams(); err != nil {
		return err
	}
	if err := c.checkSensors(); err != nil {
		return err
	}
	_, err := c.parseRules()
	return err
}

func (c *config) checkUplink() error {
	switch {
	case c.Uplink.Metered && c.has("hub"):
		return errors.New("uplink.metered: a hub hands on what others send and cannot save bytes: leave it out, or take \"hub\" out of roles")
	case c.Uplink.Gather < duration(time.Second) || c.Uplink.Gather > duration(time.Minute):
		return fmt.Errorf("uplink.gather = %q: want 1s to 1m", time.Duration(c.Uplink.Gather))
	}
	return nil
}

func (b *boardConfig) check() error {
	none := faultConfig{}
	switch {
	case b.Name != "auto" && b.Name != "sim":
		return fmt.Errorf("board.name = %q: want auto or sim", b.Name)
	case b.Name != "sim" && b.Faults != none:
		return errors.New("board.faults: only a simulated board has faults made to order: leave them out, or set board.name = \"sim\"")
	case !(b.Faults.PerHour >= 0 && b.Faults.Unplugs >= 0 && b.Faults.Longest >= 0):
		return errors.New("board.faults: want numbers and a time from 0 on")
	}
	return nil
}

func (c *config) checkStreams() error {
	seen := map[string]bool{}
	for i, s := range c.Streams {
		wrong := func(key, format string, args ...any) error {
			return &faultyEntry{"stream", i, key, fmt.Errorf("stream %q: %w", s.Name, fmt.Errorf(format, args...))}
		}
		switch {
		case !journal.ValidStream(s.Name):
			return wrong("name", "the name wants 1 to 32 of a-z 0-9 . _ -")
		case s.Name == "fleet" || s.Name == journal.RewrapStream:
			return wrong("name", "this name is reserved for the fleet's own chains: take another")
		case seen[s.Name]:
			return wrong("name", "two streams have this name")
		case s.BatchReadings < 1 || s.BatchReadings > journal.MaxReadings:
			return wrong("batch_readings", "batch_readings = %d: want 1 to %d", s.BatchReadings, journal.MaxReadings)
		case s.BatchAge < duration(100*time.Millisecond):
			return wrong("batch_age", "batch_age: want 100ms or more")
		}
		seen[s.Name] = true
	}
	return nil
}

func (c *config) has(role string) bool { return slices.Contains(c.Roles, role) }

func (c *config) file(name string) string { return filepath.Join(c.State, name) }
