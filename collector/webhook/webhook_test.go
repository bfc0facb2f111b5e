// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/collector/webhook"
)

// secret is that of the examples of Standard Webhooks.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func config(addr string) webhook.Config {
	return webhook.Config{URL: "http://" + addr + "/readings", Secret: secret, Rows: 40, Retry: 2 * time.Second}
}

func open(ctx context.Context, addr, dir string) (collector.Sink, error) {
	return webhook.Open(ctx, config(addr), filepath.Join(dir, "checkpoints.db"))
}

func TestChild(t *testing.T) { sinktest.Child(t, open) }

// TestSign is the example of the specification.
func TestSign(t *testing.T) {
	key, err := webhook.Key(secret)
	if err != nil {
		t.Fatal(err)
	}
	got := webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"", "whsec_", "whsec_short", strings.Repeat("a", 400)} {
		if _, err := webhook.Key(bad); err == nil || len(bad) > 6 && strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// endpoint is what a user would write: it checks signature and age, and keeps each body on disk before it answers.
func endpoint(file string) http.HandlerFunc {
	key, err := webhook.Key(secret)
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		body, readErr := io.ReadAll(r.Body)
		id, at := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
		seconds, numErr := strconv.ParseInt(at, 10, 64)
		switch {
		case errors.Join(err, readErr, numErr) != nil:
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		case r.Header.Get("Webhook-Signature") != webhook.Sign(key, id, seconds, body) || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute:
			http.Error(w, "bad signature", http.StatusUnauthorized)
			return
		case r.URL.Path != "/readings" || r.Method != http.MethodPost:
			http.NotFound(w, r)
			return
		case bytes.Contains(body, []byte(`"vs":"poison"`)):
			http.Error(w, "poison", http.StatusUnprocessableEntity)
			return
		case len(body) > 6000:
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.Write(append(body, '\n'))
			err = errors.Join(err, f.Sync(), f.Close())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// TestServe is not a test of its own: it is the endpoint in a process that is killed.
func TestServe(t *testing.T) {
	addr := os.Getenv("STREEMBIT_WEBHOOK_ADDR")
	if addr == "" {
		return
	}
	s := &http.Server{Addr: addr, Handler: endpoint(os.Getenv("STREEMBIT_WEBHOOK_FILE")), ReadHeaderTimeout: time.Minute}
	t.Fatal(s.ListenAndServe())
}

func TestContract(t *testing.T) {
	sinktest.RunRemote(t, func(t testing.TB) sinktest.Remote {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		server := sinktest.NewDaemon(t, func(port, dir string) *exec.Cmd {
			cmd := exec.Command(self, "-test.run=^TestServe$", "-test.timeout=1h")
			cmd.Env = append(os.Environ(), "STREEMBIT_WEBHOOK_ADDR=127.0.0.1:"+port, "STREEMBIT_WEBHOOK_FILE="+filepath.Join(dir, "bodies"))
			return cmd
		})
		return sinktest.Remote{Server: server, Open: open, Order: true, Got: func(t testing.TB) []sinktest.Delivered { return bodies(t, filepath.Join(server.Dir, "bodies")) },
			Refuse: func(r *edge.Reading) { r.Kind, r.Unit, r.Value, r.Text = edge.Text, "", 0, "poison" }}
	})
}

func bodies(t testing.TB, file string) (out []sinktest.Delivered) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		return nil // nothing came yet
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m struct {
			Type string
			Data struct {
				Chain    string
				Readings []struct {
					ID   string
					V    *float64
					VS   *string
					VB   *bool
					Time string
				}
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // the endpoint was killed as it wrote, and did not acknowledge it
		}
		for _, r := range m.Data.Readings {
			d := sinktest.Delivered{ID: r.ID}
			switch {
			case r.V != nil:
				d.Value = fmt.Sprint(*r.V)
			case r.VS != nil:
				d.Value = *r.VS
			case r.VB != nil:
				d.Value = fmt.Sprint(*r.VB)
			}
			if r.Time != "" {
				at, err := time.Parse(time.RFC3339, r.Time)
				if err != nil || !strings.HasPrefix(r.ID, m.Data.Chain) {
					t.Fatalf("%v: %s", err, lines.Text())
				}
				d.Wall = at.UnixMilli()
			}
			out = append(out, d)
		}
	}
	return out
}

// TestAnswers: what the sink makes of each status.
func TestAnswers(t *testing.T) {
	for status, want := range map[int]string{401: "the same secret", 403: "the same secret", 404: "check its path", 302: "check its path", 405: "check its path", 500: "500", 503: "503",
		400: "refused everything", 422: "refused everything"} {
		var calls []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls = append(calls, r.Header.Get("Webhook-Id"))
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}))
		cfg := config("")
		cfg.URL, cfg.Retry = s.URL, time.Millisecond
		sink, err := webhook.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
		if err != nil {
			t.Fatal(err)
		}
		err = sink.Write(t.Context(), collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 1), Received: time.Now()})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, collector.ErrPoison) {
			t.Errorf("%d: %v, want %q", status, err, want)
		}
		for _, id := range calls {
			if id != calls[0] {
				t.Errorf("%d: another id: %v", status, calls)
			}
		}
		_ = sink.Close()
		s.Close()
	}
}

// TestRetryAfter: a busy endpoint is asked again when it says.
func TestRetryAfter(t *testing.T) {
	var asked []time.Time
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked = append(asked, time.Now()); len(asked) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer s.Close()
	cfg := config("")
	cfg.URL = s.URL
	sink, err := webhook.Open(t.Context(), cfg, filepath.Join(t.TempDir(), "c.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sink.Write(t.Context(), collector.Batch{Chain: sinktest.Chain(1, 1), Readings: sinktest.Rows(0, 0, 1), Received: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[1].Sub(asked[0]) < time.Second {
		t.Errorf("asked at %v", asked)
	}
	if err := sink.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, ok := errors.AsType[*delivery.StatusError](err); ok {
		t.Error(err)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	sink, err := webhook.Open(b.Context(), webhook.Config{URL: s.URL, Secret: secret}, filepath.Join(b.TempDir(), "c.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	sinktest.Bench(b, sink)
}
