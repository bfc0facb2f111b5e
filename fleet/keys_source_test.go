// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// flip is a Sealer that keeps nothing from anybody: package tpm is tested with a real one.
type flip struct{ forgets bool }

func (s flip) Seal(secret []byte) ([]byte, error) {
	out := bytes.Clone(secret)
	for i := range out {
		out[i] ^= 0xff
	}
	return out, nil
}

func (s flip) Unseal(sealed []byte) ([]byte, error) {
	if s.forgets {
		return make([]byte, 32), nil
	}
	return s.Seal(sealed)
}

func newKey(t *testing.T, path string, mode fs.FileMode) edge.ID {
	t.Helper()
	key, text, err := fleet.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	return key.ID()
}

// TestOpenKey: the credential goes before the TPM and that before the file, and a broken one is never passed over, since the member would come
// up as somebody else.
func TestOpenKey(t *testing.T) {
	s := fleet.KeySource{Dir: t.TempDir(), Credentials: t.TempDir(), TPM: flip{}}
	if _, _, err := fleet.OpenKey(s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key anywhere: %v", err)
	}
	want := func(origin fleet.KeyOrigin, id edge.ID) {
		t.Helper()
		if got, from, err := fleet.OpenKey(s); err != nil || got.ID() != id || from != origin {
			t.Errorf("%s from %q, %v; want %s from %q", got.ID(), from, err, id, origin)
		}
	}
	refused := func(what string, cause error) {
		t.Helper()
		if got, from, err := fleet.OpenKey(s); err == nil || errors.Is(err, fs.ErrNotExist) || cause != nil && !errors.Is(err, cause) {
			t.Errorf("%s: %s from %q, %v", what, got.ID(), from, err)
		}
	}
	plain := filepath.Join(s.Dir, fleet.KeyFile)
	want(fleet.FromFile, newKey(t, plain, 0o600))
	first := newKey(t, plain, 0o600)
	if err := s.SealKey(); err != nil {
		t.Fatal(err)
	}
	newKey(t, plain, 0o600)
	want(fleet.FromTPM, first)
	s.TPM = nil
	refused("sealed, and no TPM", fleet.ErrNoTPM)
	s.TPM = flip{}

	credential := filepath.Join(s.Credentials, fleet.KeyCredential)
	want(fleet.FromTPM, first)
	want(fleet.FromCredential, newKey(t, credential, 0o440)) // as systemd shows it to a service with a user of its own
	if err := os.WriteFile(credential, []byte("no key"), 0o440); err != nil {
		t.Fatal(err)
	}
	refused("a credential that is no key", nil)
	s.Credentials = ""
	want(fleet.FromTPM, first)
	if err := os.Chmod(filepath.Join(s.Dir, fleet.SealedKeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("others may read it", fleet.ErrExposedKey)
}

// TestSealKey_KeepsTheKey: unless the TPM gives it back, key.pem stays.
func TestSealKey_KeepsTheKey(t *testing.T) {
	s := fleet.KeySource{Dir: t.TempDir(), TPM: flip{forgets: true}}
	id := newKey(t, filepath.Join(s.Dir, fleet.KeyFile), 0o600)
	if err := s.SealKey(); !errors.Is(err, fleet.ErrNoTPM) {
		t.Errorf("sealed by a TPM that forgets: %v", err)
	}
	s.TPM = nil
	if err := s.SealKey(); !errors.Is(err, fleet.ErrNoTPM) {
		t.Errorf("sealed by none: %v", err)
	}
	if got, from, err := fleet.OpenKey(s); err != nil || got.ID() != id || from != fleet.FromFile {
		t.Errorf("%s from %q, %v", got.ID(), from, err)
	}
	if err := (fleet.KeySource{Dir: t.TempDir(), TPM: flip{}}).SealKey(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key to seal: %v", err)
	}
}

func TestKeyTexts(t *testing.T) {
	key, text, err := fleet.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := fleet.ParseKey(text); err != nil || again.ID() != key.ID() {
		t.Errorf("%s, %v", again.ID(), err)
	}
	reader, readerText, err := fleet.NewReaderKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := fleet.ParseReaderKey(readerText); err != nil || !bytes.Equal(again.Public(), reader.Public()) {
		t.Errorf("reader key: %v", err)
	}
	if _, err := fleet.ParseKey(readerText); err == nil {
		t.Error("a reader key is read as an identity")
	}
	if _, err := fleet.ParseReaderKey(text); err == nil {
		t.Error("an identity is read as a reader key")
	}
}
