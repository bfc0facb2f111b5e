// SPDX-License-Identifier: Apache-2.0

package influx_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/influx"
	"github.com/streembit/edge/collector/sinktest"
)

const admin, user, password = "admin", "collector", "right-one"

func config(addr string) influx.Config {
	return influx.Config{URL: "http://" + addr, Database: "readings", User: user, Password: password, Retry: 2 * time.Second}
}

func open(ctx context.Context, addr, dir string) (collector.Sink, error) {
	return influx.Open(ctx, config(addr), filepath.Join(dir, "checkpoints.db"))
}

func TestChild(t *testing.T) { sinktest.Child(t, open) }

// answer is InfluxDB's to a query.
type answer struct {
	Results []struct {
		Error  string
		Series []struct {
			Name    string
			Tags    map[string]string
			Columns []string
			Values  [][]any
		}
	}
}

func query(addr, q string) (a answer, err error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/query?"+url.Values{"q": {q}, "db": {"readings"}, "epoch": {"ns"}}.Encode(), nil)
	if err != nil {
		return a, err
	}
	req.SetBasicAuth(admin, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	dec.UseNumber()
	if err := dec.Decode(&a); err != nil && !errors.Is(err, io.EOF) {
		return a, err
	}
	if len(a.Results) == 0 || a.Results[0].Error != "" {
		return a, fmt.Errorf("%s: %+v", q, a)
	}
	return a, nil
}

// database starts InfluxDB with an empty database that the user may write.
func database(t testing.TB) *sinktest.Daemon {
	t.Helper()
	s := sinktest.InfluxDB(t)
	for _, q := range []string{"CREATE USER admin WITH PASSWORD 'right-one' WITH ALL PRIVILEGES", "CREATE DATABASE readings",
		"CREATE USER collector WITH PASSWORD 'right-one'", "GRANT WRITE ON readings TO collector"} {
		sinktest.WaitFor(t, q, func() error { _, err := query(s.Addr, q); return err })
	}
	return s
}

func TestContract(t *testing.T) {
	server := database(t)
	sinktest.RunRemote(t, func(t testing.TB) sinktest.Remote {
		if _, err := query(server.Addr, "DROP DATABASE readings; CREATE DATABASE readings; GRANT WRITE ON readings TO collector"); err != nil {
			t.Fatal(err)
		}
		return sinktest.Remote{Server: server, Open: open, Once: true, Holds: true, Got: func(t testing.TB) []sinktest.Delivered { return points(t, server.Addr) },
			Refuse: func(r *edge.Reading) { r.At.Wall = 9300000000000 }}
	})
}

func points(t testing.TB, addr string) (out []sinktest.Delivered) {
	t.Helper()
	a, err := query(addr, `SELECT * FROM /.*/`)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Results[0].Series {
		for _, v := range s.Values {
			m := map[string]any{}
			for i, c := range s.Columns {
				m[c] = v[i]
			}
			d := sinktest.Delivered{ID: fmt.Sprintf("%s/%s/%s%024d/%s/%s", m["device"], m["stream"], m["life"], 0, m["seq"], m["idx"])}
			ns, err := m["time"].(json.Number).Int64()
			if err != nil {
				t.Fatal(err)
			}
			d.Wall = ns / 1_000_000
			switch {
			case m["value"] != nil:
				f, err := m["value"].(json.Number).Float64()
				if err != nil {
					t.Fatal(err)
				}
				d.Value = fmt.Sprint(f)
			case m["text"] != nil:
				d.Value = m["text"].(string)
			default:
				d.Value = fmt.Sprint(m["state"])
			}
			out = append(out, d)
		}
	}
	return out
}

// TestErrors: each says what to do, and none shows the password.
func TestErrors(t *testing.T) {
	s := database(t)
	for want, change := range map[string]func(*influx.Config){
		"check user and password": func(c *influx.Config) { c.Password = "wrong-one" },
		"create it":               func(c *influx.Config) { c.Database, c.User = "nowhere", admin },
		"check that the server":   func(c *influx.Config) { c.URL = "http://127.0.0.1:1" },
		"user or a password":      func(c *influx.Config) { c.URL = "http://me:wrong-one@" + s.Addr },
		"want one like":           func(c *influx.Config) { c.URL = s.Addr },
		"name a database":         func(c *influx.Config) { c.Bucket = "b" },
		"":                        func(*influx.Config) {},
	} {
		cfg := config(s.Addr)
		change(&cfg)
		sink, err := influx.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
		if err == nil {
			err = sink.Ping(t.Context())
			_ = sink.Close()
		}
		if want == "" && err == nil {
			continue
		}
		if want == "" || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "-one") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestVersion2: address, token and body are those of InfluxDB 2's write API.
func TestVersion2(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	sink, err := influx.Open(t.Context(), influx.Config{URL: srv, Org: "home", Bucket: "b 1", Password: "tok"}, filepath.Join(t.TempDir(), "c.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	b := collector.Batch{Chain: sinktest.Chain(1, 1), Name: "Dach, links=\\", Readings: sinktest.Rows(0, 0, 1), Received: time.Now()}
	if err := sink.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got.URL.String() != "/api/v2/write?bucket=b+1&org=home&precision=ns" || got.Header.Get("Authorization") != "Token tok" {
		t.Errorf("%s, %v", got.URL, got.Header)
	}
	want := `temperature,device=` + b.Chain.Device.String() + `,device_name=Dach\,\ links\=,sensor=bme280-0,stream=main,unit=Cel idx=0i,life="01000000",seq=0i,value=0 1700000000000777216` + "\n"
	if string(body) != want {
		t.Errorf("got\n%s\nwant\n%s", body, want)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := database(b)
	sink, err := open(b.Context(), s.Addr, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	sinktest.Bench(b, sink)
}

func httpServer(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
