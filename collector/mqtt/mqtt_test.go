// SPDX-License-Identifier: Apache-2.0

package mqtt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/mqtt"
	"github.com/streembit/edge/collector/sinktest"
)

const user, password = "collector", "s3cret"

func config(addr string) mqtt.Config {
	return mqtt.Config{URL: "mqtt://" + addr, ClientID: "collector-1", User: user, Password: password, Retry: 2 * time.Second}
}

func open(ctx context.Context, addr, dir string) (collector.Sink, error) {
	return mqtt.Open(ctx, config(addr), filepath.Join(dir, "checkpoints.db"))
}

func TestChild(t *testing.T) { sinktest.Child(t, open) }

// broker starts mosquitto with a user who may write only what the sink writes.
func broker(t testing.TB, limit int) *sinktest.Daemon {
	t.Helper()
	dir := t.TempDir()
	users, acl := filepath.Join(dir, "users"), filepath.Join(dir, "acl")
	mkpasswd := sinktest.Program(t, "mosquitto_passwd", "mosquitto")
	if out, err := exec.Command(mkpasswd, "-b", "-c", users, user, password).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	rules := "user " + user + "\ntopic readwrite streembit/#\ntopic readwrite homeassistant/#\n"
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return sinktest.Mosquitto(t, "allow_anonymous false\npassword_file "+users+"\nacl_file "+acl+"\nmessage_size_limit "+fmt.Sprint(limit)+"\n")
}

// gate is a door in front of a server: shut, nobody gets in, and who is in is thrown out.
type gate struct {
	addr  string
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { g.pass(in, to) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); g.set(true); wg.Wait() })
	return g
}

func (g *gate) pass(in net.Conn, to string) {
	defer in.Close()
	g.mu.Lock()
	out, err := net.Dial("tcp", to)
	if g.shut && err == nil {
		_ = out.Close()
	}
	if err != nil || g.shut {
		g.mu.Unlock()
		return
	}
	g.conns[in], g.conns[out] = true, true
	g.mu.Unlock()
	defer out.Close()
	done := make(chan struct{})
	go func() { _, _ = io.Copy(out, in); _ = out.Close(); close(done) }() // either end may cut
	_, _ = io.Copy(in, out)
	_ = in.Close()
	<-done
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, in)
	delete(g.conns, out)
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; shut {
		for c := range g.conns {
			_ = c.Close()
		}
	}
}

// listener is a subscriber who never misses a message, but for what a broker loses.
type listener struct {
	conn *autopaho.ConnectionManager
	mu   sync.Mutex
	got  []*paho.Publish
	subs chan struct{} // one each time it is subscribed
}

func listen(t testing.TB, addr, filter string) *listener {
	t.Helper()
	l := &listener{subs: make(chan struct{}, 1000)}
	u := must(url.Parse("mqtt://" + addr))
	var err error
	l.conn, err = autopaho.NewConnection(t.Context(), autopaho.ClientConfig{ServerUrls: []*url.URL{u}, KeepAlive: 20, SessionExpiryInterval: 3600,
		ConnectUsername: user, ConnectPassword: []byte(password), ReconnectBackoff: autopaho.NewConstantBackoff(20 * time.Millisecond),
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			go func() { // the connection's own goroutine must not wait
				if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}}); err == nil {
					l.subs <- struct{}{}
				}
			}()
		},
		ClientConfig: paho.ClientConfig{ClientID: "listener", OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.got = append(l.got, p.Packet)
				return true, nil
			}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-l.conn.Done() })
	<-l.subs
	return l
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// messages returns the payloads by topic, the newest last.
func (l *listener) messages() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string][]string{}
	for _, p := range l.got {
		out[p.Topic] = append(out[p.Topic], string(p.Payload))
	}
	return out
}

// delivered reads the SenML packs.
func (l *listener) delivered(t testing.TB) (out []sinktest.Delivered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.got {
		if p.Properties.ContentType != "application/senml+json" {
			t.Fatalf("%s: content type %q", p.Topic, p.Properties.ContentType)
		}
		out = append(out, sinktest.ReadSenML(t, p.Properties.User.Get("chain"), p.Payload)...)
	}
	return out
}

func fresh(t testing.TB) sinktest.Remote {
	s := broker(t, 6000)
	g := newGate(t, s.Addr)
	l := listen(t, s.Addr, "streembit/senml/#")
	return sinktest.Remote{Server: s, Addr: g.addr, Open: open, Order: true, Got: l.delivered,
		Refuse: func(r *edge.Reading) {
			r.Kind, r.Unit, r.Value, r.Text = edge.Text, "", 0, strings.Repeat("\x01", 4000)
		},
		Down: func(testing.TB) { g.set(true) },
		Back: func(testing.TB) { <-l.subs; g.set(false) }}
}

func TestContract(t *testing.T) { sinktest.RunRemote(t, fresh) }

// TestWrongPassword: a wrong password, a topic that is not allowed and a broker that is not there are told apart.
func TestWrongPassword(t *testing.T) {
	s := broker(t, 1<<20)
	ping := func(change func(*mqtt.Config)) error {
		cfg := config(s.Addr)
		change(&cfg)
		sink, err := mqtt.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer sink.Close()
		return sink.Ping(t.Context())
	}
	for want, change := range map[string]func(*mqtt.Config){
		"refuses user":       func(c *mqtt.Config) { c.Password = "wrong-one" },
		"access list":        func(c *mqtt.Config) { c.Prefix = "elsewhere" },
		"check that it runs": func(c *mqtt.Config) { c.URL = "mqtt://127.0.0.1:1" },
		"no connection":      func(c *mqtt.Config) { c.URL = "mqtts://" + s.Addr },
	} {
		err := ping(change)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.Contains(err.Error(), "wrong-one") || strings.Contains(err.Error(), password) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if err := ping(func(*mqtt.Config) {}); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, cfg := range []mqtt.Config{{URL: "broker"}, {URL: "mqtt://me:secret-x@h"}, {URL: "mqtt://h", Prefix: "a/#"}} {
		if _, err := mqtt.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db")); err == nil || strings.Contains(err.Error(), "secret-x") {
			t.Errorf("%s: %v", cfg.URL, err)
		}
	}
}

// TestStates: the newest value of each series is retained and survives restarts of both; older ones that come late do not replace it;
// devices and collector go on and off line.
func TestStates(t *testing.T) {
	s := broker(t, 1<<20)
	l := listen(t, s.Addr, "streembit/#")
	cfg, path := config(s.Addr), filepath.Join(t.TempDir(), "c.db")
	cfg.Offline = 2 * time.Second
	sink := must(mqtt.Open(t.Context(), cfg, path))
	chain, old := sinktest.Chain(1, 1), sinktest.Chain(1, 2)
	now := time.Now()
	row := func(v float64, at time.Time) []collector.Row {
		r := sinktest.Rows(0, 0, 1)
		r[0].Value, r[0].At.Wall = v, at.UnixMilli()
		return r
	}
	write := func(b collector.Batch) {
		t.Helper()
		sinktest.WaitFor(t, "a write", func() error { return sink.Write(t.Context(), b) })
	}
	write(collector.Batch{Chain: chain, Name: "roof", Readings: row(21.5, now), Received: now})
	write(collector.Batch{Chain: old, Name: "roof", Readings: row(-40, now.Add(-time.Hour)), Received: now})
	dev := chain.Device.String()
	topic, availability, status := "streembit/state/"+dev+"/bme280-0/temperature", "streembit/availability/"+dev, "streembit/collector/collector-1"
	last := func(topic, want string) {
		t.Helper()
		sinktest.WaitFor(t, topic, func() error {
			m := l.messages()[topic]
			if len(m) == 0 || m[len(m)-1] != want {
				return fmt.Errorf("%s: %q, want %s last", topic, m, want)
			}
			return nil
		})
	}
	value := `{"value":21.5,"unit":"Cel","time":"` + now.UTC().Format("2006-01-02T15:04:05.000Z07:00") + `"}`
	last(topic, value)
	last(status, "online")
	last(availability, "offline") // two seconds later
	if m := l.messages()[availability]; m[0] != "online" {
		t.Errorf("%s: %q", availability, m)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	last(status, "offline")
	sink = must(mqtt.Open(t.Context(), cfg, path))
	defer sink.Close()
	last(status, "online")
	write(collector.Batch{Chain: old, From: 1, To: 1, Name: "roof", Readings: row(-50, now.Add(-time.Minute)), Received: now})
	write(collector.Batch{Chain: chain, From: 1, To: 1, Name: "roof", Readings: row(22, time.Now()), Received: time.Now()})
	sinktest.WaitFor(t, "22", func() error {
		if m := l.messages()[topic]; !strings.HasPrefix(m[len(m)-1], `{"value":22,`) {
			return fmt.Errorf("%q", m)
		}
		return nil
	})
	for _, m := range l.messages()[topic] {
		if strings.Contains(m, "-40") || strings.Contains(m, "-50") {
			t.Errorf("an old value was published as the newest: %s", m)
		}
	}
	if late := retained(t, s.Addr, topic); !strings.HasPrefix(late, `{"value":22,`) {
		t.Errorf("retained: %s", late)
	}
}

// retained returns the retained message of a topic, as somebody gets it who subscribes later.
func retained(t testing.TB, addr, topic string) string {
	t.Helper()
	sub := sinktest.Program(t, "mosquitto_sub", "mosquitto-clients")
	host, port, _ := strings.Cut(addr, ":")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, sub, "-h", host, "-p", port, "-u", user, "-P", password, "-t", topic, "-C", "1").Output()
	if err != nil {
		t.Fatalf("mosquitto_sub %s: %v", topic, err)
	}
	return string(out)
}

// TestWill: a collector that is killed is off line.
func TestWill(t *testing.T) {
	s := broker(t, 1<<20)
	g := newGate(t, s.Addr)
	l := listen(t, s.Addr, "streembit/collector/#")
	sink := must(open(t.Context(), g.addr, t.TempDir()))
	defer sink.Close()
	status := func() string {
		m := l.messages()["streembit/collector/collector-1"]
		if len(m) == 0 {
			return ""
		}
		return m[len(m)-1]
	}
	for _, want := range []string{"online", "offline", "online"} {
		sinktest.WaitFor(t, want, func() error {
			if got := status(); got != want {
				return errors.New(got)
			}
			return nil
		})
		g.set(want == "online")
	}
}

// TestDiscovery: the message is what Home Assistant documents, and its ids and topics stay.
func TestDiscovery(t *testing.T) {
	s := broker(t, 1<<20)
	l := listen(t, s.Addr, "homeassistant/#")
	sink := must(open(t.Context(), s.Addr, t.TempDir()))
	defer sink.Close()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "Roof", Received: time.Now()}
	for i, q := range quantities() {
		b.Readings = append(b.Readings, collector.Row{Index: i, Reading: edge.Reading{Sensor: "s", Sample: edge.Sample{Quantity: q}, At: edge.Instant{Wall: 1_700_000_000_000}}})
	}
	sinktest.WaitFor(t, "a write", func() error { return sink.Write(t.Context(), b) })
	topic := "homeassistant/device/" + b.Chain.Device.String() + "/config"
	var message []byte
	sinktest.WaitFor(t, topic, func() error {
		m := l.messages()[topic]
		if len(m) == 0 {
			return errors.New("no message")
		}
		message = []byte(m[len(m)-1])
		return nil
	})
	checkDiscovery(t, message)
	var got struct {
		Components map[string]map[string]any `json:"components"`
	}
	if err := json.Unmarshal(message, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Components) != len(quantities()) {
		t.Errorf("%d components, want %d", len(got.Components), len(quantities()))
	}
	for key, want := range map[string][]any{ // as conventions say: class, unit, state class, template
		"s_temperature": {"temperature", "°C", "measurement", "{{ value_json.value }}"},
		"s_pressure":    {"atmospheric_pressure", "hPa", "measurement", "{{ value_json.value * 0.01 }}"},
		"s_co2":         {"carbon_dioxide", "ppm", "measurement", "{{ value_json.value * 1e+06 }}"},
		"s_energy":      {"energy", "kWh", "total_increasing", "{{ value_json.value * 2.7777777777777776e-07 }}"},
		"s_voltage.1":   {"voltage", "V", "measurement", "{{ value_json.value }}"},
		"s_contact":     {"opening", nil, nil, "{{ 'ON' if value_json.value else 'OFF' }}"},
	} {
		c := got.Components[key]
		if have := []any{c["device_class"], c["unit_of_measurement"], c["state_class"], c["value_template"]}; !slices.Equal(have, want) {
			t.Errorf("%s: %v, want %v", key, have, want)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	s := sinktest.Mosquitto(b, "allow_anonymous true\n")
	sink, err := mqtt.Open(b.Context(), mqtt.Config{URL: "mqtt://" + s.Addr, ClientID: "bench"}, filepath.Join(b.TempDir(), "c.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	sinktest.WaitFor(b, "the broker", func() error { return sink.Ping(b.Context()) })
	sinktest.Bench(b, sink)
}
