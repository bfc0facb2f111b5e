// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"github.com/streembit/edge/cmd/internal/cli"
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
	Name string `toml:"name"` // in messages and files; its kind if not said
	sinkConfig
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
		if slices.ContainsFunc(c.Sinks[:i], func(o sinkTable) bool { return o.Name == s.Name }) {
			return fmt.Errorf("two sinks are called %q: give each [[sink]] a name of its own, for example name = \"%s-2\"", s.Name, s.Name)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("sink %s: %w", s.Name, err)
		}
	}
	return nil
}
