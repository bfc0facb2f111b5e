// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
)

// subject is what the NATS responder answers, topic where the MQTT pusher publishes.
const (
	subject = "device0.value"
	topic   = "live/device0"
)

func openNATS(s Spec) (*nats.Conn, error) {
	conf, err := clientTLS(s.CA)
	if err != nil {
		return nil, err
	}
	return nats.Connect("tls://"+s.Addr, nats.Secure(conf))
}

// requester asks over NATS and TLS.
type requester struct{ conn *nats.Conn }

func openRequester(s Spec) (client, error) {
	conn, err := openNATS(s)
	return &requester{conn}, err
}

func (r *requester) do(ctx context.Context, t Task, m *meter) error {
	return roundTrips(ctx, t, m, func(context.Context) error {
		_, err := r.conn.Request(subject, []byte("air/temperature"), ackLimit)
		return err
	})
}

func (r *requester) close() error { r.conn.Close(); return nil }

// responder answers with a value.
type responder struct{ conn *nats.Conn }

func openResponder(s Spec) (client, error) {
	conn, err := openNATS(s)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte("21.5")) }); err != nil {
		return nil, err
	}
	return &responder{conn}, conn.FlushTimeout(ackLimit)
}

func (r *responder) do(context.Context, Task, *meter) error { return nil }
func (r *responder) close() error                           { r.conn.Close(); return nil }

// pusher publishes the time since the spec was made, QoS 1 over TLS.
type pusher struct {
	client mqtt.Client
	since  time.Time
}

func mqttClient(s Spec, id string) (mqtt.Client, error) {
	conf, err := clientTLS(s.CA)
	if err != nil {
		return nil, err
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + s.Addr).SetClientID(id).SetTLSConfig(conf).SetAutoReconnect(false))
	return c, done(c.Connect())
}

func openPusher(s Spec) (client, error) {
	c, err := mqttClient(s, "pusher")
	return &pusher{c, s.Began}, err
}

func (p *pusher) do(ctx context.Context, t Task, m *meter) error {
	var last mqtt.Token
	err := paced(ctx, t, m, func(int) error {
		last = p.client.Publish(topic, 1, false, strconv.FormatInt(time.Since(p.since).Nanoseconds(), 10))
		return nil
	})
	if err == nil {
		err = done(last)
	}
	return err
}

func (p *pusher) close() error { p.client.Disconnect(100); return nil }

// openSubscriber takes what the pusher publishes, QoS 1 over TLS.
func openSubscriber(s Spec) (client, error) {
	c, err := mqttClient(s, "subscriber")
	if err != nil {
		return nil, err
	}
	a := newArrivals(s)
	a.end = func() error { c.Disconnect(100); return nil }
	return a, done(c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) {
		if ns, err := strconv.ParseFloat(string(m.Payload()), 64); err == nil {
			a.came(ns)
		}
	}))
}
