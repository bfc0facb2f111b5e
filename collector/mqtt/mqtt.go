// SPDX-License-Identifier: Apache-2.0

// Package mqtt is the collector's sink for MQTT 5 brokers. Each segment is a message of SenML JSON (RFC 8428), QoS 1, under
// PREFIX/senml/DEVICE/STREAM, whose user properties chain and id say for ever which readings it holds; the newest value of each
// series is retained under PREFIX/state/DEVICE/SENSOR/QUANTITY; PREFIX/availability/DEVICE and PREFIX/collector/CLIENT say
// "online" or "offline". Home Assistant finds the devices by its MQTT discovery.
package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/delivery"
)

// Config says where the broker is. URL and ClientID are required.
type Config struct {
	URL       string      // mqtt://host:1883, mqtts://host:8883, ws:// or wss://
	ClientID  string      // of the connection, and the last part of the collector's status topic
	User      string      // "" = none
	Password  string      // of User
	TLS       *tls.Config // for mqtts and wss; nil = the machine's CAs
	Prefix    string      // of all topics but those of discovery; "" = "streembit"
	Discovery string      // Home Assistant's prefix; "" = "homeassistant", "off" = no discovery
	Offline   time.Duration
	// Retry is delivery.Options.Retry.
	Retry time.Duration
}

// defaultOffline is after how long without readings a device counts as off line.
const defaultOffline = time.Hour

// server is the broker, as package delivery sees it.
type server struct {
	cfg   Config
	store *delivery.Store
	conn  *autopaho.ConnectionManager
	stop  context.CancelFunc
	wg    sync.WaitGroup
	up    chan struct{} // rung after each connect

	mu      sync.Mutex
	last    error           // of the last attempt to connect
	untold  error           // why somebody does not see a state
	max     int             // bytes of a packet that the broker takes, 0 = no limit known
	link    context.Context // ends with the present connection; nil before the first
	cut     context.CancelFunc
	devices map[edge.ID]*device
}

// Open returns a sink that connects to the broker by itself, again and again, whether it is there now or not. checkpoints is the file
// that remembers what the broker has acknowledged.
func Open(ctx context.Context, cfg Config, checkpoints string) (*delivery.Sink, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("mqtt: address %q: want one like mqtts://broker.example:8883", cfg.URL)
	}
	if u.User != nil {
		return nil, errors.New("mqtt: the address holds a user or a password: give them beside it")
	}
	cfg.complete()
	if strings.ContainsAny(cfg.Prefix+cfg.Discovery+cfg.ClientID, "+#\x00") {
		return nil, fmt.Errorf("mqtt: prefix %q, discovery %q, client %q: a topic cannot hold +, # or NUL", cfg.Prefix, cfg.Discovery, cfg.ClientID)
	}
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	s := &server{cfg: cfg, store: store, up: make(chan struct{}, 1), devices: map[edge.ID]*device{}, last: errors.New("not connected yet")}
	s.remember()
	var run context.Context
	run, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.conn, err = autopaho.NewConnection(run, s.client(u)); err != nil {
		s.stop()
		return nil, errors.Join(fmt.Errorf("mqtt: %w", err), store.Close())
	}
	s.wg.Go(func() { s.keep(run) })
	sink, err := delivery.New(ctx, store, s, delivery.Options{PerSegment: true, Rows: 2000, Retry: cfg.Retry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mqtt: %w", err), s.Close(), store.Close())
	}
	return sink, nil
}

func (c *Config) complete() {
	if c.Prefix == "" {
		c.Prefix = "streembit"
	}
	switch c.Discovery {
	case "":
		c.Discovery = "homeassistant"
	case "off":
		c.Discovery = ""
	}
	if c.Offline == 0 {
		c.Offline = defaultOffline
	}
}

// client is the connection's configuration. The session ends with the connection: what was not acknowledged is sent again by us, in
// its order.
func (s *server) client(u *url.URL) autopaho.ClientConfig {
	c := autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, TlsCfg: s.cfg.TLS, KeepAlive: 20, CleanStartOnInitialConnection: true,
		ReconnectBackoff: autopaho.NewExponentialBackoff(100*time.Millisecond, 5*time.Second, time.Second, 2),
		ConnectTimeout:   10 * time.Second, ConnectUsername: s.cfg.User, ConnectPassword: []byte(s.cfg.Password),
		WillMessage:      &paho.WillMessage{Topic: s.statusTopic(), Payload: []byte(offline), QoS: 1, Retain: true},
		OnConnectionUp:   s.connected,
		OnConnectionDown: s.disconnected,
		OnConnectError:   s.failed,
		ClientConfig:     paho.ClientConfig{ClientID: s.cfg.ClientID, PacketTimeout: 10 * time.Second},
	}
	return c
}

func (s *server) connected(_ *autopaho.ConnectionManager, ack *paho.Connack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.max = nil, 0
	s.link, s.cut = context.WithCancel(context.Background())
	if ack.Properties != nil && ack.Properties.MaximumPacketSize != nil {
		s.max = int(*ack.Properties.MaximumPacketSize)
	}
	select {
	case s.up <- struct{}{}:
	default:
	}
}

// disconnected ends what waits for an acknowledgement: with the connection goes the session, and none will come.
func (s *server) disconnected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = errors.New("the connection was lost")
	s.cut()
	return true
}

func (s *server) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = err
}

// Reason codes of MQTT 5 (§2.4) that a broker answers with.
const (
	implementation  = 0x83
	notAuthorized   = 0x87
	badUser         = 0x86
	topicInvalid    = 0x90
	packetTooLarge  = 0x95
	payloadInvalid  = 0x99
	propertiesSpace = 1 << 10 // more than the topic and the properties of a message take
)

// away says why there is no connection, and what to do about it.
func (s *server) away() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var denied *autopaho.ConnackError
	last := s.last
	if last == nil {
		last = errors.New("it was lost just now")
	}
	if errors.As(last, &denied) && (denied.ReasonCode == badUser || denied.ReasonCode == notAuthorized) {
		return fmt.Errorf("the broker refuses user %q: check user and password here and in the broker's password file: %w", s.cfg.User, last)
	}
	return fmt.Errorf("no connection to the broker %s: check that it runs, that the address is right, and that its access list lets user %q write %s: %w",
		s.cfg.URL, s.cfg.User, s.statusTopic(), last)
}

// Ping waits for a connection, and says why there is none.
func (s *server) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := s.conn.AwaitConnection(ctx); err != nil {
		return fmt.Errorf("mqtt: %w", s.away())
	}
	err := s.publish(ctx, s.statusTopic(), true, []byte(online), nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err = errors.Join(err, s.untold); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	return nil
}

// publish sends a message and waits for the acknowledgement.
func (s *server) publish(ctx context.Context, topic string, retain bool, payload []byte, props *paho.PublishProperties) error {
	s.mu.Lock()
	limit, link := s.max, s.link
	s.mu.Unlock()
	if link == nil {
		return s.away()
	}
	if limit > 0 && len(payload)+len(topic)+propertiesSpace > limit {
		return fmt.Errorf("%w: %d bytes, the broker takes packets of %d", delivery.ErrRefused, len(payload), limit)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(link, cancel)()
	resp, err := s.conn.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Retain: retain, Payload: payload, Properties: props})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, autopaho.ConnectionDownError), link.Err() != nil:
		return s.away()
	case resp == nil:
		return fmt.Errorf("publishing %s: %w", topic, err)
	}
	switch resp.ReasonCode {
	case notAuthorized:
		return fmt.Errorf("the broker does not let user %q write %s: allow it in the broker's access list: %w", s.cfg.User, topic, err)
	case implementation, topicInvalid, packetTooLarge, payloadInvalid:
		return fmt.Errorf("%w: %s: reason 0x%x: %w", delivery.ErrRefused, topic, resp.ReasonCode, err)
	}
	return fmt.Errorf("publishing %s: reason 0x%x: %w", topic, resp.ReasonCode, err)
}

// Send publishes the readings of a segment, then what has changed of the device's states.
func (s *server) Send(ctx context.Context, p delivery.Parcel) error {
	pack, err := p.SenML()
	if err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	props := &paho.PublishProperties{ContentType: delivery.ContentType, PayloadFormat: paho.Byte(1), User: paho.UserProperties{
		{Key: "chain", Value: p.Chain.String()}, {Key: "id", Value: p.ID()}, {Key: "name", Value: p.Name}}}
	if err := s.publish(ctx, s.cfg.Prefix+"/senml/"+p.Chain.Device.String()+"/"+p.Chain.Stream, false, pack, props); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	if err := s.states(ctx, &p); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	return nil
}

// Close tells subscribers that the collector is off line and disconnects.
func (s *server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = s.publish(ctx, s.statusTopic(), true, []byte(offline), nil) // without a connection the broker's will says it
	err := s.conn.Disconnect(ctx)
	s.stop()
	s.wg.Wait()
	<-s.conn.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		s.cut()
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("mqtt: %w", err)
	}
	return nil
}
