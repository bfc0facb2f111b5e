// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/prometheus"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

func open(t testing.TB, path string, series int) *prometheus.Sink {
	t.Helper()
	s, err := prometheus.Open(t.Context(), prometheus.Config{Listen: "127.0.0.1:0", Series: series}, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

func scrape(t testing.TB, addr string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %v\n%s", resp.Status, err, b)
	}
	return string(b)
}

func q(name, unit string, kind edge.Kind) edge.Quantity {
	return edge.Quantity{Name: name, Unit: unit, Kind: kind}
}

// house is a batch with every kind of quantity.
func house(now time.Time) collector.Batch {
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: `ro"of`, Received: now}
	for i, r := range []struct {
		edge.Quantity
		v float64
	}{{q("temperature", "Cel", 0), 21.5}, {q("humidity", "%RH", 0), 45}, {q("pressure", "Pa", 0), 101325}, {q("voltage", "V", 0), 12}, {q("voltage.1", "V", 0), 5},
		{q("energy", "J", edge.Counter), 7200}, {q("energy.tariff-2", "J", edge.Counter), 1}, {q("co2", "/", 0), 0.0004}, {q("particles", "kg/m3", 0), 2e-8}, {q("illuminance", "lx", 0), 300},
		{q("contact", "", edge.State), 1}, {q("ph", "pH", 0), 7}, {q("count", "count", edge.Counter), 9}, {q("log", "", edge.Text), 0}, {q("memory-free", "B", 0), 1e9}} {
		b.Readings = append(b.Readings, collector.Row{Index: i, Reading: edge.Reading{Sensor: "s-0", At: edge.Instant{Wall: now.UnixMilli()}, Sample: edge.Sample{Quantity: r.Quantity, Value: r.v}}})
	}
	return b
}

func write(t testing.TB, s collector.Sink, b collector.Batch) {
	t.Helper()
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// TestMetrics: the names are those of the conventions; promtool finds nothing to object to.
func TestMetrics(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "c.db"), 0)
	now := time.Now().Add(-time.Minute)
	b := house(now)
	write(t, s, b)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	text := scrape(t, s.Addr)
	labels := func(name string) string {
		return `{device="` + b.Chain.Device.String() + `",device_name="ro\"of",name="` + name + `",sensor="s-0"} `
	}
	for _, want := range []string{"streembit_temperature_celsius" + labels("temperature") + "21.5", "streembit_humidity_ratio" + labels("humidity") + "0.45",
		"streembit_pressure_pascals" + labels("pressure") + "101325", "streembit_voltage_volts" + labels("voltage") + "12", "streembit_voltage_volts" + labels("voltage.1") + "5",
		"streembit_energy_joules_total" + labels("energy") + "7200", "streembit_co2_ratio" + labels("co2") + "0.0004", "streembit_illuminance_lux" + labels("illuminance") + "300",
		"streembit_particles_grams_per_cubic_meter" + labels("particles") + "2e-05", "streembit_contact" + labels("contact") + "1", "streembit_ph" + labels("ph") + "7",
		"streembit_count_total" + labels("count") + "9", "streembit_memory_free_bytes" + labels("memory-free") + "1e+09", "# TYPE streembit_energy_joules_total counter",
		"streembit_reading_timestamp_seconds" + labels("ph") + fmt.Sprint(float64(now.UnixMilli())/1000), "streembit_readings_total 15", "streembit_series_hidden 0"} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	m := regexp.MustCompile(`streembit_reading_age_seconds\{.*name="ph".*\} ([0-9.]+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no age")
	}
	if age, err := strconv.ParseFloat(m[1], 64); err != nil || age < 60 || age > 600 {
		t.Errorf("age %v, %v", age, err)
	}
	if strings.Contains(text, `name="log"`) {
		t.Error("a text became a metric")
	}
	promtool := exec.Command(sinktest.Program(t, "promtool", "prometheus"), "check", "metrics")
	promtool.Stdin = strings.NewReader(text)
	if out, err := promtool.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestNewest: what comes late does not replace what is newer, also over a restart; what is missing is shown.
func TestNewest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	s := open(t, path, 0)
	one := func(c journal.Chain, seq uint64, v float64, at time.Time) collector.Batch {
		b := collector.Batch{Chain: c, From: seq, To: seq, Mark: &journal.Link{Seq: seq}, Received: time.Now(), Readings: sinktest.Rows(seq, seq, 1)}
		b.Readings[0].Value = v
		b.Readings[0].At.Wall = 0
		if !at.IsZero() {
			b.Readings[0].At.Wall = at.UnixMilli()
		}
		return b
	}
	now := time.Now()
	chain, old := sinktest.Chain(1, 1), sinktest.Chain(1, 2)
	value := func() string {
		m := regexp.MustCompile(`streembit_temperature_celsius\{.*\} (.*)`).FindStringSubmatch(scrape(t, s.Addr))
		if m == nil {
			return ""
		}
		return m[1]
	}
	write(t, s, one(chain, 0, 20, now))
	write(t, s, one(old, 0, 10, now.Add(-time.Hour)))
	if v := value(); v != "20" {
		t.Errorf("%s, want 20", v)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, 0)
	if v := value(); v != "20" {
		t.Errorf("after a restart %q, want 20", v)
	}
	m, err := s.Marks(t.Context())
	if err != nil || m[chain].Link == nil {
		t.Errorf("marks %v, %v", m, err)
	}
	write(t, s, one(old, 1, 11, now.Add(-time.Minute)))
	write(t, s, one(chain, 1, 21, now.Add(-time.Second))) // the device's clock was put back: its chain tells
	write(t, s, one(chain, 2, 22, time.Time{}))
	if v := value(); v != "22" {
		t.Errorf("%s, want 22", v)
	}
	gap := collector.Batch{Chain: chain, From: 3, To: 7, Mark: &journal.Link{Seq: 7}, Received: now, Gaps: []collector.Gap{{First: 3, Last: 6, Reason: "lost", Found: now}}}
	write(t, s, gap)
	if text := scrape(t, s.Addr); !strings.Contains(text, `streembit_segments_missing{device="`+chain.Device.String()+`",device_name=""} 4`) {
		t.Errorf("no missing segments in\n%s", text)
	}
}

// TestBounds: there is an end to the series of a scrape; an address that is taken is an error.
func TestBounds(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "c.db"), 5)
	write(t, s, house(time.Now()))
	text := scrape(t, s.Addr)
	if n := strings.Count(text, "streembit_reading_age_seconds{"); n != 5 || !strings.Contains(text, "streembit_series_hidden 9") {
		t.Errorf("%d series in\n%s", n, text)
	}
	if _, err := prometheus.Open(t.Context(), prometheus.Config{Listen: s.Addr}, filepath.Join(t.TempDir(), "d.db")); err == nil || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("an address that is taken: %v", err)
	}
	bad := house(time.Now())
	bad.Readings[3].Sensor = "a b"
	if err := s.Write(t.Context(), bad); !errors.Is(err, collector.ErrPoison) {
		t.Errorf("poison: %v", err)
	}
}

// TestPingPastProxy: Ping asks the exporter itself, not a proxy of the machine. The environment is read once in a process, hence the child.
func TestPingPastProxy(t *testing.T) {
	const child = "STREEMBIT_PROMETHEUS_CHILD"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPingPastProxy$")
		cmd.Env = append(os.Environ(), child+"=1", "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s, err := prometheus.Open(t.Context(), prometheus.Config{Listen: ":0"}, filepath.Join(t.TempDir(), "c.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func BenchmarkWrite(b *testing.B) { sinktest.Bench(b, open(b, filepath.Join(b.TempDir(), "c.db"), 0)) }
