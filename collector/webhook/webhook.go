// SPDX-License-Identifier: Apache-2.0

// Package webhook is the collector's sink for HTTP endpoints of people's own: a batch of readings is a POST with a JSON body, signed
// as Standard Webhooks (https://www.standardwebhooks.com) has it, so that there are ready libraries to check it. An answer of 200 to 299
// acknowledges it; 400, 413, 415 and 422 refuse what it holds; all others are tried again, with the same webhook-id.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/stdout"
	"github.com/streembit/edge/journal"
)

// Config says where the endpoint is. URL and Secret are required.
type Config struct {
	URL    string
	Secret string // whsec_ and 24 to 64 bytes in base64, as Standard Webhooks has it
	Rows   int    // most readings of a request; 0 = 500
	Client *http.Client
	// Retry is delivery.Options.Retry.
	Retry time.Duration
}

type server struct {
	cfg Config
	key []byte
}

// Open returns a sink; it connects when it writes. checkpoints is the file that remembers what the endpoint has acknowledged.
func Open(ctx context.Context, cfg Config, checkpoints string) (*delivery.Sink, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("webhook: the address: want one like https://example.com/readings")
	}
	if u.User != nil {
		return nil, errors.New("webhook: the address holds a user or a password: requests are signed instead")
	}
	key, err := Key(cfg.Secret)
	if err != nil {
		return nil, err
	}
	if cfg.Rows == 0 {
		cfg.Rows = 500
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 30 * time.Second}
	}
	c := *cfg.Client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a POST that is redirected is a GET
	cfg.Client = &c
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	sink, err := delivery.New(ctx, store, &server{cfg: cfg, key: key}, delivery.Options{Rows: cfg.Rows, Retry: cfg.Retry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("webhook: %w", err), store.Close())
	}
	return sink, nil
}

// Key reads a secret. The error does not show it.
func Key(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(secret), "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("webhook: the secret: want 24 to 64 bytes in base64, with whsec_ before it or not: for example by echo whsec_$(head -c 32 /dev/urandom | base64)")
	}
	return key, nil
}

// Sign returns the header webhook-signature of a request with these headers webhook-id and webhook-timestamp and this body.
func Sign(key []byte, id string, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// message is the body.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      data   `json:"data"`
}

type data struct {
	Device   string    `json:"device,omitempty"`
	Name     string    `json:"device_name,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Chain    string    `json:"chain,omitempty"`
	Readings []reading `json:"readings"`
}

// reading is a reading as streembit pull shows it, with its id. Where the device did not know the time, boot and mono_ms say when it was.
type reading struct {
	stdout.Reading
	ID   string          `json:"id"`
	Boot *journal.BootID `json:"boot,omitempty"`
	Mono *int64          `json:"mono_ms,omitempty"`
}

// Send posts readings.
func (s *server) Send(ctx context.Context, p delivery.Parcel) error {
	m := message{Type: "readings", Timestamp: p.Received.UTC().Format(stdout.TimeForm), Data: data{Device: p.Chain.Device.String(), Name: p.Name,
		Stream: p.Chain.Stream, Chain: p.Chain.String(), Readings: make([]reading, len(p.Rows))}}
	for i := range p.Rows {
		r := &p.Rows[i]
		one := reading{Reading: stdout.NewReading(p.Chain.Device, p.Name, &r.Reading), ID: p.RowID(r)}
		one.Device, one.Name = "", ""
		if !r.At.Synced() {
			one.Boot, one.Mono = &r.Boot, &r.At.Mono
		}
		m.Data.Readings[i] = one
	}
	return s.post(ctx, p.ID(), m)
}

// Ping posts a message of type ping without readings, which the endpoint has to answer like any other.
func (s *server) Ping(ctx context.Context) error {
	now := time.Now().UTC()
	return s.post(ctx, "ping/"+strconv.FormatInt(now.UnixNano(), 10), message{Type: "ping", Timestamp: now.Format(stdout.TimeForm), Data: data{Readings: []reading{}}})
}

func (s *server) post(ctx context.Context, id string, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	now := time.Now().Unix()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "streembit")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now, 10))
	req.Header.Set("Webhook-Signature", Sign(s.key, id, now, body))
	err = delivery.Post(s.cfg.Client, req)
	var status *delivery.StatusError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return fmt.Errorf("webhook: no answer: check that the endpoint runs and that the address is right: %w", err)
	case status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden:
		return fmt.Errorf("webhook: the endpoint does not take our signature: check that it has the same secret and the right time: %w", err)
	case status.Status >= 300 && status.Status < 400 || status.Status == http.StatusNotFound || status.Status == http.StatusMethodNotAllowed:
		return fmt.Errorf("webhook: nothing takes readings at this address: check its path: %w", err)
	}
	return fmt.Errorf("webhook: %w", err)
}

func (s *server) Close() error {
	s.cfg.Client.CloseIdleConnections()
	return nil
}
