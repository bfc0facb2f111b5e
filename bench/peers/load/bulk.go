// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/influx"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// perSegment is how many readings a segment has.
const perSegment = 1000

// inFlight is how many messages the plain publisher has on their way.
const inFlight = 100

// bulk is a server's own loader: a program that reads a file, which is there before the clock starts.
type bulk struct {
	file  string
	head  string                                     // the file's first lines
	write func(w io.Writer, p delivery.Parcel) error // a segment
	load  func(file string) *exec.Cmd
	says  string // what the program must say, %d is the number of readings; "" = it fails if it does not take all
	seq   uint64 // of the next segment
}

func openBulk(ctx context.Context, s Spec) (client, error) {
	c := &bulk{file: filepath.Join(s.Dir, s.Role+".bulk")}
	switch s.Role {
	case "psql":
		return c, c.psql(s.Addr)
	case "mariadb":
		return c, c.mariadb(ctx, s.Addr)
	case "sqlite3":
		return c, c.sqlite3(ctx, filepath.Join(s.Dir, "bulk.db"))
	case "influx-import":
		return c, c.influx(s)
	}
	return c, c.mosquitto(s.Addr)
}

// psql reads CSV into a table of the same form, keys and indexes.
func (c *bulk) psql(dsn string) error {
	run := func(command string) *exec.Cmd {
		return exec.Command("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command="+command, dsn)
	}
	c.write = table{at: func(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }}.write
	c.load = func(file string) *exec.Cmd { return run(`\copy public.bulk FROM '` + file + `' CSV`) }
	if out, err := run("CREATE TABLE IF NOT EXISTS public.bulk (LIKE streembit.reading INCLUDING ALL)").CombinedOutput(); err != nil {
		return fmt.Errorf("load: psql: %w: %s", err, out)
	}
	return nil
}

// mariadb reads CSV into the sink's own table, in a database that the sink does not write to.
func (c *bulk) mariadb(ctx context.Context, dsn string) error {
	s, err := mysql.Open(ctx, dsn, "")
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	to, err := driver.ParseDSN(dsn)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(to.Addr)
	c.write = table{null: `\N`, at: func(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }}.write
	c.load = func(file string) *exec.Cmd {
		return exec.Command("mariadb", "--no-defaults", "--protocol=tcp", "--host="+host, "--port="+port, "--user="+to.User, "--local-infile=1", to.DBName,
			"--execute=LOAD DATA LOCAL INFILE '"+file+"' INTO TABLE reading FIELDS TERMINATED BY ','")
	}
	return err
}

// sqlite3 reads CSV into the sink's own table, in a file of its own. It knows no NULL: an empty column is an empty text.
func (c *bulk) sqlite3(ctx context.Context, db string) error {
	s, err := sqlite.Open(ctx, db)
	if err != nil {
		return err
	}
	c.write = table{at: func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }}.write
	c.load = func(file string) *exec.Cmd {
		return exec.Command("sqlite3", "-batch", "-bail", db, ".import --csv "+file+" reading")
	}
	return s.Close()
}

// influx reads line protocol, the same points as the sink's, into a database of its own.
func (c *bulk) influx(s Spec) error {
	host, port, err := net.SplitHostPort(s.Addr)
	c.head = "# DML\n# CONTEXT-DATABASE: bulk\n"
	c.says = "Processed %d inserts"
	c.write = func(w io.Writer, p delivery.Parcel) error {
		var lines influx.Lines
		for i := range p.Rows {
			if err := lines.Add(&p.Chain, p.Name, &p.Rows[i]); err != nil {
				return err
			}
		}
		_, err := w.Write(lines.Bytes())
		return err
	}
	c.load = func(file string) *exec.Cmd {
		cmd := exec.Command("influx", "-host", host, "-port", port, "-import", "-path", file, "-precision", "ns")
		cmd.Env = append(os.Environ(), "INFLUX_USERNAME="+s.User, "INFLUX_PASSWORD="+s.Password)
		return cmd
	}
	return err
}

// mosquitto publishes each line with QoS 1: the same packs of SenML as the sink's, a segment each.
func (c *bulk) mosquitto(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	c.write = func(w io.Writer, p delivery.Parcel) error {
		pack, err := p.SenML()
		if err != nil {
			return err
		}
		_, err = w.Write(append(bytes.ReplaceAll(pack, []byte("\n"), nil), '\n'))
		return err
	}
	c.load = func(file string) *exec.Cmd {
		return exec.Command("sh", "-c", `exec mosquitto_pub -V 5 -h "$1" -p "$2" -q 1 -t bulk/senml -l <"$3"`, "sh", host, port, file)
	}
	return err
}

func (c *bulk) do(_ context.Context, t Task, m *meter) error {
	if err := c.prepare(t.Readings); err != nil {
		return err
	}
	m.start()
	cmd := c.load(c.file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("load: %s: %w: %s", cmd.Path, err, out)
	}
	m.stop(t.Readings)
	m.r.CPU += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if c.says != "" && !bytes.Contains(out, fmt.Appendf(nil, c.says, t.Readings)) {
		return fmt.Errorf("load: %s has not taken %d readings: %s", cmd.Path, t.Readings, out)
	}
	return nil
}

func (c *bulk) prepare(n int) (err error) {
	f, err := os.Create(c.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	if _, err := w.WriteString(c.head); err != nil {
		return err
	}
	for p := range parcels(&c.seq, n) {
		if err := c.write(w, p); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (c *bulk) close() error { return nil }

// parcels are n readings, a segment a parcel.
func parcels(seq *uint64, n int) func(yield func(delivery.Parcel) bool) {
	rows := weather()
	return func(yield func(delivery.Parcel) bool) {
		for ; n > 0; n -= perSegment {
			p := delivery.Parcel{Chain: journal.Chain{Device: edge.ID{1}, Stream: "main"}, Name: "bench", Received: time.Now()}
			for i := range min(n, perSegment) {
				r := rows[(*seq*perSegment+uint64(i))%pool]
				p.Rows = append(p.Rows, collector.Row{Seq: *seq, Index: i, Boot: journal.BootID{1}, Reading: r})
			}
			*seq++
			if !yield(p) {
				return
			}
		}
	}
}

// table says how a database's loader reads the columns of table reading.
type table struct {
	null string
	at   func(time.Time) string
}

func (f table) write(w io.Writer, p delivery.Parcel) error {
	device, boot, recv := p.Chain.Device.String(), journal.BootID{1}.String(), f.at(p.Received.UTC())
	for i := range p.Rows {
		r := &p.Rows[i]
		_, err := fmt.Fprintf(w, "%s,%s,%s,%s,%s,%g,%s,%s,1,%d,%d,%s,%d,synced,%s\n", device, r.Sensor, r.Quantity.Name, r.Unit,
			f.at(r.At.Time()), r.Value, f.null, f.null, r.Seq, r.Index, boot, r.At.Mono, recv)
		if err != nil {
			return err
		}
	}
	return nil
}

// plain publishes the packs of SenML that the sink makes, without its ids and checkpoints: NATS has no loader of its own in Debian.
type plain struct {
	conn *nats.Conn
	js   jetstream.JetStream
	seq  uint64
}

func openPlain(ctx context.Context, s Spec) (client, error) {
	conn, err := nats.Connect("nats://"+s.Addr, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	c := &plain{conn: conn}
	if c.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(inFlight)); err != nil {
		return nil, err
	}
	_, err = c.js.CreateStream(ctx, jetstream.StreamConfig{Name: "BULK", Subjects: []string{"bulk.>"}, Storage: jetstream.FileStorage})
	return c, err
}

func (c *plain) do(_ context.Context, t Task, m *meter) error {
	var packs [][]byte
	for p := range parcels(&c.seq, t.Readings) {
		pack, err := p.SenML()
		if err != nil {
			return err
		}
		packs = append(packs, pack)
	}
	acks := make([]jetstream.PubAckFuture, 0, len(packs))
	m.start()
	for _, pack := range packs {
		ack, err := c.js.PublishAsync("bulk.device0", pack)
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, a := range acks {
		if err := acked(a); err != nil {
			return err
		}
	}
	m.stop(t.Readings)
	return nil
}

func (c *plain) close() error {
	c.conn.Close()
	return nil
}
