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
	"strings"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
)

// startHubs starts every hub and waits until each answers on its status socket.
func (d *demo) startHubs(ctx context.Context) error {
	for _, h := range d.hubs {
		if err := d.start(h); err != nil {
			return err
		}
	}
	for i, h := range d.hubs {
		d.show.live("hubs", "%d of %d run", i, len(d.hubs))
		if err := h.run.poll(ctx, 100*time.Millisecond, func() (bool, error) { return d.answers(ctx, h), nil }); err != nil {
			return err
		}
	}
	d.show.step("hubs", "%s run, each a process of its own", names(d.hubs))
	return nil
}

func (d *demo) start(m *member) (err error) {
	m.run, err = d.procs.start(m.name, nil, d.daemon, "run", "--config", m.config)
	return err
}

// answers reports whether streembitd status finds the member running.
func (d *demo) answers(ctx context.Context, m *member) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.daemon, "status", "--state", m.state, "--json")
	cmd.Env = cleanEnv()
	return cmd.Run() == nil
}

// publishFor lets the device publish and shows what it has noted as acknowledged.
func (d *demo) publishFor(ctx context.Context) error {
	if err := d.start(d.device); err != nil {
		return err
	}
	began := time.Now()
	every := append([]*member{d.device}, d.hubs...)
	return d.device.run.poll(ctx, 100*time.Millisecond, func() (bool, error) {
		for _, m := range every {
			if err := m.run.check(); err != nil {
				return false, err
			}
		}
		if err := d.notes.poll(); err != nil {
			return false, err
		}
		d.show.live("device", "%s of %s · %s readings published · %d of %d copies when acknowledged", time.Since(began).Truncate(time.Second), d.publish,
			number(d.notes.readings()), d.notes.copies(), len(d.hubs))
		return time.Since(began) >= d.publish, nil
	})
}

// disaster waits for the device to note one more segment, and at that moment kills it and some hubs and deletes its folder.
func (d *demo) disaster(ctx context.Context) error {
	known := len(d.notes.all)
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("nothing was published for 15 s"))
	defer cancel()
	err := d.device.run.poll(ctx, time.Millisecond, func() (bool, error) {
		err := d.notes.poll()
		return len(d.notes.all) > known && d.notes.all[len(d.notes.all)-1].Readings > 0, err
	})
	if err != nil {
		return err
	}
	dying := d.hubs[:d.kill]
	for _, m := range append([]*member{d.device}, dying...) {
		m.run.kill()
	}
	if err := d.notes.poll(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.device.state); err != nil {
		return fmt.Errorf("deleting the device's folder: %w", err)
	}
	d.show.step("device", "%s readings published in %s segments", number(d.notes.readings()), number(len(d.notes.all)))
	d.show.step("disaster", "SIGKILL for %s; %s deleted", names(append([]*member{d.device}, dying...)), d.device.state)
	return nil
}

// collect starts a collector for the first time, as a process of its own, and lets it pull everything once.
func (d *demo) collect(ctx context.Context) error {
	var out bytes.Buffer
	c, err := d.procs.start("collector", &out, d.self, "collect", "run", "--once", "--json", "--config", d.collectorConfig())
	if err != nil {
		return err
	}
	began := time.Now()
	for running := true; running; {
		select {
		case <-c.done:
			running = false
		case <-ctx.Done():
			return fmt.Errorf("waiting for the collector: %w: %s", context.Cause(ctx), c.lastWords())
		case <-time.After(100 * time.Millisecond):
			d.show.live("collector", "starts for the first time, pulls from %s · %s", names(d.hubs[d.kill:]), time.Since(began).Truncate(time.Second))
		}
	}
	if code := cli.Code(c.cmd.ProcessState.ExitCode()); code != cli.OK && code != cli.Unverified { // the verdict counts what is missing
		return fmt.Errorf("the collector failed (%v): %s", c.cmd.ProcessState, c.lastWords())
	}
	if err := json.Unmarshal(out.Bytes(), &d.report); err != nil {
		return fmt.Errorf("reading the collector's report: %w: %s", err, c.lastWords())
	}
	d.show.step("collector", "started for the first time, pulled from %s in %s", names(d.hubs[d.kill:]), time.Since(began).Round(10*time.Millisecond))
	return nil
}

func names(members []*member) string {
	var n []string
	for _, m := range members {
		n = append(n, m.name)
	}
	if len(n) < 2 {
		return strings.Join(n, "")
	}
	return strings.Join(n[:len(n)-1], ", ") + " and " + n[len(n)-1]
}
