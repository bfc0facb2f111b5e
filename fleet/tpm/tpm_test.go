// SPDX-License-Identifier: Apache-2.0

//go:build tpm

package tpm_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/tpm"
)

// emulator starts swtpm on a state folder; a folder is one TPM. It ends when stop is called, or the test.
func emulator(t *testing.T, state string) (d tpm.Device, stop func()) {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("swtpm is missing")
		}
		t.Skip("swtpm is missing: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	var out bytes.Buffer
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return tpm.Device{Path: socket}, stop
		}
		if time.Since(start) > 30*time.Second {
			stop()
			t.Fatalf("swtpm did not start: %s", out.String())
		}
	}
}

func TestSeal_OnlyTheSameTPMOpens(t *testing.T) {
	state, secret := t.TempDir(), bytes.Repeat([]byte{7}, 32)
	device, stop := emulator(t, state)
	blob, err := device.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(blob, secret) {
		t.Error("the sealed form shows the secret")
	}
	for range 5 { // more objects than a TPM has room for at once: each call must flush its own
		if got, err := device.Unseal(blob); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%x, %v", got, err)
		}
	}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, len(blob) / 2} {
		changed := bytes.Clone(blob)
		changed[i] ^= 1
		if got, err := device.Unseal(changed); err == nil {
			t.Errorf("byte %d of %d changed: opened %x", i, len(blob), got)
		}
	}
	changed := bytes.Clone(blob)
	changed[len(changed)-1] ^= 1
	if _, err := device.Unseal(changed); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("the last byte changed: %v", err)
	}
	stop()

	again, _ := emulator(t, state) // a reboot
	if got, err := again.Unseal(blob); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after a restart of the TPM: %x, %v", got, err)
	}
	other, _ := emulator(t, t.TempDir())
	if got, err := other.Unseal(blob); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("another board's TPM: %x, %v", got, err)
	}
	if _, err := again.Seal(make([]byte, 200)); err == nil {
		t.Error("sealed more than a TPM takes")
	}
	if _, err := (tpm.Device{Path: filepath.Join(state, "none")}).Unseal(blob); !errors.Is(err, tpm.ErrNone) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no TPM: %v", err)
	}
}

// TestSealKey moves a member's key into the TPM; its identity stays and the file is gone.
func TestSealKey(t *testing.T) {
	device, _ := emulator(t, t.TempDir())
	s := fleet.KeySource{Dir: t.TempDir(), TPM: device}
	made, err := fleet.LoadOrCreateKey(filepath.Join(s.Dir, fleet.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SealKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, fleet.KeyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("key.pem is still there: %v", err)
	}
	got, from, err := fleet.OpenKey(s)
	if err != nil || got.ID() != made.ID() || from != fleet.FromTPM {
		t.Errorf("%s from %s, %v", got.ID(), from, err)
	}
	other, _ := emulator(t, t.TempDir())
	if _, _, err := fleet.OpenKey(fleet.KeySource{Dir: s.Dir, TPM: other}); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("the card in another board: %v", err)
	}
}

// TestNextKey: the key that takes a sealed one's place is sealed, too, and never lies in a file.
func TestNextKey(t *testing.T) {
	device, _ := emulator(t, t.TempDir())
	s := fleet.KeySource{Dir: t.TempDir(), TPM: device}
	if _, err := fleet.LoadOrCreateKey(filepath.Join(s.Dir, fleet.KeyFile)); err != nil {
		t.Fatal(err)
	}
	if err := s.SealKey(); err != nil {
		t.Fatal(err)
	}
	next, err := s.NextKey(fleet.FromTPM)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.OpenNext(fleet.FromTPM); err != nil || again.ID() != next.ID() {
		t.Errorf("opened again: %s, %v; made %s", again.ID(), err, next.ID())
	}
	if plain, _ := filepath.Glob(filepath.Join(s.Dir, "*.pem")); len(plain) > 0 {
		t.Errorf("a key lies in %v", plain)
	}
	if err := s.AdoptNext(fleet.FromTPM); err != nil {
		t.Fatal(err)
	}
	if got, from, err := fleet.OpenKey(s); err != nil || got.ID() != next.ID() || from != fleet.FromTPM {
		t.Errorf("%s from %s, %v; want %s", got.ID(), from, err, next.ID())
	}
}
