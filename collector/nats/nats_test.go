// SPDX-License-Identifier: Apache-2.0

package nats_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/nats"
	"github.com/streembit/edge/collector/sinktest"
)

const user, password = "collector", "right-one"

const users = `max_payload: 8KB
authorization { users: [
  { user: collector, password: right-one, permissions: { publish: ["streembit.>", "$JS.API.STREAM.*.STREEMBIT", "$JS.API.STREAM.NAMES", "$JS.API.INFO"], subscribe: "_INBOX.>" } },
  { user: admin, password: right-one } ] }
`

func config(addr string) nats.Config {
	return nats.Config{URL: "nats://" + addr, User: user, Password: password, Retry: 2 * time.Second}
}

func open(ctx context.Context, addr, dir string) (collector.Sink, error) {
	return nats.Open(ctx, config(addr), filepath.Join(dir, "checkpoints.db"))
}

func TestChild(t *testing.T) { sinktest.Child(t, open) }

func TestContract(t *testing.T) {
	sinktest.RunRemote(t, func(t testing.TB) sinktest.Remote {
		s := sinktest.NATS(t, users)
		return sinktest.Remote{Server: s, Open: open, Order: true, Once: true, Got: func(t testing.TB) []sinktest.Delivered { return stored(t, s.Addr) },
			Refuse: func(r *edge.Reading) {
				r.Kind, r.Unit, r.Value, r.Text = edge.Text, "", 0, strings.Repeat("\x01", 4000)
			}}
	})
}

// stored reads the stream, in its order.
func stored(t testing.TB, addr string) (out []sinktest.Delivered) {
	t.Helper()
	stream, err := admin(t, addr).Stream(t.Context(), "STREEMBIT")
	if err != nil {
		return nil // nothing was written yet
	}
	c, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(0); n < info.State.Msgs; {
		batch, err := c.Fetch(int(min(info.State.Msgs-n, 1000)))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			n++
			if m.Headers().Get("Content-Type") != "application/senml+json" || !strings.HasPrefix(m.Subject(), "streembit.12D3KooW") {
				t.Fatalf("%s: %v", m.Subject(), m.Headers())
			}
			out = append(out, sinktest.ReadSenML(t, m.Headers().Get("Streembit-Chain"), m.Data())...)
		}
		if batch.Error() != nil {
			t.Fatal(batch.Error())
		}
	}
	return out
}

// TestErrors: each says what to do, and none shows the password.
func TestErrors(t *testing.T) {
	s := sinktest.NATS(t, users)
	for want, change := range map[string]func(*nats.Config){
		"check user and password":       func(c *nats.Config) { c.Password = "wrong-one" },
		"lacks a right":                 func(c *nats.Config) { c.Stream = "OTHER" },
		"check that the server runs":    func(c *nats.Config) { c.URL = "nats://127.0.0.1:1" },
		"does not take the subjects":    func(c *nats.Config) { c.Prefix = "elsewhere" },
		"user or a password":            func(c *nats.Config) { c.URL = "nats://me:wrong-one@" + s.Addr },
		"want one like nats://nats.exa": func(c *nats.Config) { c.URL = s.Addr },
	} {
		cfg := config(s.Addr)
		good, err := open(t.Context(), s.Addr, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := good.(*delivery.Sink).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = good.Close()
		change(&cfg)
		sink, err := nats.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
		if err == nil {
			err = sink.Ping(t.Context())
			_ = sink.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "-one") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestOtherStream: where the subjects go into another stream, Ping names it.
func TestOtherStream(t *testing.T) {
	s := sinktest.NATS(t, users)
	js := admin(t, s.Addr)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"theirs.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "STREEMBIT", Subjects: []string{"streembit.>"}}); err != nil {
		t.Fatal(err)
	}
	cfg := config(s.Addr)
	cfg.Prefix = "theirs"
	sink, err := nats.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sink.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "go to stream THEIRS") {
		t.Error(err)
	}
}

// admin connects as somebody who may do everything; the test closes it.
func admin(t testing.TB, addr string) jetstream.JetStream {
	t.Helper()
	conn, err := client.Connect("nats://"+addr, client.UserInfo("admin", password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestStreamRemoved: a stream that somebody removes is made again, and what was not acknowledged goes there.
func TestStreamRemoved(t *testing.T) {
	s := sinktest.NATS(t, users)
	sink, err := open(t.Context(), s.Addr, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 5), Received: time.Now()}
	if err := sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := admin(t, s.Addr).DeleteStream(t.Context(), "STREEMBIT"); err != nil {
		t.Fatal(err)
	}
	b.From, b.To, b.Readings = 1, 1, sinktest.Rows(1, 1, 7)
	if err := sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, s.Addr); len(got) != 7 {
		t.Errorf("%d readings, want 7", len(got))
	}
}

func BenchmarkWrite(b *testing.B) {
	s := sinktest.NATS(b, "")
	sink, err := nats.Open(b.Context(), nats.Config{URL: "nats://" + s.Addr}, filepath.Join(b.TempDir(), "c.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	sinktest.Bench(b, sink)
}
