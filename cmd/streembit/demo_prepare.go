// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/internal/freeport"
)

// prepare founds the fleet and enrols everybody. The collector is enrolled too, so that the device wraps its epoch keys
// for it, but it does not run.
func (d *demo) prepare(ctx context.Context) error {
	fmt.Fprintf(d.app.err, "Streembit demo in %s: %s, one device, and no collector yet\n\n", d.dir, plural(d.demoOptions.hubs, "hub"))
	d.procs.logs = filepath.Join(d.dir, "logs")
	if err := os.Mkdir(d.procs.logs, 0o700); err != nil {
		return err
	}
	addrs, err := freeAddrs(d.demoOptions.hubs)
	if err != nil {
		return err
	}
	for i, addr := range addrs {
		d.hubs = append(d.hubs, d.member(fmt.Sprintf("hub-%d", i+1), "hub", addr))
	}
	d.device = d.member("pi-1", "device", "")
	d.collector = stateDir(filepath.Join(d.dir, "collector"))
	d.notes.path = filepath.Join(d.dir, "receipts.jsonl")

	f, err := d.enrolAll(ctx)
	if err != nil {
		return err
	}
	d.schema = "streembit_demo_" + f.ID().String()[:8]
	for _, m := range append(d.hubs, d.device) {
		if err := errors.Join(f.Save(filepath.Join(m.state, bundleName)), writeTOML(m.config, d.daemonConfig(m))); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Save(d.collector.bundle()), writeTOML(d.collectorConfig(), d.collectConfig())); err != nil {
		return err
	}
	d.show.step("fleet", "founded; %s, a device and a collector are enrolled", plural(len(d.hubs), "hub"))
	return nil
}

func (d *demo) member(name, role, addr string) *member {
	return &member{name: name, role: role, addr: addr, state: filepath.Join(d.dir, name), config: filepath.Join(d.dir, name+".toml")}
}

func (d *demo) collectorConfig() string { return filepath.Join(d.dir, "collector.toml") }

// enrolAll founds a fleet and grants each member its role.
func (d *demo) enrolAll(ctx context.Context) (*fleet.Fleet, error) {
	dir := fleetDir(filepath.Join(d.dir, "fleet"))
	now := time.Now()
	f, by, err := foundFleet(d.app, dir, "demo", "", now) // a fleet for a minute: no passphrase
	if err != nil {
		return nil, err
	}
	var grants []fleet.Grant
	for i, h := range d.hubs {
		id, err := d.makeID(ctx, h)
		if err != nil {
			return nil, err
		}
		grants = append(grants, fleet.Grant{Member: id, Name: h.name, Roles: fleet.Hub, Site: fmt.Sprintf("site-%d", i+1), Addrs: []string{h.addr}})
	}
	id, err := d.makeID(ctx, d.device)
	if err != nil {
		return nil, err
	}
	me, err := makeIdentity(d.collector)
	if err != nil {
		return nil, err
	}
	grants = append(grants, fleet.Grant{Member: id, Name: d.device.name, Roles: fleet.Device},
		fleet.Grant{Member: me.ID, Name: "server", Roles: fleet.Collector,
			Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}, Reader: me.public})
	for _, g := range grants {
		if f, err = enrol(f, by, g, now); err != nil {
			return nil, err
		}
	}
	return f, f.Save(dir.bundle())
}

// makeID lets streembitd make the member's key, as on a board.
func (d *demo) makeID(ctx context.Context, m *member) (edge.ID, error) {
	var out struct {
		ID edge.ID `json:"id"`
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.daemon, "id", "--state", m.state, "--json")
	cmd.Env, cmd.Stderr = cleanEnv(), &stderr
	text, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if errors.Is(ctx.Err(), context.Canceled) { // the command died of it
		return out.ID, ctx.Err()
	}
	if err != nil {
		return out.ID, fmt.Errorf("%s id: %w: %s", d.daemon, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.ID, nil
}

// freeAddrs returns n loopback addresses that were free a moment ago.
func freeAddrs(n int) (addrs []string, err error) {
	ports, err := freeport.Find(n)
	for _, port := range ports {
		addrs = append(addrs, "/ip4/127.0.0.1/tcp/"+port)
	}
	return addrs, err
}

// tomlTable is a table of a TOML file.
type tomlTable = map[string]any

// daemonConfig is a member's streembitd config. clock = "always": the demo's readings are of this machine, whose clock the
// person who looks at them reads too.
func (d *demo) daemonConfig(m *member) tomlTable {
	c := tomlTable{"roles": []string{m.role}, "state": m.state, "log": "info"}
	if m.role == "hub" {
		c["listen"] = []string{m.addr}
		c["store"] = tomlTable{"quota": "1GiB"}
		return c
	}
	c["clock"] = "always"
	c["board"] = tomlTable{"name": "sim"}
	c["outbox"] = tomlTable{"durability": "balanced", "receipts": d.notes.path}
	c["stream"] = []tomlTable{{"name": "main", "batch_age": "1s", "batch_readings": 1000}}
	c["sensor"] = []tomlTable{
		{"name": "bme280-0", "driver": "bme280", "addr": 0x76, "interval": "1s"},
		{"name": "door", "driver": "gpio", "pin": "GPIO17", "interval": "50ms"},
		{"name": "meter", "driver": "gpio-pulses", "pin": "GPIO27", "interval": "1s", "options": tomlTable{"as": "energy", "per-pulse": "3600"}},
		{"name": "machine", "driver": "host", "interval": "1s"},
	}
	return c
}

// collectConfig is the collector's config.
func (d *demo) collectConfig() tomlTable {
	sink := tomlTable{"kind": d.sink, "path": d.database()}
	if d.sink == sinkPostgres {
		sink = tomlTable{"kind": d.sink, "dsn": d.dsn, "schema": d.schema}
	}
	return tomlTable{"state": string(d.collector), "sink": sink}
}

func writeTOML(path string, config tomlTable) error {
	text, err := toml.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return fleet.WriteFile(path, text, 0o600)
}
