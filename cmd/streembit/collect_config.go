// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/streembit/edge/cmd/internal/cli"
)

// The sinks of streembit collect.
const (
	sinkSQLite   = "sqlite"
	sinkPostgres = "postgres"
)

// collectConfig is the TOML file of streembit collect.
type collectConfig struct {
	State   string     `toml:"state"`   // folder: key.pem, reader.pem, fleet.cbor
	Devices []string   `toml:"devices"` // names or ids; none = all
	Once    bool       `toml:"once"`    // end when everything is pulled; otherwise follow
	Sink    sinkConfig `toml:"sink"`
}

type sinkConfig struct {
	Kind   string `toml:"kind"`   // sqlite or postgres
	Path   string `toml:"path"`   // of the SQLite file
	DSN    string `toml:"dsn"`    // of PostgreSQL
	Schema string `toml:"schema"` // in PostgreSQL
}

// loadCollectConfig reads, completes and checks a config file. Relative paths are relative to the file.
func loadCollectConfig(path string) (collectConfig, error) {
	c := collectConfig{State: configDir("collector"), Sink: sinkConfig{Kind: sinkSQLite}}
	data, err := os.ReadFile(path)
	if err != nil {
		return c, cli.Try(cli.Usagef("reading config: %w", err), "streembit collect run --config FILE")
	}
	if err := cli.ParseTOML(data, &c); err != nil {
		return c, cli.Try(cli.Usagef("config %s:\n%w", path, err), "streembit collect run --help")
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return c, fmt.Errorf("reading config: %w", err)
	}
	if err := c.check(); err != nil {
		return c, cli.Try(cli.Usagef("config %s: %w", path, err), "streembit collect run --help")
	}
	for _, p := range []*string{&c.State, &c.Sink.Path} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	return c, nil
}

func (c *collectConfig) check() error {
	switch s := c.Sink; s.Kind {
	case sinkSQLite:
		if s.Path == "" {
			return errors.New(`sink.path: name the database file, for example path = "readings.db"`)
		}
		if s.DSN != "" || s.Schema != "" {
			return errors.New(`sink.dsn and sink.schema are for kind = "postgres"`)
		}
	case sinkPostgres:
		if s.DSN == "" {
			return errors.New(`sink.dsn: name the database, for example dsn = "postgres://collector@db.example/readings"`)
		}
		if s.Path != "" {
			return errors.New(`sink.path is for kind = "sqlite"`)
		}
	default:
		return fmt.Errorf(`sink.kind: %q: want "sqlite" or "postgres"`, s.Kind)
	}
	return nil
}
