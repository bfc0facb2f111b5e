// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/agent/command"
)

// TestLED: the lamp blinks and goes back to what drove it, also when nobody waits for it.
func TestLED(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/class/leds/ACT")
	ok(t, os.MkdirAll(dir, 0o755))
	put := func(name, text string) {
		t.Helper()
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put("brightness", "0")
	if _, err := command.FindLED(root, "other"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another: %v", err)
	}
	if _, err := command.FindLED(root, "../ACT"); err == nil {
		t.Error("outside of the folder")
	}
	l, err := command.FindLED(root, "")
	if err != nil || l.Name() != "ACT" {
		t.Fatalf("%v %v", l, err)
	}
	synctest.Test(t, func(t *testing.T) {
		for _, cut := range []bool{false, true} {
			put("trigger", "none timer [mmc0] heartbeat")
			ctx, cancel := context.WithCancel(t.Context())
			if cut {
				time.AfterFunc(300*time.Millisecond, cancel)
			}
			began := time.Now()
			err := l.Blink(ctx, time.Second)
			cancel()
			if cut != errors.Is(err, context.Canceled) || !cut && time.Since(began) != time.Second {
				t.Errorf("%v after %s", err, time.Since(began))
			}
			raw, err := os.ReadFile(filepath.Join(dir, "trigger"))
			if err != nil || !strings.HasPrefix(string(raw), "mmc0") {
				t.Errorf("trigger %q, %v", raw, err)
			}
		}
	})
}
