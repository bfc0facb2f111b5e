// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector/shape"
)

// collectConfig is the TOML file of streembit collect.
type collectConfig struct {
	collectBase
	Sinks []sinkTable `toml:"sink"`

	path string // of the file itself
}

// collectBase is what the file says of everything but sinks.
type collectBase struct {
	State   string   `toml:"state"`   // folder: key.pem, reader.pem, fleet.cbor
	Devices []string `toml:"devices"` // names or ids; none = all
	Once    bool     `toml:"once"`    // end when everything is pulled; otherwise follow
}

// sinkTable is one [[sink]] of the file: what every kind of sink has, and what its own kind has.
type sinkTable struct {
	Name  string `toml:"name"`  // in messages and files; its kind if not said
	Spare bool   `toml:"spare"` // hubs need not keep readings for it
	sinkConfig

	Devices []string          `toml:"devices"` // these and the rest: shape.Rules
	Labels  []string          `toml:"labels"`
	Sensors []string          `toml:"sensors"`
	Rename  map[string]string `toml:"rename"`
	Units   map[string]string `toml:"units"`
}

func (s *sinkTable) rules() shape.Rules {
	return shape.Rules{Devices: s.Devices, Labels: s.Labels, Sensors: s.Sensors, Rename: s.Rename, Units: s.Units}
}

// checkRules holds filters and changes against the kind of sink: what is kept is kept in the units that were signed.
func (s *sinkTable) checkRules() error {
	if len(s.Units) > 0 && !exports(s.Kind) {
		return fmt.Errorf("units: a sink of kind %q keeps primary units: convert in the query, or where readings are exported", s.Kind)
	}
	return s.rules().Check()
}

// exports reports whether a kind of sink hands readings on as text with their unit, so that the unit may be a secondary one. What speaks
// SenML or names metrics by their base unit may not.
func exports(kind string) bool {
	return slices.Contains([]string{"influx", "webhook", "stdout"}, kind)
}

// loadCollectConfig reads, completes and checks a config file. Relative paths are relative to the file.
func loadCollectConfig(path string) (collectConfig, error) {
	c := collectConfig{collectBase: collectBase{State: configDir("collector")}, path: path}
	data, err := os.ReadFile(path)
	if err != nil {
		return c, cli.Try(cli.Usagef("reading config: %w", err), "streembit collect run --config FILE")
	}
	if err := c.parse(data); err != nil {
		return c, cli.Try(cli.Usagef("config %s:\n%w", path, err), "streembit collect run --help")
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return c, fmt.Errorf("reading config: %w", err)
	}
	if err := c.check(); err != nil {
		return c, cli.Try(cli.Usagef("config %s: %w", path, err), "streembit collect run --help")
	}
	paths := []*string{&c.State}
	for i := range c.Sinks {
		paths = append(paths, c.Sinks[i].paths()...)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	return c, nil
}

// parse reads the text. One sink may be a table, [sink]; several are [[sink]].
func (c *collectConfig) parse(data []byte) error {
	one := struct {
		collectBase
		Sink sinkTable `toml:"sink"`
	}{collectBase: c.collectBase}
	var shape struct {
		Sink any `toml:"sink"`
	}
	if _ = toml.Unmarshal(data, &shape); shape.Sink != nil { // what is wrong with the text, the second reading says
		if _, table := shape.Sink.(map[string]any); table {
			err := cli.ParseTOML(data, &one)
			c.collectBase, c.Sinks = one.collectBase, []sinkTable{one.Sink}
			return err
		}
	}
	return cli.ParseTOML(data, c)
}

// check completes and checks what the file says.
func (c *collectConfig) check() error {
	if len(c.Sinks) == 0 {
		c.Sinks = []sinkTable{{}}
	}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		if s.Kind == "" {
			s.Kind = sinkSQLite
		}
		if s.Name == "" {
			s.Name = s.Kind
		}
		s.Spare = s.Spare || s.Kind == sinkPrometheus || s.Kind == sinkStdout // which keep nothing
		if !validSinkName(s.Name) {
			return fmt.Errorf("sink name %q: use letters, digits, - and _: files are named by it", s.Name)
		}
		if slices.ContainsFunc(c.Sinks[:i], func(o sinkTable) bool { return o.Name == s.Name }) {
			return fmt.Errorf("two sinks are called %q: give each [[sink]] a name of its own, for example name = \"%s-2\"", s.Name, s.Name)
		}
		if err := errors.Join(s.check(), s.checkRules()); err != nil {
			return fmt.Errorf("sink %s: %w", s.Name, err)
		}
	}
	return nil
}

func validSinkName(name string) bool {
	return len(name) <= 64 && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
}

// deadLetters names the file for the readings that a sink cannot hold: collect.toml has collect.NAME.dead.jsonl beside it.
func (c *collectConfig) deadLetters(s *sinkTable) string {
	return strings.TrimSuffix(c.path, filepath.Ext(c.path)) + "." + s.Name + ".dead.jsonl"
}
