// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// recipes are the code blocks of docs/servers.md: by section, then by what stands after the fence.
func recipes(t testing.TB) map[string]map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/servers.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, s := range strings.Split(string(page), "\n## ")[1:] {
		name, rest, _ := strings.Cut(s, "\n")
		out[name] = map[string]string{}
		for _, m := range regexp.MustCompile("(?s)\n```([a-z0-9 ]+)\n(.*?)```\n").FindAllStringSubmatch(rest, -1) {
			out[name][m[1]] += m[2]
		}
	}
	return out
}

// recipe is a section with its addresses changed; "change-me" stays the password.
func recipe(t testing.TB, section string, change ...string) map[string]string {
	t.Helper()
	blocks := recipes(t)[section]
	if blocks == nil {
		t.Fatalf("docs/servers.md has no section %q", section)
	}
	for k, v := range blocks {
		for i := 0; i < len(change); i += 2 {
			v = strings.ReplaceAll(v, change[i], change[i+1])
		}
		blocks[k] = v
	}
	return blocks
}

// openRecipe opens the sink of a config as collect does, with password as the first line of the file password beside it.
func openRecipe(t testing.TB, config, password string) (collector.Sink, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"collect.toml": config, "password": password + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := loadCollectConfig(filepath.Join(dir, "collect.toml")); err != nil {
		t.Fatal(err)
	}
	var c struct {
		Sink sinkConfig `toml:"sink"`
	}
	if err := cli.ParseTOML([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Sink.paths() {
		if *p != "" {
			*p = filepath.Join(dir, *p)
		}
	}
	sink, err := openSink(t.Context(), c.Sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() }) // the test may have closed it
	return sink, dir
}

// fill writes what a device reads, and a gap, and checks that the sink says it is there.
func fill(t testing.TB, s collector.Sink) collector.Batch {
	t.Helper()
	sinktest.WaitFor(t, "the server to be ready", func() error {
		return s.(collector.Pinger).Ping(t.Context())
	})
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", To: 9, Mark: &journal.Link{Seq: 9}, Received: time.Now(), Readings: sinktest.Rows(0, 3, 5),
		Gaps: []collector.Gap{{First: 4, Last: 9, Reason: "lost", Found: time.Now()}}}
	for i := range b.Readings {
		r := &b.Readings[i]
		r.At.Wall = time.Now().Add(-time.Minute).UnixMilli() + int64(i)
		if i%2 == 1 {
			r.Quantity.Name, r.Unit = "humidity", "%RH"
		}
	}
	if err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// statements divides SQL.
func statements(s string) (out []string) {
	for q := range strings.SplitSeq(s, ";\n") {
		if strings.TrimSpace(q) != "" {
			out = append(out, q)
		}
	}
	return out
}

func TestRecipe_PostgreSQL(t *testing.T) {
	dsn := sinktest.PostgresDSN(t)
	admin, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.ToLower(rand.Text()[:10]) // others use the server, too
	r := recipe(t, "PostgreSQL", "collector", "collector_"+id, "readings", "readings_"+id, "grafana", "grafana_"+id, "db.example:5432", admin.Host)
	each := func(dsn, q string) (rows [][]string) {
		t.Helper()
		err := postgresEach(t, dsn, q, func(row []string) { rows = append(rows, row) })
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		return rows
	}
	for _, q := range statements(r["sql"]) {
		each(dsn, q)
	}
	t.Cleanup(func() {
		for _, q := range []string{"DROP DATABASE readings_" + id + " WITH (FORCE)", "DROP USER collector_" + id, "DROP USER grafana_" + id} {
			each(dsn, q)
		}
	})
	t.Setenv("PGSSLMODE", "disable")
	sink, _ := openRecipe(t, r["toml"], "")
	fill(t, sink)
	of := *admin
	of.Path, of.User = "/readings_"+id, url.User("collector_"+id)
	if rows := each(of.String(), strings.ReplaceAll(r["sql query"], ";", "")); len(rows) != 2 {
		t.Errorf("%s: %v", r["sql query"], rows)
	}
	for _, q := range statements(r["sql readings"]) {
		each(of.String(), q)
	}
	of.User = url.User("grafana_" + id)
	for _, p := range panels(t, "grafana-postgres.json") {
		if rows := each(of.String(), grafana(p.SQL)); len(rows) == 0 {
			t.Errorf("%s: nothing to see: %s", p.Title, p.SQL)
		}
	}
}

// postgresEach runs a query by a user and shows each row.
func postgresEach(t testing.TB, dsn, q string, row func([]string)) error {
	t.Helper()
	psql := sinktest.Program(t, "psql", "postgresql-client")
	out, err := exec.Command(psql, "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command="+q, dsn).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		if strings.Contains(line, "|") {
			row(strings.Split(line, "|"))
		}
	}
	return nil
}

type panel struct{ Title, SQL, Expr string }

// panels reads a dashboard.
func panels(t testing.TB, name string) (out []panel) {
	t.Helper()
	b, err := os.ReadFile("../../docs/servers/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RawSQL, Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		if len(p.Targets) != 1 || p.ID == 0 || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 || p.Type == "" {
			t.Errorf("%s: %+v", name, p)
			continue
		}
		out = append(out, panel{p.Title, p.Targets[0].RawSQL, p.Targets[0].Expr})
	}
	if len(out) < 5 || d.Title == "" || d.UID == "" {
		t.Errorf("%s: %+v", name, d)
	}
	return out
}

// grafana does what Grafana does with a query before it sends it.
func grafana(q string) string {
	q = regexp.MustCompile(`\$__timeFilter\(([a-z.]+)\)`).ReplaceAllString(q, "$1 BETWEEN now() - interval '1 day' AND now()")
	q = regexp.MustCompile(`\$__timeGroup\(([a-z.]+), \$__interval\)`).ReplaceAllString(q, "to_timestamp(floor(extract(epoch from $1) / 60) * 60)")
	return strings.ReplaceAll(q, "${device:sqlstring}", "'roof','cellar'")
}

func TestRecipe_MariaDB(t *testing.T) {
	server := sinktest.MariaDB(t)
	r := recipe(t, "MariaDB and MySQL", "db.example:3306", server.Addr)
	root := "root@tcp(" + server.Addr + ")/"
	for _, q := range statements(r["sql"]) {
		sinktest.MySQLQuery(t, root, q)
	}
	sinktest.MySQLQuery(t, root, "DROP USER IF EXISTS ''@'localhost'")
	sink, _ := openRecipe(t, r["toml"], "change-me")
	fill(t, sink)
	if rows := sinktest.MySQLQuery(t, root+"readings", strings.ReplaceAll(r["sql query"], ";", "")); len(rows) != 2 || rows[0][0] != "roof" {
		t.Errorf("%v", rows)
	}
}

// TestRecipe_MSSQL: the config is taken; there is no server.
func TestRecipe_MSSQL(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "collect.toml")
	if err := os.WriteFile(path, []byte(recipe(t, "Microsoft SQL Server", "db.example:1433", "127.0.0.1:1")["toml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCollectConfig(path); err != nil {
		t.Error(err)
	}
}

func TestRecipe_MQTT(t *testing.T) {
	program, mkpasswd := sinktest.Program(t, "mosquitto", "mosquitto"), sinktest.Program(t, "mosquitto_passwd", "mosquitto")
	sub := sinktest.Program(t, "mosquitto_sub", "mosquitto-clients")
	server := sinktest.NewDaemon(t, func(port, dir string) *exec.Cmd {
		r := recipe(t, "MQTT and Home Assistant", "listener 1883", "listener "+port, "/etc/mosquitto", dir)
		conf := r["conf"] + "persistence_location " + dir + "/\n"
		if os.Getuid() == 0 {
			conf += "user root\n"
		}
		for name, text := range map[string]string{"mosquitto.conf": conf, "acl": r["acl"]} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, mkpasswd, "-b", "-c", filepath.Join(dir, "passwords"), "collector", "change-me")
		run(t, mkpasswd, "-b", filepath.Join(dir, "passwords"), "homeassistant", "other")
		return exec.Command(program, "-c", filepath.Join(dir, "mosquitto.conf"))
	})
	sink, _ := openRecipe(t, recipe(t, "MQTT and Home Assistant", "broker.example:1883", server.Addr)["toml"], "change-me")
	b := fill(t, sink)
	_, port, _ := strings.Cut(server.Addr, ":")
	for topic, want := range map[string]string{"homeassistant/device/+/config": `"device_class":"temperature"`, "streembit/state/+/+/humidity": `"unit":"%RH"`,
		"streembit/availability/" + b.Chain.Device.String(): "online", "streembit/collector/collector-1": "online"} {
		if got := run(t, sub, "-h", "127.0.0.1", "-p", port, "-u", "homeassistant", "-P", "other", "-W", "30", "-t", topic, "-C", "1"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", topic, got)
		}
	}
}

func TestRecipe_NATS(t *testing.T) {
	program := sinktest.Program(t, "nats-server", "nats-server")
	server := sinktest.NewDaemon(t, func(port, dir string) *exec.Cmd {
		conf := recipe(t, "NATS JetStream", "127.0.0.1:4222", "127.0.0.1:"+port, "/var/lib/nats", dir)["conf"]
		if err := os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(program, "-c", filepath.Join(dir, "nats.conf"))
	})
	sink, _ := openRecipe(t, recipe(t, "NATS JetStream", "nats.example:4222", server.Addr)["toml"], "change-me")
	fill(t, sink)
}

func TestRecipe_InfluxDB(t *testing.T) {
	server := sinktest.InfluxDB(t)
	r := recipe(t, "InfluxDB", "http://influx.example:8086", "http://"+server.Addr, "https://influx.example:8086", "https://"+server.Addr)
	ask := func(q string) (string, error) {
		req, err := http.NewRequest(http.MethodPost, "http://"+server.Addr+"/query?"+url.Values{"db": {"readings"}, "q": {q}}.Encode(), nil)
		if err != nil {
			return "", err
		}
		req.SetBasicAuth("admin", "x")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != 200 || bytes.Contains(b, []byte("error"))) {
			err = errors.New(string(b))
		}
		return string(b), err
	}
	for _, q := range append([]string{"CREATE USER admin WITH PASSWORD 'x' WITH ALL PRIVILEGES"}, strings.Split(strings.TrimSpace(r["influxql"]), "\n")...) {
		sinktest.WaitFor(t, q, func() error { _, err := ask(q); return err })
	}
	sink, _ := openRecipe(t, r["toml"], "change-me")
	fill(t, sink)
	if got, err := ask(r["influxql query"]); err != nil || strings.Count(got, "Z\",") != 10 {
		t.Errorf("%v: %s", err, got)
	}
	openRecipe(t, r["toml v2"], "token")
}

// TestRecipe_Prometheus: a real server scrapes, loads the alerts, and answers every question of the dashboard.
func TestRecipe_Prometheus(t *testing.T) {
	program, promtool := sinktest.Program(t, "prometheus", "prometheus"), sinktest.Program(t, "promtool", "prometheus")
	port := sinktest.FreePort(t)
	r := recipe(t, "Prometheus", "9464", port)
	sink, _ := openRecipe(t, r["toml"], "")
	fill(t, sink)
	alerts, err := os.ReadFile("../../docs/servers/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	server := sinktest.NewDaemon(t, func(port, dir string) *exec.Cmd {
		for name, text := range map[string]string{"prometheus.yml": "global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + r["yaml"], "prometheus-alerts.yml": string(alerts)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, promtool, "check", "config", filepath.Join(dir, "prometheus.yml"))
		return exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:"+port)
	})
	run(t, promtool, "test", "rules", "testdata/alerts_test.yml")
	for _, p := range panels(t, "grafana-prometheus.json") {
		sinktest.WaitFor(t, p.Title, func() error {
			resp, err := http.Get("http://" + server.Addr + "/api/v1/query?" + url.Values{"query": {p.Expr}}.Encode())
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil && (!bytes.Contains(b, []byte(`"status":"success"`)) || bytes.Contains(b, []byte(`"result":[]`))) {
				err = fmt.Errorf("%s: %s", p.Expr, b)
			}
			return err
		})
	}
}

func TestRecipe_Webhook(t *testing.T) {
	python := sinktest.Program(t, "python3", "python3")
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	r := recipe(t, "Webhook")
	var out string
	server := sinktest.NewDaemon(t, func(port, dir string) *exec.Cmd {
		out = filepath.Join(dir, "out")
		for name, text := range map[string]string{"endpoint.py": r["python"], "password": secret + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-c", `exec "$0" endpoint.py password "$1" >out`, python, port)
		cmd.Dir = dir
		return cmd
	})
	sink, _ := openRecipe(t, strings.ReplaceAll(r["toml"], "127.0.0.1:8000", server.Addr), secret)
	b := fill(t, sink)
	got, err := os.ReadFile(out)
	if err != nil || strings.Count(string(got), b.Chain.String()) != 20 || !strings.Contains(string(got), "bme280-0 humidity") {
		t.Errorf("%v: %s", err, got)
	}
}

// TestRecipe_Checkpoints: the file of a sink without transactions is one that any SQLite tool can read.
func TestRecipe_Checkpoints(t *testing.T) {
	r := recipe(t, "Telegraf, Vector and other pipes")
	sink, dir := openRecipe(t, r["toml"], "")
	b := collector.Batch{Chain: sinktest.Chain(1, 1), To: 9, Mark: &journal.Link{Seq: 9}, Received: time.Now()}
	if err := errors.Join(sink.Write(t.Context(), b), sink.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.OpenRead(filepath.Join(dir, "stdout.checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var seq int
	if err := db.QueryRowContext(t.Context(), "SELECT seq FROM checkpoint").Scan(&seq); err != nil || seq != 9 {
		t.Errorf("%d, %v", seq, err)
	}
}

// TestSinkSecrets: each way to give a password, and what is said when there is none.
func TestSinkSecrets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	t.Setenv("SINK_TEST_SECRET", "from env")
	for _, c := range []struct {
		sinkConfig
		want, err string
	}{
		{sinkConfig{PasswordFile: file("a", "one line\r\nmore")}, "one line", ""}, {sinkConfig{PasswordFile: file("b", "no end")}, "no end", ""},
		{sinkConfig{PasswordEnv: "SINK_TEST_SECRET"}, "from env", ""}, {sinkConfig{}, "", ""},
		{sinkConfig{PasswordEnv: "SINK_TEST_NONE"}, "", "set it"}, {sinkConfig{PasswordFile: file("c", "\nsecond")}, "", "is empty"},
		{sinkConfig{PasswordFile: filepath.Join(dir, "none")}, "", "no such file"},
	} {
		got, err := c.password()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c.sinkConfig, got, err)
		}
	}
	for _, c := range []sinkConfig{{CAFile: file("ca", "none")}, {CertFile: file("cert", ""), KeyFile: file("key", "")}} {
		if _, err := c.tls(); err == nil {
			t.Errorf("%+v", c)
		}
	}
}
