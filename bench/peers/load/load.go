// SPDX-License-Identifier: Apache-2.0

// Package load is one side's client in the comparison with the peers: a device, an MQTT publisher, a collector … in a
// process of its own, so that CPU, bytes and memory are that client's alone. The benchmark starts its own program again
// with a Spec, and then gives it one Task a line.
package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/streembit/edge"
)

// Spec says what a client is and whom it talks to.
type Spec struct {
	Role     string        // see open
	States   []string      // folders with a member's key: one, or one for each host of a crowd
	Fleet    string        // its file
	Dir      string        // where a device's outbox or an appender's file is
	Addr     string        // host:port of the peer's server; of PostgreSQL and MariaDB the DSN
	User     string        // of InfluxDB
	Password string        // of User
	CA       string        // certificate file that its TLS is proven with
	Replicas int           // of a JetStream stream
	Gather   time.Duration // of a device with a metered uplink, how long segments wait to share their proofs; 0 = not metered
	Began    time.Time     // what those who push and those who take count from
	Profile  string        // file for a CPU profile of all tasks; "" = none
}

// Task is one measurement.
type Task struct {
	Do       string        // publish, fill, pull, write
	Segment  int           // readings a segment (a device only)
	Readings int           // in all
	Window   int           // segments or messages in flight
	Settle   bool          // the copies beyond the quorum count too: the CPU is taken when every hub has answered
	Devices  []edge.ID     // whose readings are pulled
	Pace     time.Duration // between two messages that are pushed
}

// Result is what a Task took.
type Result struct {
	Readings int
	CPU      time.Duration // user and system, of this process
	Wall     time.Duration // to the last acknowledgement
	P50      time.Duration // of a segment from the disk to the quorum, of a request there and back, of a message on its way
	Out, In  int64         // bytes written to and read from sockets
	Disk     int64         // bytes written to the outbox or the file
	Pages    int64         // bytes of the pages that this process dirtied on file systems
	Peak     int64         // largest resident set during the task
	Copies   float64       // that a segment has in the end; 0 = not known
	Error    string        // what stopped it, "" if nothing did
}

// client does tasks, one at a time. do starts and stops the meter around what counts.
type client interface {
	do(ctx context.Context, t Task, m *meter) error
	close() error
}

// Main is the client's program: it reads tasks from in and writes results to out until in ends.
func Main(ctx context.Context, spec string, in io.Reader, out io.Writer) error {
	var s Spec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return fmt.Errorf("load: reading the spec: %w", err)
	}
	c, err := open(ctx, s)
	if err != nil {
		return fmt.Errorf("load: opening %s: %w", s.Role, err)
	}
	defer func() { _ = c.close() }()
	stop, err := profile(s.Profile)
	if err != nil {
		return err
	}
	defer stop()
	answers := json.NewEncoder(out)
	if err := answers.Encode(Result{}); err != nil { // it is ready
		return fmt.Errorf("load: answering: %w", err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var t Task
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return fmt.Errorf("load: reading a task: %w", err)
		}
		runtime.GC() // what the task before left is not this one's
		m := &meter{}
		err := c.do(ctx, t, m)
		if err == nil {
			err = m.err
		}
		if err != nil {
			m.r.Error = err.Error()
		}
		if err := answers.Encode(m.r); err != nil {
			return fmt.Errorf("load: answering: %w", err)
		}
	}
	return nil
}

func open(ctx context.Context, s Spec) (client, error) {
	switch s.Role {
	case "device":
		return openDevice(ctx, s)
	case "collector":
		return openReader(ctx, s)
	case "crowd":
		return openCrowd(ctx, s)
	case "sqlite", "postgres", "mysql", "influx", "nats", "mqttsink":
		return openSink(ctx, s)
	case "psql", "mariadb", "sqlite3", "influx-import", "mosquitto_pub":
		return openBulk(ctx, s)
	case "natsplain":
		return openPlain(ctx, s)
	case "append":
		return openAppender(s)
	case "mqtt":
		return openMQTT(s)
	case "jetstream":
		return openJetStream(ctx, s)
	case "commander":
		return openCommander(ctx, s)
	case "feeder":
		return openFeeder(ctx, s)
	case "watcher":
		return openWatcher(ctx, s)
	case "requester":
		return openRequester(s)
	case "responder":
		return openResponder(s)
	case "pusher":
		return openPusher(s)
	case "subscriber":
		return openSubscriber(s)
	}
	return nil, fmt.Errorf("no such role")
}

// profile begins a CPU profile; stop ends it.
func profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("load: profiling: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("load: profiling: %w", errors.Join(err, f.Close()))
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// pool is how many different readings there are; they are published round and round.
const pool = 8000

// weather returns readings of three quantities that move as weather does, ten a second.
func weather() []edge.Reading {
	names := []edge.Quantity{{Name: "temperature", Unit: "Cel"}, {Name: "humidity", Unit: "%RH"}, {Name: "pressure", Unit: "Pa"}}
	base := []float64{21.37, 48.125, 100653.25}
	out := make([]edge.Reading, pool)
	for i := range out {
		n := int64(i + 1)
		out[i] = edge.Reading{Sensor: "bme280-0",
			Sample: edge.Sample{Quantity: names[n%3], Value: base[n%3] + float64((n*7919)%997)/100},
			At:     edge.Instant{Mono: n * 100, Wall: 1_790_000_000_000 + n*100}}
	}
	return out
}

// messages are the same readings as the peers carry them, one SenML record a message, encoded before the clock starts:
// the topic names the device.
func messages() [][]byte {
	var out [][]byte
	for _, r := range weather() {
		out = append(out, fmt.Appendf(nil, `[{"n":"%s/%s","u":"%s","v":%g,"t":%.3f}]`,
			r.Sensor, r.Quantity.Name, r.Quantity.Unit, r.Value, float64(r.At.Wall)/1e3))
	}
	return out
}

// median of durations; 0 of none.
func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
