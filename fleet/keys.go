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

// PEM types of private keys. Identities are ordinary PKCS #8 (RFC 5958).
const (
	identityPEM = "PRIVATE KEY"
	readerPEM   = "STREEMBIT READER KEY"
)

// ErrExposedKey is wrapped when the file of a private key may be read by others than its owner.
var ErrExposedKey = errors.New("others may read it")

// maxKeyFile is far more than a key file needs.
const maxKeyFile = 64 << 10

// NewKey makes an identity and its PEM text, which ParseKey reads.
func NewKey() (key journal.SoftKey, text []byte, err error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key, nil, fmt.Errorf("fleet: making key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return key, nil, fmt.Errorf("fleet: making key: %w", err)
	}
	return journal.NewSoftKey(priv), pem.EncodeToMemory(&pem.Block{Type: identityPEM, Bytes: der}), nil
}

// ParseKey reads an identity's PEM text.
func ParseKey(text []byte) (journal.SoftKey, error) {
	priv, err := parseIdentity(text)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading key: %w", err)
	}
	return journal.NewSoftKey(priv), nil
}

func parseIdentity(text []byte) (ed25519.PrivateKey, error) {
	der, err := parsePEM(text, identityPEM)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key")
	}
	return priv, nil
}

// NewReaderKey makes a key that opens epochs and its PEM text, which ParseReaderKey reads.
func NewReaderKey() (key journal.ReaderKey, text []byte, err error) {
	if key, err = journal.GenerateReaderKey(); err != nil {
		return key, nil, err
	}
	raw, err := key.Bytes()
	if err != nil {
		return key, nil, fmt.Errorf("fleet: making reader key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: readerPEM, Bytes: raw}), nil
}

// ParseReaderKey reads a reader key's PEM text.
func ParseReaderKey(text []byte) (journal.ReaderKey, error) {
	raw, err := parsePEM(text, readerPEM)
	if err != nil {
		return journal.ReaderKey{}, fmt.Errorf("fleet: reading reader key: %w", err)
	}
	return journal.NewReaderKey(raw)
}

// LoadOrCreateKey reads a member's identity from a PEM file of mode 0600, or makes one and puts it there durably.
func LoadOrCreateKey(path string) (journal.SoftKey, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k, text, err := NewKey()
	if err != nil {
		return k, err
	}
	return k, WriteFile(path, text, 0o600)
}

// LoadKey reads an identity. A file that others may read is refused.
func LoadKey(path string) (journal.SoftKey, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return journal.SoftKey{}, err
	}
	priv, err := parseIdentity(text)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading key %s: %w", path, err)
	}
	return journal.NewSoftKey(priv), nil
}

// LoadOrCreateReaderKey is LoadOrCreateKey for the key that opens epochs.
func LoadOrCreateReaderKey(path string) (journal.ReaderKey, error) {
	k, err := LoadReaderKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k, text, err := NewReaderKey()
	if err != nil {
		return k, err
	}
	return k, WriteFile(path, text, 0o600)
}

// LoadReaderKey reads the key that opens epochs.
func LoadReaderKey(path string) (journal.ReaderKey, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return journal.ReaderKey{}, err
	}
	raw, err := parsePEM(text, readerPEM)
	if err != nil {
		return journal.ReaderKey{}, fmt.Errorf("fleet: reading key %s: %w", path, err)
	}
	return journal.NewReaderKey(raw)
}

// ReadSecret reads a small file that nobody else may read; the error wraps ErrExposedKey if others may. What is no regular file, such as
// a pipe, has no such bits that count.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 { // Windows shows no such bits
		return nil, fmt.Errorf("fleet: reading key %s: %w: run chmod 600 %s", path, ErrExposedKey, path)
	}
	return readKeyFile(f)
}

func readKeyFile(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("fleet: reading key: %w", err)
	}
	return data, nil
}

func parsePEM(text []byte, kind string) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("no PEM block %q in it: restore it from a backup", kind)
	}
	return block.Bytes, nil
}
