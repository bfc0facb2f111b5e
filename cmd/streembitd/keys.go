// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	hexadecimal "encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/fleet/tpm"
	"github.com/streembit/edge/journal"
)

// Files of secrets in the state folder.
const (
	claimName     = "claim.key"  // of an unclaimed device: the secret of its code
	readerName    = "reader.pem" // of a hub that carries out policies
	readerPubName = "reader.pub"
	secretName    = "secret"
)

// openKey finds this member's key; see fleet.KeySource. device is the TPM's, "" = the usual one.
func openKey(state, device string) (journal.SoftKey, fleet.KeyOrigin, error) {
	return fleet.OpenKey(keySource(state, device))
}

func keySource(state, device string) fleet.KeySource {
	return fleet.KeySource{Dir: state, Credentials: os.Getenv("CREDENTIALS_DIRECTORY"), TPM: tpm.Device{Path: device}}
}

// openOrMakeKey is openKey for who may be new here.
func openOrMakeKey(state, device string) (journal.SoftKey, fleet.KeyOrigin, error) {
	key, origin, err := openKey(state, device)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = fleet.LoadOrCreateKey(filepath.Join(state, fleet.KeyFile))
		origin = fleet.FromFile
	}
	return key, origin, err
}

// keyError adds what helps: a missing key is made, an exposed one is hidden again.
func keyError(err error, state string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Try(err, "restore it from a backup; to begin anew: streembitd reset --i-am-here --state %s", cli.Quote(state))
	case errors.Is(err, fleet.ErrExposedKey):
		return cli.Try(err, "chmod 600 %s", cli.Quote(filepath.Join(state, fleet.KeyFile)))
	}
	return err
}

// claimSecret returns the secret of an unclaimed device's code, which stays the same until it is claimed.
func claimSecret(state string) (s enroll.Secret, err error) {
	path := filepath.Join(state, claimName)
	text, err := fleet.ReadSecret(path)
	if err == nil {
		raw, derr := hexadecimal.DecodeString(strings.TrimSpace(string(text)))
		if derr != nil || len(raw) != len(s) {
			return s, cli.Try(fmt.Errorf("%s is damaged", path), "rm %s, and a new code is made", cli.Quote(path))
		}
		return enroll.Secret(raw), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s = enroll.NewSecret()
	return s, fleet.WriteFile(path, []byte(hexadecimal.EncodeToString(s[:])+"\n"), 0o600)
}

// makeReader loads or makes the key to which the secrets of claim tokens are sealed for this hub, and writes its public half, for the
// hub's grant. It returns the path of that.
func makeReader(state string) (string, error) {
	key, err := fleet.LoadOrCreateReaderKey(filepath.Join(state, readerName))
	if err != nil {
		return "", err
	}
	path := filepath.Join(state, readerPubName)
	return path, fleet.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "STREEMBIT READER PUBLIC KEY", Bytes: key.Public()}), 0o644)
}

// stableSecret is what a transport may derive its own keys from, so that the identity key never leaves its signer.
func stableSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == 32 {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading secret: %w", err)
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	return secret, fleet.WriteFile(path, secret, 0o600)
}

// erase overwrites a file and removes it, durably. Flash memory may keep the old blocks all the same: a token is short-lived for that
// reason, and the code's secret worth nothing once the device is claimed. A file that is not there is no error.
func erase(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("erasing: %w", err)
	}
	err = overwrite(f)
	if rerr := os.Remove(path); rerr != nil {
		return fmt.Errorf("erasing: %w", errors.Join(err, rerr))
	}
	dir, derr := os.Open(filepath.Dir(path))
	if derr != nil {
		return fmt.Errorf("erasing: %w", derr)
	}
	if err := errors.Join(err, dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("erasing: %w", err)
	}
	return nil
}

func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, info.Size()))
	}
	return errors.Join(err, f.Sync(), f.Close())
}
