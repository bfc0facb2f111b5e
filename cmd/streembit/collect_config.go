// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/streembit/edge/cmd/internal/cli"
)

// collectConfig is the TOML file of streembit collect.
type collectConfig struct {
	State   string     `toml:"state"`   // folder: key.pem, reader.pem, fleet.cbor
	Devices []string   `toml:"devices"` // names or ids; none = all
	Once    bool       `toml:"once"`    // end when everything is pulled; otherwise follow
	Sink    sinkConfig `toml:"sink"`
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
	if err := c.Sink.check(); err != nil {
		return c, cli.Try(cli.Usagef("config %s: %w", path, err), "streembit collect run --help")
	}
	for _, p := range append(c.Sink.paths(), &c.State) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	return c, nil
}
