// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// ackLimit is how long a peer may take for one acknowledgement.
const ackLimit = time.Minute

// publisher is paho, QoS 1 over TLS 1.3.
type publisher struct {
	client mqtt.Client
	all    [][]byte
	next   int
}

func openMQTT(s Spec) (client, error) {
	conf, err := clientTLS(s.CA)
	if err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().AddBroker("ssl://" + s.Addr).SetClientID("device0").SetTLSConfig(conf).SetAutoReconnect(false)
	p := &publisher{client: mqtt.NewClient(o), all: messages()}
	return p, done(p.client.Connect())
}

// clientTLS trusts one server's certificate.
func clientTLS(ca string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load: no certificate in %s", ca)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

func done(t mqtt.Token) error {
	if !t.WaitTimeout(ackLimit) {
		return errors.New("load: the broker does not answer")
	}
	return t.Error()
}

// do keeps t.Window messages in flight, each reading a message.
func (p *publisher) do(_ context.Context, t Task, m *meter) error {
	flight := make([]mqtt.Token, t.Window)
	m.start()
	for i := range t.Readings {
		if old := flight[i%t.Window]; old != nil {
			if err := done(old); err != nil {
				return err
			}
		}
		flight[i%t.Window] = p.client.Publish("r/device0", 1, false, p.all[p.next%pool])
		p.next++
	}
	for _, last := range flight {
		if last != nil {
			if err := done(last); err != nil {
				return err
			}
		}
	}
	m.stop(t.Readings)
	return nil
}

func (p *publisher) close() error {
	p.client.Disconnect(100)
	return nil
}
