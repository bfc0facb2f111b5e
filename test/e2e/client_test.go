// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/client"
	"github.com/streembit/edge/test/swarm"
)

// handed collects what a client hands on.
type handed struct {
	mu  sync.Mutex
	ids map[string]int
	err error
}

func (k *handed) take(batch []client.Reading) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	for _, r := range batch {
		k.ids[r.ID]++
		if r.DeviceName == "" || r.Stream != "main" || !strings.HasPrefix(r.ID, r.Device.String()) {
			k.err = errors.New("a reading without a name or a place: " + r.ID)
		}
	}
	return k.err
}

func (k *handed) count(t *testing.T) (n int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, times := range k.ids {
		if n++; times != 1 {
			t.Errorf("%s came %d times", id, times)
		}
	}
	return n
}

func dialClient(t *testing.T, s *swarm.Swarm, o client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), s.Reader.State, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestClient_PullAndSubscribe: a program gets everything that real hubs hold, each reading once over two runs, and then what arrives.
func TestClient_PullAndSubscribe(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors)
	s.Start(append(s.Hubs, s.Device)...)
	published := func(segments int) (readings int) {
		for _, r := range s.AwaitReceipts(segments) {
			readings += int(r.Readings)
		}
		return readings
	}
	published(3)
	got := &handed{ids: map[string]int{}}
	memory := filepath.Join(t.TempDir(), "position.json")
	c := dialClient(t, s, client.Options{Memory: memory})
	got.err = errors.New("not now")
	if _, err := c.Pull(t.Context(), got.take); !errors.Is(err, got.err) {
		t.Errorf("the function's error is lost: %v", err)
	}
	got.err = nil
	before := published(3)
	r, err := c.Pull(t.Context(), got.take)
	if err != nil || r.Missing > 0 || got.count(t) < before {
		t.Fatalf("%v: %d readings of at least %d, report: %s", err, got.count(t), before, r)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	again := dialClient(t, s, client.Options{Memory: memory})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- again.Subscribe(ctx, got.take) }()
	more := published(len(s.Receipts()) + 3)
	swarm.WaitFor(t, "what was published meanwhile", func() error {
		if got.count(t) < more {
			return errors.New("not all have come")
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestClient_DialRefuses: a folder without keys, one of somebody else, and a memory that is none.
func TestClient_DialRefuses(t *testing.T) {
	s := swarm.New(t, 1, "")
	s.Start(s.Hubs...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := client.Dial(ctx, t.TempDir(), client.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := client.Dial(ctx, s.Reader.State, client.Options{Devices: []string{"nobody"}}); err == nil || !strings.Contains(err.Error(), `"nobody" names 0 devices`) {
		t.Errorf("an unknown device: %v", err)
	}
	memory := filepath.Join(t.TempDir(), "position.json")
	if err := os.WriteFile(memory, []byte(`{"fleet":"x","chains":[{"chain":"y"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := dialClient(t, s, client.Options{Memory: memory}).Pull(ctx, func([]client.Reading) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a memory that is none: %v", err)
	}
}
