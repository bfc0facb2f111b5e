// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/agent/live"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/sensors/all"
	"github.com/streembit/edge/thing"
)

// directConfig is what a device lets others do.
type directConfig struct {
	Off    bool     `toml:"off"`    // take no commands
	LED    string   `toml:"led"`    // name below /sys/class/leds of the lamp for identify; "" = a usual one
	Reboot []string `toml:"reboot"` // program and arguments that reboot the machine; none = it cannot be told to
}

// directFolder is the folder of the state folder in which a device keeps what it was told.
const directFolder = "direct"

// directing is the part of a device that takes commands; device is nil where none does.
type directing struct {
	device   *command.Device
	settings *command.Settings
	sensors  []sensorConfig // as the config says, whatever their settings
	sessions sessions
	recent   recentLog
	feed     *live.Feed    // of what is taken
	events   happenings    // that are told
	again    chan struct{} // holds one token when the program is to start anew
}

// directListen is where a device listens if its config does not say: hubs tell others where that is. For a fixed port, say listen.
func directListen() []string { return []string{"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"} }

// directs reports whether this member takes commands.
func (p *program) directs() bool { return p.has(deviceRole) && !p.cfg.Direct.Off }

// sessions lets the node be there before the device that its sessions are with.
type sessions struct{ server atomic.Pointer[direct.Server] }

// Serve implements p2p.DirectServer.
func (s *sessions) Serve(ctx context.Context, stream io.ReadWriteCloser, member edge.ID) error {
	server := s.server.Load()
	if server == nil {
		return errors.Join(errors.New("the device is not ready yet"), stream.Close())
	}
	return server.Serve(ctx, stream, member)
}

// Review implements p2p.DirectServer.
func (s *sessions) Review() {
	if server := s.server.Load(); server != nil {
		server.Review()
	}
}

// noCommands notes that a device can take no commands, because of what lies on its disk. It is no reason not to measure.
func (p *program) noCommands(err error) {
	if err == nil {
		return
	}
	dir := p.cfg.file(directFolder)
	p.alarms.raise(alarmDirect, dir, fmt.Sprintf("this device takes no commands: %v: mv %s %s.damaged, and start it anew", err, dir, dir))
}

// openSettings opens what the device was told to keep, and has the config's sensors follow it.
func (p *program) openSettings() error {
	dir := p.cfg.file(directFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making folder of commands: %w", err)
	}
	settings, err := command.OpenSettings(dir)
	if err != nil {
		return err
	}
	p.settings = settings
	p.sensors = slices.Clone(p.cfg.Sensors)
	for i, s := range p.cfg.Sensors {
		d, err := all.Find(s.Driver)
		if err != nil {
			return p.cfg.misuse(p.cfg.wrongSensor(i, "driver", err))
		}
		p.cfg.Sensors[i].Interval = duration(p.settings.Interval(s.Name, time.Duration(s.Interval), d.Fastest))
	}
	return nil
}

// openDirect lets members command the device. It comes after the agent.
func (p *program) openDirect(clock *agent.Clock, boot journal.BootID) error {
	dir := p.cfg.file(directFolder)
	logger := p.logger.With("part", "direct")
	ledger, err := command.OpenLedger(filepath.Join(dir, "ledger"), logger)
	if err != nil {
		return err
	}
	p.opened(ledger)
	has, err := p.describeSensors()
	if err != nil {
		return err
	}
	device, err := command.New(command.Config{
		Dir: dir, Signer: p.key, Fleet: p.members.get, Sensors: p.agent, Pace: p.agent, Settings: p.settings, Has: has, Actions: p.actions(),
		Events: p.describeEvents(), Board: p.board.Name(), Program: version, Logger: logger, Note: p.noteOutput,
		Uptime: func() (journal.BootID, int64) { at, _ := clock.Now(); return boot, at.Mono },
	})
	if err != nil {
		return err
	}
	server, err := direct.NewServer(direct.Options{Self: p.key.ID(), Fleet: p.members.get, Thing: device.Thing, Doer: device, Ledger: ledger,
		Audit: callRecord{p.record}, Logger: logger, Feed: p.feed, Events: p.events.ring,
		Boot: boot})
	if err != nil {
		return err
	}
	p.opened(server)
	p.device = device
	p.sessions.server.Store(server)
	return nil
}

// describeSensors says of each sensor what its driver says.
func (p *program) describeSensors() (has []command.Sensor, err error) {
	for i, s := range p.sensors {
		d, err := all.Find(s.Driver)
		if err != nil {
			return nil, p.cfg.misuse(p.cfg.wrongSensor(i, "driver", err))
		}
		has = append(has, command.Sensor{Every: time.Duration(s.Interval),
			Sensor: thing.Sensor{Name: s.Name, Doc: d.Doc, Stream: s.Stream, Measures: d.Measures, Outputs: d.Actions, Fastest: d.Fastest}})
	}
	return has, nil
}

// Events of the audit log that are about commands.
const (
	evCall      = "call"         // is about to be done
	evLook      = "look"         // something was read, or done that changes nothing
	evCallEnd   = "call-ended"   // was done, or why not
	evOutput    = "output"       // went back by itself, or could not
	evBadCall   = "refused-call" // was not done
	maxCallText = 200            // bytes of a value in a line …
	maxCallLine = 600            // … and of all of it: package audit cuts the rest off, and a record that is cut proves nothing
)

func (p *program) noteOutput(output, what string, err error) {
	if err != nil {
		what += ": " + err.Error()
	}
	p.record.decided(evOutput, "", output, what)
	p.events.tell(eventOutput, map[string]any{"output": output, "what": what})
}

// callRecord is the audit of commands.
type callRecord struct{ *record }

// Called implements direct.Recorder. Who looks may do so as often as it likes, so that it counts as what others try: limited in rate, and in a space of its own.
func (r callRecord) Called(a direct.Act) {
	if a.Looks {
		r.refused(evLook, a.Peer.String(), a.Name, errors.New(callText(a)))
		return
	}
	r.decided(evCall, a.Peer.String(), a.Name, callText(a))
}

// Ended implements direct.Recorder.
func (r callRecord) Ended(a direct.Act, why error) {
	text := "done " + a.ID.String()
	if why != nil {
		text = fmt.Sprintf("%s %v", a.ID, why)
	}
	r.decided(evCallEnd, a.Peer.String(), a.Name, text)
}

// Refused implements direct.Recorder.
func (r callRecord) Refused(a direct.Act, why error) {
	r.refused(evBadCall, a.Peer.String(), a.Name, fmt.Errorf("%s: %w", a.Op, why))
}

// callText is what is called; of a request that was signed singly also the record, which holds the value too, so that anybody can prove who wanted it.
func callText(a direct.Act) string {
	text := a.Op.String() + " " + a.ID.String()
	if a.Repeat {
		text = "told again: " + text
	}
	signed := ""
	if len(a.Signed) > 0 {
		signed = " signed " + base64.RawStdEncoding.EncodeToString(a.Signed)
	}
	if a.Value != nil {
		v, err := json.Marshal(a.Value)
		if err == nil && len(v) <= maxCallText && len(text)+1+len(v)+len(signed) <= maxCallLine {
			text += " " + string(v)
		}
	}
	return text + signed
}

// describeAt is where the device's description goes: the DHT, which takes connections to many hubs and is not for a metered uplink. Without it the device alone
// tells it.
func (p *program) describeAt() command.Board {
	if p.cfg.Uplink.Metered {
		return nil
	}
	return p.node
}
