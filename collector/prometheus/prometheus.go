// SPDX-License-Identifier: Apache-2.0

// Package prometheus is the collector's sink for servers that scrape: /metrics shows the newest reading of each series, its time and its
// age, what is missing of each device, and nothing of the past, so it is no place where readings are kept.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/delivery"
)

// Config says where to be scraped. Listen is required.
type Config struct {
	Listen string // host:port
	Series int    // most series that are shown; 0 = 10 000
}

// maxSeries bounds what one scrape costs: some 5 MB of text.
const maxSeries = 10_000

// server is an exporter, as package delivery sees a server. It is a client.Collector.
type server struct {
	store *delivery.Store
	max   int
	http  *http.Server
	addr  string
	wg    sync.WaitGroup

	readings, hidden, missing, forks *client.Desc
	mu                               sync.Mutex
	taken                            uint64
	failed                           error // of the HTTP server
}

// Sink is a delivery.Sink that also says where it is.
type Sink struct {
	*delivery.Sink
	Addr string // host:port
}

// Open starts to serve /metrics. checkpoints is the file that remembers what was shown, so that a restart goes on and shows the newest
// values at once.
func Open(ctx context.Context, cfg Config, checkpoints string) (*Sink, error) {
	if cfg.Series == 0 {
		cfg.Series = maxSeries
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("prometheus: listening on %q: %w: choose another address, or end what uses it", cfg.Listen, err)
	}
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prometheus: %w", err), l.Close())
	}
	s := &server{store: store, max: cfg.Series, addr: l.Addr().String(),
		readings: client.NewDesc("streembit_readings_total", "Readings received since this program started.", nil, nil),
		hidden:   client.NewDesc("streembit_series_hidden", "Series that are not shown because there are too many.", nil, nil),
		missing:  client.NewDesc("streembit_segments_missing", "Segments of readings that exist and that no hub could give, now.", []string{"device", "device_name"}, nil),
		forks:    client.NewDesc("streembit_forks_total", "Proofs that a device's key is in two places.", []string{"device", "device_name"}, nil),
	}
	reg := client.NewRegistry()
	mux := http.NewServeMux()
	if err := reg.Register(s); err != nil {
		return nil, errors.Join(fmt.Errorf("prometheus: %w", err), l.Close(), store.Close())
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 30 * time.Second}))
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.mu.Lock()
			s.failed = err
			s.mu.Unlock()
		}
	})
	sink, err := delivery.New(ctx, store, s, delivery.Options{Rows: 10_000})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prometheus: %w", err), s.Close(), store.Close())
	}
	return &Sink{Sink: sink, Addr: s.addr}, nil
}

// Send remembers the newest readings.
func (s *server) Send(ctx context.Context, p delivery.Parcel) error {
	s.mu.Lock()
	s.taken += uint64(len(p.Rows))
	s.mu.Unlock()
	return s.store.Keep(ctx, s.store.Newer(&p))
}

// Ping reports whether /metrics is served.
func (s *server) Ping(ctx context.Context) error {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return fmt.Errorf("prometheus: serving /metrics: %w", failed)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/metrics", nil)
	if err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // the default one might ask a proxy of the machine for [::]
	resp, err := direct.Do(req)
	if err != nil {
		return fmt.Errorf("prometheus: scraping ourselves: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("prometheus: scraping ourselves: %s", resp.Status)
	}
	return nil
}

// Close stops serving.
func (s *server) Close() error {
	err := s.http.Close()
	s.wg.Wait()
	return err
}

// Describe describes nothing: which metrics there are depends on what the devices measure.
func (s *server) Describe(chan<- *client.Desc) {}

// Collect shows what is known now.
func (s *server) Collect(out chan<- client.Metric) {
	s.mu.Lock()
	taken := s.taken
	s.mu.Unlock()
	shown, hidden := 0, 0
	now := time.Now()
	s.store.Latest(func(k delivery.Series, v delivery.Value) {
		if v.Kind == edge.Text {
			return // a text is no number, and as a label it would be a new series each time
		}
		if shown++; shown > s.max {
			hidden++
			return
		}
		m := metricOf(k.Quantity, v)
		labels := []string{k.Device.String(), v.Device, k.Sensor, k.Quantity}
		out <- client.MustNewConstMetric(client.NewDesc(m.name, m.help, labelNames(), nil), m.kind, v.Value*m.factor, labels...)
		at := time.UnixMilli(v.Received)
		if v.Wall != 0 {
			at = time.UnixMilli(v.Wall)
			out <- client.MustNewConstMetric(client.NewDesc("streembit_reading_timestamp_seconds", "When the newest reading was taken, by the device's clock.", labelNames(), nil),
				client.GaugeValue, float64(v.Wall)/1000, labels...)
		}
		out <- client.MustNewConstMetric(client.NewDesc("streembit_reading_age_seconds",
			"How long ago the newest reading was taken, or where the device did not know the time, received.", labelNames(), nil), client.GaugeValue, now.Sub(at).Seconds(), labels...)
	})
	out <- client.MustNewConstMetric(s.readings, client.CounterValue, float64(taken))
	out <- client.MustNewConstMetric(s.hidden, client.GaugeValue, float64(hidden))
	trouble, err := s.store.Trouble(context.Background())
	if err != nil {
		out <- client.NewInvalidMetric(s.missing, err)
		return
	}
	for id, t := range trouble {
		out <- client.MustNewConstMetric(s.missing, client.GaugeValue, float64(t.Missing), id, t.Name)
		out <- client.MustNewConstMetric(s.forks, client.CounterValue, float64(t.Forks), id, t.Name)
	}
}

func labelNames() []string { return []string{"device", "device_name", "sensor", "name"} }
