// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fetchSize is how many messages one request of the pull asks for.
const fetchSize = 5000

// streaming is nats.go with JetStream over TLS.
type streaming struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	all    [][]byte
	next   int
}

func openJetStream(ctx context.Context, s Spec) (client, error) {
	conf, err := clientTLS(s.CA)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect("tls://"+s.Addr, nats.Secure(conf), nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	c := &streaming{conn: conn, js: js, all: messages()}
	deadline := time.Now().Add(ackLimit) // a cluster elects its leader first
	for {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		c.stream, err = js.CreateOrUpdateStream(limited, jetstream.StreamConfig{Name: "R", Subjects: []string{"r.>"},
			Storage: jetstream.FileStorage, Replicas: s.Replicas})
		cancel()
		if err == nil || time.Now().After(deadline) {
			return c, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *streaming) do(ctx context.Context, t Task, m *meter) error {
	switch t.Do {
	case "pull":
		return c.pull(ctx, t, m)
	case "publish":
		if err := c.stream.Purge(ctx); err != nil { // what is there already is not the measurement's
			return err
		}
	}
	return c.publish(t, m)
}

// publish keeps t.Window messages in flight, each reading a message.
func (c *streaming) publish(t Task, m *meter) error {
	flight := make([]jetstream.PubAckFuture, t.Window)
	m.start()
	for i := range t.Readings {
		if old := flight[i%t.Window]; old != nil {
			if err := acked(old); err != nil {
				return err
			}
		}
		next, err := c.js.PublishAsync("r.device0", c.all[c.next%pool])
		if err != nil {
			return err
		}
		flight[i%t.Window] = next
		c.next++
	}
	for _, last := range flight {
		if last != nil {
			if err := acked(last); err != nil {
				return err
			}
		}
	}
	m.stop(t.Readings)
	return nil
}

func acked(f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-time.After(ackLimit):
		return errors.New("load: the server does not acknowledge")
	}
}

// pull fetches all that the stream has and acknowledges each batch by its last message, the cheapest way there is.
func (c *streaming) pull(ctx context.Context, t Task, m *meter) error {
	cons, err := c.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckAllPolicy, MaxAckPending: -1})
	if err != nil {
		return err
	}
	defer func() { _ = c.stream.DeleteConsumer(ctx, cons.CachedInfo().Name) }()
	got := 0
	m.start()
	for got < t.Readings {
		batch, err := cons.Fetch(fetchSize, jetstream.FetchMaxWait(ackLimit/2))
		if err != nil {
			return err
		}
		var last jetstream.Msg
		for msg := range batch.Messages() {
			got, last = got+1, msg
			if got == t.Readings {
				break
			}
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if last == nil {
			return fmt.Errorf("load: fetched %d readings of %d", got, t.Readings)
		}
		if err := last.Ack(); err != nil {
			return err
		}
	}
	m.stop(got)
	return nil
}

func (c *streaming) close() error {
	c.conn.Close()
	return nil
}
