// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
)

// configuring is what config get and config set were asked for.
type configuring struct {
	desk
	selector, file string
	dry, force     bool
	accept         []string
}

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Get a device's config file, replace it",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newConfigGet(a), newConfigSet(a))
	return cmd
}

func newConfigGet(a *app) *cobra.Command {
	c := configuring{desk: desk{app: a}}
	cmd := &cobra.Command{
		Use:   "get DEVICE [FILE]",
		Short: "Get a device's config file as it is",
		Long: `Writes a device's config file as it is to FILE, or to standard output. It holds no secrets: keys and passwords are no part of it. It takes the right
"command config.get". What config set replaces later is what was got here.`,
		Example: "  streembit config get pi-1 pi-1.toml",
		Args:    cli.Args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.selector = args[0]
			if len(args) == 2 {
				c.file = args[1]
			}
			return c.withOne(cmd.Context(), c.selector, c.get)
		},
	}
	c.directFlags(cmd)
	return cmd
}

func newConfigSet(a *app) *cobra.Command {
	c := configuring{desk: desk{app: a}}
	cmd := &cobra.Command{
		Use:   "set DEVICE FILE",
		Short: "Replace a device's config file, and see whether the device comes back with it",
		Long: `Has the device check FILE as streembitd run does, replace its config by it, and start anew. The device keeps it once it is back: the agent runs, its sensors
work as before, and a hub is connected if one was. Unless that is so within a minute, and stays so for 10 s, the device puts the old config back by itself, also after a
crash or a power cut. This command waits for what becomes of it; it may be ended, the device does not need it.

It replaces the config that this folder got or set last, and is refused if somebody changed it since. State folder, roles, enrolment and the programs that a config
names can be changed on the device alone. It takes the rights "command config.check,config.set,config.state".`,
		Example: "  streembit config set pi-1 pi-1.toml --dry-run\n  streembit config set pi-1 pi-1.toml",
		Args:    cli.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.selector, c.file = args[0], args[1]
			return c.set(cmd.Context())
		},
	}
	c.directFlags(cmd)
	cmd.Flags().BoolVar(&c.dry, "dry-run", false, "have the device check the file and change nothing")
	cmd.Flags().BoolVar(&c.force, "force", false, "replace whatever config the device has now")
	cmd.Flags().StringSliceVar(&c.accept, "may-fail", nil, "`SENSOR` that may fail with the new config, because it is not wired yet (may be repeated)")
	return cmd
}

func (c *configuring) get(ctx context.Context, r *reacher, g fleet.Grant) error {
	var text configText
	v, err := c.ask(ctx, r, g, direct.Request{Op: direct.Call, Name: command.ConfigGet, Data: &text})
	if err != nil {
		return err
	}
	if sum := textOf(v, "sha256"); sum != command.Hash(text.Bytes()) {
		return fmt.Errorf("%s: the file came otherwise than the device says", g.Name)
	}
	if err := r.noteBase(g.Member, command.Hash(text.Bytes())); err != nil {
		return err
	}
	if c.asJSON {
		return cli.PrintJSON(c.app.out, map[string]string{"device": g.Member.String(), "file": textOf(v, "file"), "sha256": textOf(v, "sha256"), "text": text.String()})
	}
	if c.file == "" {
		_, err = c.app.out.Write(text.Bytes())
		return err
	}
	if err := fleet.WriteFile(c.file, text.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.app.err, "%s of %s, %d bytes: %s\n", textOf(v, "file"), g.Name, text.Len(), c.file)
	return nil
}

// maxConfigText bounds what a device may send as its config, in bytes: somebody at the device may have written a longer one than can be pushed.
const maxConfigText = 1 << 20

// configText takes as much as a config may be.
type configText struct{ bytes.Buffer }

// Write implements io.Writer.
func (t *configText) Write(p []byte) (int, error) {
	if t.Len()+len(p) > maxConfigText {
		return 0, fmt.Errorf("a config of more than %d bytes", maxConfigText)
	}
	return t.Buffer.Write(p)
}

// ask makes one request in a session of its own.
func (c *configuring) ask(ctx context.Context, r *reacher, g fleet.Grant, q direct.Request) (_ any, err error) {
	ctx, cancel := context.WithTimeout(ctx, direct.DefaultDeadline)
	defer cancel()
	l, err := r.open(ctx, g.Member)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	v, err := l.Do(ctx, q)
	if direct.ReasonOf(err) == direct.NotThere {
		err = cli.Try(fmt.Errorf("%s takes no config from afar: its streembitd is too old", g.Name), "streembit describe %s", cli.Quote(g.Name))
	}
	return v, err
}

// textOf is a field of a device's answer.
func textOf(v any, name string) string {
	fields, _ := v.(map[string]any)
	text, _ := fields[name].(string)
	return text
}

func (r *reacher) baseFile(device edge.ID) string {
	return filepath.Join(string(r.dir), "things", device.String()+".config")
}

// base returns the hash of the config that this folder got or set last; "" = none.
func (r *reacher) base(device edge.ID) (string, error) {
	raw, err := os.ReadFile(r.baseFile(device))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading what was got last: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func (r *reacher) noteBase(device edge.ID, hash string) error {
	if err := os.MkdirAll(filepath.Dir(r.baseFile(device)), 0o700); err != nil {
		return fmt.Errorf("noting which config was got: %w", err)
	}
	return fleet.WriteFile(r.baseFile(device), []byte(hash+"\n"), 0o600)
}
