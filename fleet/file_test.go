// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

func TestSave_NeverGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.cbor")
	first := found(t)
	second := must(first.Amend(key(1), now, noHubs))(t)
	fork := must(first.Amend(key(2), now, noHubs))(t)
	for _, c := range []struct {
		name string
		f    *fleet.Fleet
		want error
	}{
		{"first", first, nil},
		{"newer", second, nil},
		{"again", second, nil},
		{"older", first, fleet.ErrRollback},
		{"forked", fork, fleet.ErrFork},
		{"another fleet", found(t), fleet.ErrWrongFleet},
	} {
		if err := c.f.Save(path); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	got := must(fleet.Load(path, first.ID()))(t)
	if got.State().Version != 2 {
		t.Errorf("version %d is in the file", got.State().Version)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := second.Save(path); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("over a file that cannot be read: %v", err)
	}
	if _, err := fleet.Load(filepath.Join(t.TempDir(), "none"), journal.FleetID{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if entries := must(os.ReadDir(filepath.Dir(path)))(t); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}

func TestWriteFile_LeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(target, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fleet.WriteFile(target, []byte("x"), 0o600); err == nil {
		t.Error("replaced a folder")
	}
	if err := fleet.WriteFile(filepath.Join(dir, "none", "x"), []byte("x"), 0o600); err == nil {
		t.Error("wrote into a folder that is not there")
	}
	if entries := must(os.ReadDir(dir))(t); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}

func TestKeys_ComeBackAndAreGuarded(t *testing.T) {
	dir := t.TempDir()
	path, readerPath := filepath.Join(dir, "id.pem"), filepath.Join(dir, "reader.pem")
	k := must(fleet.LoadOrCreateKey(path))(t)
	if again := must(fleet.LoadOrCreateKey(path))(t); again.ID() != k.ID() {
		t.Error("another identity at the second start")
	}
	r := must(fleet.LoadOrCreateReaderKey(readerPath))(t)
	if again := must(fleet.LoadOrCreateReaderKey(readerPath))(t); !bytes.Equal(again.Public(), r.Public()) {
		t.Error("another reader key at the second start")
	}
	if _, err := fleet.LoadKey(readerPath); err == nil {
		t.Error("a reader key is taken for an identity")
	}
	if _, err := fleet.LoadReaderKey(path); err == nil {
		t.Error("an identity is taken for a reader key")
	}
	if runtime.GOOS != "windows" {
		for _, p := range []string{path, readerPath} {
			if info := must(os.Stat(p))(t); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %o", p, info.Mode().Perm())
			}
			for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o660} {
				if err := os.Chmod(p, mode); err != nil {
					t.Fatal(err)
				}
				_, err := fleet.LoadOrCreateKey(p)
				if p == readerPath {
					_, err = fleet.LoadOrCreateReaderKey(p)
				}
				if !errors.Is(err, fleet.ErrExposedKey) || !strings.Contains(err.Error(), "chmod 600") {
					t.Errorf("%s of mode %o: %v", p, mode, err)
				}
			}
		}
	}
}

func TestLoadKey_RefusesOtherFiles(t *testing.T) {
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := must(x509.MarshalPKCS8PrivateKey(other))(t)
	for name, data := range map[string][]byte{
		"empty":     nil,
		"text":      []byte("hello"),
		"other PEM": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"bad PKCS8": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"P-256":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fleet.LoadOrCreateKey(path); err == nil {
			t.Errorf("%s: taken for a key", name)
		}
		if after := must(os.ReadFile(path))(t); !bytes.Equal(after, data) {
			t.Errorf("%s: was overwritten", name)
		}
	}
}
