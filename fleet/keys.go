// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/streembit/edge/journal"
)

// readerPEM is the PEM type of a reader's private key; identities are ordinary PKCS #8 (RFC 5958).
const readerPEM = "STREEMBIT READER KEY"

// ErrExposedKey is wrapped when the file of a private key may be read by others than its owner.
var ErrExposedKey = errors.New("others may read it")

// maxKeyFile is far more than a key file needs.
const maxKeyFile = 64 << 10

// LoadOrCreateKey reads a member's identity from a PEM file of mode 0600, or makes one and puts it there durably.
func LoadOrCreateKey(path string) (journal.SoftKey, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: making key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: making key: %w", err)
	}
	if err := WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return journal.SoftKey{}, err
	}
	return journal.NewSoftKey(priv), nil
}

// LoadKey reads an identity. A file that others may read is refused.
func LoadKey(path string) (journal.SoftKey, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return journal.SoftKey{}, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading key %s: %w", path, err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading key %s: it is not an Ed25519 key", path)
	}
	return journal.NewSoftKey(priv), nil
}

// LoadOrCreateReaderKey is LoadOrCreateKey for the key that opens epochs.
func LoadOrCreateReaderKey(path string) (journal.ReaderKey, error) {
	k, err := LoadReaderKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = journal.GenerateReaderKey(); err != nil {
		return k, err
	}
	raw, err := k.Bytes()
	if err != nil {
		return k, fmt.Errorf("fleet: making reader key: %w", err)
	}
	return k, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: readerPEM, Bytes: raw}), 0o600)
}

// LoadReaderKey reads the key that opens epochs.
func LoadReaderKey(path string) (journal.ReaderKey, error) {
	raw, err := readPEM(path, readerPEM)
	if err != nil {
		return journal.ReaderKey{}, err
	}
	return journal.NewReaderKey(raw)
}

func readPEM(path, kind string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 { // Windows shows no such bits
		return nil, fmt.Errorf("fleet: reading key %s: %w: run chmod 600 %s", path, ErrExposedKey, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("fleet: reading key %s: no PEM block %q in it: restore it from a backup", path, kind)
	}
	return block.Bytes, nil
}
