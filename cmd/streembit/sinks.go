// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sqlite"
)

// The sinks of streembit collect.
const (
	sinkSQLite   = "sqlite"
	sinkPostgres = "postgres"
)

// sinkConfig is what a [[sink]] says to its own kind.
type sinkConfig struct {
	Kind   string `toml:"kind"`   // sqlite or postgres
	Path   string `toml:"path"`   // of the SQLite file
	DSN    string `toml:"dsn"`    // of PostgreSQL
	Schema string `toml:"schema"` // in PostgreSQL
}

// check says what is wrong with the config of one sink.
func (c *sinkConfig) check() error {
	switch c.Kind {
	case sinkSQLite:
		if c.Path == "" {
			return errors.New(`sink.path: name the database file, for example path = "readings.db"`)
		}
		if c.DSN != "" || c.Schema != "" {
			return errors.New(`sink.dsn and sink.schema are for kind = "postgres"`)
		}
	case sinkPostgres:
		if c.DSN == "" {
			return errors.New(`sink.dsn: name the database, for example dsn = "postgres://collector@db.example/readings"`)
		}
		if c.Path != "" {
			return errors.New(`sink.path is for kind = "sqlite"`)
		}
	default:
		return fmt.Errorf(`sink.kind: %q: want "sqlite" or "postgres"`, c.Kind)
	}
	return nil
}

// paths returns what names files, so that they can be made relative to the config file.
func (c *sinkConfig) paths() []*string { return []*string{&c.Path} }

// openSink opens one sink.
func openSink(ctx context.Context, c sinkConfig) (collector.Sink, error) {
	if c.Kind == sinkPostgres {
		return postgres.Open(ctx, c.DSN, c.Schema)
	}
	return sqlite.Open(ctx, c.Path)
}
