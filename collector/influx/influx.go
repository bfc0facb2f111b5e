// SPDX-License-Identifier: Apache-2.0

// Package influx is the collector's sink for InfluxDB 1, 2 and 3, VictoriaMetrics, QuestDB and whatever else takes line protocol over HTTP. A
// reading that is written twice replaces itself. Readings without a time wait in the checkpoint file until the device proves its clock.
package influx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/streembit/edge/collector/delivery"
)

// Config says where the server is. URL is required, and either Database, for InfluxDB 1, or Bucket, for 2 and 3.
type Config struct {
	URL       string // http://host:8086
	Database  string // InfluxDB 1
	Retention string // its retention policy; "" = the database's default
	User      string // InfluxDB 1, "" = none
	Password  string // of User, or the token of InfluxDB 2 and 3
	Org       string // InfluxDB 2
	Bucket    string // InfluxDB 2 and 3
	Client    *http.Client
	// Retry is delivery.Options.Retry.
	Retry time.Duration
}

type server struct {
	cfg   Config
	write string
}

// Open returns a sink; it connects when it writes. checkpoints is the file that remembers what the server has acknowledged.
func Open(ctx context.Context, cfg Config, checkpoints string) (*delivery.Sink, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("influx: the address: want one like http://influx.example:8086")
	}
	switch {
	case u.User != nil:
		return nil, errors.New("influx: the address holds a user or a password: give them beside it")
	case (cfg.Database == "") == (cfg.Bucket == ""):
		return nil, errors.New("influx: name a database (InfluxDB 1) or a bucket (InfluxDB 2 and 3)")
	}
	q := url.Values{"precision": {"ns"}}
	if cfg.Database != "" {
		u = u.JoinPath("write")
		q.Set("db", cfg.Database)
		if cfg.Retention != "" {
			q.Set("rp", cfg.Retention)
		}
	} else {
		u = u.JoinPath("api", "v2", "write")
		q.Set("bucket", cfg.Bucket)
		q.Set("org", cfg.Org)
	}
	u.RawQuery = q.Encode()
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 30 * time.Second}
	}
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		return nil, fmt.Errorf("influx: %w", err)
	}
	sink, err := delivery.New(ctx, store, &server{cfg: cfg, write: u.String()}, delivery.Options{Rows: 5000, Hold: true, Idempotence: true, Retry: cfg.Retry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("influx: %w", err), store.Close())
	}
	return sink, nil
}

// post writes lines.
func (s *server) post(ctx context.Context, lines []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.write, bytes.NewReader(lines))
	if err != nil {
		return fmt.Errorf("influx: %w", err)
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case s.cfg.User != "":
		req.SetBasicAuth(s.cfg.User, s.cfg.Password)
	case s.cfg.Password != "":
		req.Header.Set("Authorization", "Token "+s.cfg.Password)
	}
	err = delivery.Post(s.cfg.Client, req)
	var status *delivery.StatusError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return fmt.Errorf("influx: no answer: check that the server runs and that the address is right: %w", err)
	}
	switch status.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("influx: the server refuses user %q: check user and password or the token, and that it may write: %w", s.cfg.User, err)
	case http.StatusNotFound:
		return fmt.Errorf("influx: database %q, bucket %q is not there: create it: %w", s.cfg.Database, s.cfg.Bucket, err)
	}
	return fmt.Errorf("influx: %w", err)
}

// Ping writes a comment, which changes nothing and takes every right that readings take.
func (s *server) Ping(ctx context.Context) error { return s.post(ctx, []byte("# ping\n")) }

// Send writes readings.
func (s *server) Send(ctx context.Context, p delivery.Parcel) error {
	var l Lines
	l.Reset()
	for i := range p.Rows {
		if err := l.Add(&p.Chain, p.Name, &p.Rows[i]); err != nil {
			return fmt.Errorf("influx: %w: %w", delivery.ErrRefused, err)
		}
	}
	return s.post(ctx, l.Bytes())
}

func (s *server) Close() error {
	s.cfg.Client.CloseIdleConnections()
	return nil
}
