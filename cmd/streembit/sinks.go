// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/influx"
	"github.com/streembit/edge/collector/mqtt"
	"github.com/streembit/edge/collector/mssql"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/nats"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/prometheus"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/collector/stdout"
	"github.com/streembit/edge/collector/webhook"
)

// The sinks of streembit collect about which more is known than their keys.
const (
	sinkSQLite     = "sqlite"
	sinkPostgres   = "postgres"
	sinkPrometheus = "prometheus"
	sinkStdout     = "stdout"
)

// sinkConfig is a sink of streembit collect. Which keys a kind takes is in sinkKinds.
type sinkConfig struct {
	Kind        string `toml:"kind"`
	Path        string `toml:"path"`        // of the SQLite file
	DSN         string `toml:"dsn"`         // of a database
	Schema      string `toml:"schema"`      // in PostgreSQL and SQL Server
	Checkpoints string `toml:"checkpoints"` // file: where each chain stands, for servers without transactions
	URL         string `toml:"url"`
	User        string `toml:"user"`
	// The password, token or secret: the first line of a file, or an environment variable. Never in the config itself.
	PasswordFile string `toml:"password_file"`
	PasswordEnv  string `toml:"password_env"`
	CAFile       string `toml:"ca_file"`   // who signed the server's certificate; "" = the machine's list
	CertFile     string `toml:"cert_file"` // our certificate, with KeyFile
	KeyFile      string `toml:"key_file"`
	Prefix       string `toml:"prefix"`        // of topics and subjects
	ClientID     string `toml:"client_id"`     // MQTT
	Discovery    string `toml:"discovery"`     // MQTT: Home Assistant's prefix, or "off"
	OfflineAfter string `toml:"offline_after"` // MQTT: without readings for so long a device is off line
	Stream       string `toml:"stream"`        // NATS
	Credentials  string `toml:"credentials"`   // NATS: .creds file
	Database     string `toml:"database"`      // InfluxDB 1
	Retention    string `toml:"retention"`     // InfluxDB 1
	Org          string `toml:"org"`           // InfluxDB 2
	Bucket       string `toml:"bucket"`        // InfluxDB 2 and 3
	Listen       string `toml:"listen"`        // Prometheus
	Format       string `toml:"format"`        // stdout
}

// sinkKind is a kind of sink: the keys that it needs, with what to write for each, and those that it takes beside them.
type sinkKind struct {
	name  string
	needs []sinkKey
	takes []string
	open  func(context.Context, *sinkConfig) (collector.Sink, error)
}

type sinkKey struct{ key, hint string }

// sinkKinds is the list of sinks.
func sinkKinds() []sinkKind {
	checkpoints := sinkKey{"checkpoints", `name a file for where each chain stands, for example checkpoints = "sink.checkpoints"`}
	password, tlsKeys := []string{"password_file", "password_env"}, []string{"ca_file", "cert_file", "key_file"}
	return []sinkKind{
		{sinkSQLite, []sinkKey{{"path", `name the database file, for example path = "readings.db"`}}, nil, func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
			return sqlite.Open(ctx, c.Path)
		}},
		{sinkPostgres, []sinkKey{{"dsn", `name the database, for example dsn = "postgres://collector@db.example/readings"`}}, []string{"schema"},
			func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
				return postgres.Open(ctx, c.DSN, c.Schema)
			}},
		{"mysql", []sinkKey{{"dsn", `name the database, for example dsn = "collector@tcp(db.example:3306)/readings"`}}, password,
			func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
				p, err := c.password()
				if err != nil {
					return nil, err
				}
				return mysql.Open(ctx, c.DSN, p)
			}},
		{"mssql", []sinkKey{{"dsn", `name the database, for example dsn = "sqlserver://collector@db.example:1433?database=readings"`}}, append([]string{"schema"}, password...),
			func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
				p, err := c.password()
				if err != nil {
					return nil, err
				}
				return mssql.Open(ctx, c.DSN, p, c.Schema)
			}},
		{"mqtt", []sinkKey{{"url", `name the broker, for example url = "mqtts://broker.example:8883"`}, checkpoints},
			slices.Concat([]string{"user", "client_id", "prefix", "discovery", "offline_after"}, password, tlsKeys), openMQTT},
		{"nats", []sinkKey{{"url", `name the server, for example url = "nats://nats.example:4222"`}, checkpoints},
			slices.Concat([]string{"user", "prefix", "stream", "credentials"}, password, tlsKeys), openNATS},
		{"influx", []sinkKey{{"url", `name the server, for example url = "http://influx.example:8086"`}, checkpoints},
			slices.Concat([]string{"user", "database", "retention", "org", "bucket"}, password, tlsKeys), openInflux},
		{"webhook", []sinkKey{{"url", `name the endpoint, for example url = "https://example.com/readings"`}, checkpoints}, slices.Concat(password, tlsKeys), openWebhook},
		{sinkPrometheus, []sinkKey{{"listen", `say where to be scraped, for example listen = "127.0.0.1:9464"`}, checkpoints}, nil,
			func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
				return prometheus.Open(ctx, prometheus.Config{Listen: c.Listen}, c.Checkpoints)
			}},
		{sinkStdout, []sinkKey{{"format", `choose "jsonl", "csv", "senml" or "influx"`}, checkpoints}, nil, func(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
			return stdout.Open(ctx, os.Stdout, c.Format, c.Checkpoints)
		}},
	}
}

// openSink opens what the config, which was checked, says.
func openSink(ctx context.Context, c sinkConfig) (collector.Sink, error) {
	for _, k := range sinkKinds() {
		if k.name == c.Kind {
			return k.open(ctx, &c)
		}
	}
	return nil, fmt.Errorf("sink %q is not known", c.Kind)
}

// check reports the first key that is missing, or that another kind takes.
func (c *sinkConfig) check() error {
	var names []string
	for _, k := range sinkKinds() {
		if k.name == c.Kind {
			return c.checkAs(k)
		}
		names = append(names, k.name)
	}
	return fmt.Errorf("sink.kind: %q: want one of %s", c.Kind, strings.Join(names, ", "))
}

func (c *sinkConfig) checkAs(k sinkKind) error {
	set := c.set()
	takes := slices.Clone(k.takes)
	for _, n := range k.needs {
		if takes = append(takes, n.key); !slices.Contains(set, n.key) {
			return fmt.Errorf("sink.%s: %s", n.key, n.hint)
		}
	}
	for _, key := range set {
		if !slices.Contains(takes, key) && key != "kind" {
			return fmt.Errorf("sink.%s is not for kind = %q, which takes %s", key, k.name, strings.Join(takes, ", "))
		}
	}
	switch {
	case c.PasswordFile != "" && c.PasswordEnv != "":
		return errors.New("sink.password_file and sink.password_env: want one of them")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("sink.cert_file and sink.key_file: want both or none")
	}
	if _, err := c.offline(); err != nil {
		return fmt.Errorf("sink.offline_after: %w", err)
	}
	if k.name == sinkStdout && !slices.Contains(stdout.Formats(), c.Format) {
		return fmt.Errorf("sink.format: %q: want one of %s", c.Format, strings.Join(stdout.Formats(), ", "))
	}
	return nil
}

// set lists the keys that are given.
func (c *sinkConfig) set() (keys []string) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			keys = append(keys, v.Type().Field(i).Tag.Get("toml"))
		}
	}
	return keys
}

// paths returns what names files, so that they can be made relative to the config file.
func (c *sinkConfig) paths() []*string {
	return []*string{&c.Path, &c.Checkpoints, &c.PasswordFile, &c.CAFile, &c.CertFile, &c.KeyFile, &c.Credentials}
}

func (c *sinkConfig) offline() (time.Duration, error) {
	if c.OfflineAfter == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(c.OfflineAfter)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf(`%q: want a time such as "1h"`, c.OfflineAfter)
	}
	return d, nil
}

// password reads the password, token or secret; "" if there is none. Errors do not show it.
func (c *sinkConfig) password() (string, error) {
	switch {
	case c.PasswordEnv != "":
		p := os.Getenv(c.PasswordEnv)
		if p == "" {
			return "", fmt.Errorf("sink.password_env: environment variable %s is empty: set it", c.PasswordEnv)
		}
		return p, nil
	case c.PasswordFile != "":
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("sink.password_file: %w", err)
		}
		defer f.Close()
		line, err := bufio.NewReader(io.LimitReader(f, 1<<16)).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", fmt.Errorf("sink.password_file: %s: its first line is empty: write the password there (%w)", c.PasswordFile, err)
		}
		return line, nil
	}
	return "", nil
}

// tls is nil where the defaults will do.
func (c *sinkConfig) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("sink.ca_file: %w", err)
		}
		if out.RootCAs = x509.NewCertPool(); !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("sink.ca_file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("sink.cert_file and sink.key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}

// secrets returns the password and the TLS settings.
func (c *sinkConfig) secrets() (string, *tls.Config, error) {
	p, err := c.password()
	if err != nil {
		return "", nil, err
	}
	t, err := c.tls()
	return p, t, err
}

func (c *sinkConfig) http(t *tls.Config) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second}
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func openMQTT(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
	p, t, err := c.secrets()
	if err != nil {
		return nil, err
	}
	after, err := c.offline()
	if err != nil {
		return nil, fmt.Errorf("sink.offline_after: %w", err)
	}
	id := c.ClientID
	if id == "" {
		id = "streembit-collector"
	}
	return mqtt.Open(ctx, mqtt.Config{URL: c.URL, ClientID: id, User: c.User, Password: p, TLS: t, Prefix: c.Prefix, Discovery: c.Discovery, Offline: after}, c.Checkpoints)
}

func openNATS(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
	p, t, err := c.secrets()
	if err != nil {
		return nil, err
	}
	return nats.Open(ctx, nats.Config{URL: c.URL, User: c.User, Password: p, TLS: t, Prefix: c.Prefix, Stream: c.Stream, Credentials: c.Credentials}, c.Checkpoints)
}

func openInflux(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
	p, t, err := c.secrets()
	if err != nil {
		return nil, err
	}
	return influx.Open(ctx, influx.Config{URL: c.URL, Database: c.Database, Retention: c.Retention, User: c.User, Password: p, Org: c.Org, Bucket: c.Bucket, Client: c.http(t)}, c.Checkpoints)
}

func openWebhook(ctx context.Context, c *sinkConfig) (collector.Sink, error) {
	p, t, err := c.secrets()
	if err != nil {
		return nil, err
	}
	return webhook.Open(ctx, webhook.Config{URL: c.URL, Secret: p, Client: c.http(t)}, c.Checkpoints)
}
