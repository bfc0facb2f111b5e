// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/streembit/edge/journal"
)

// Files of the key that is to take the place of a member's key.
const (
	NextKeyFile       = "next.pem"
	NextSealedKeyFile = "next.tpm"
)

// ErrNotReplaceable is wrapped where a key lies that this program cannot put another one in the place of.
var ErrNotReplaceable = errors.New("the key is a systemd credential, which this program cannot replace: make another credential, and let an operator run streembit fleet rekey")

// NextKey returns the key that is to take the place of the present one, which OpenKey found at that origin; it is made the first time. It lies as the present one
// lies: in a file, or sealed by the TPM.
func (s KeySource) NextKey(present KeyOrigin) (journal.SoftKey, error) {
	key, err := s.OpenNext(present)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, text, err := NewKey()
	if err != nil {
		return key, err
	}
	if present == FromTPM {
		priv, err := parseIdentity(text)
		if err != nil {
			return key, err
		}
		return key, s.sealTo(filepath.Join(s.Dir, NextSealedKeyFile), priv)
	}
	return key, WriteFile(filepath.Join(s.Dir, NextKeyFile), text, 0o600)
}

// OpenNext returns the key that NextKey made; the error wraps fs.ErrNotExist if there is none. One that lies in a file although the present key has been sealed
// meanwhile is sealed, too.
func (s KeySource) OpenNext(present KeyOrigin) (journal.SoftKey, error) {
	plain, sealed := filepath.Join(s.Dir, NextKeyFile), filepath.Join(s.Dir, NextSealedKeyFile)
	switch present {
	case FromFile:
		return LoadKey(plain)
	case FromTPM:
		data, err := ReadSecret(sealed)
		if err == nil {
			return s.unseal(sealed, data)
		}
		if _, there := os.Lstat(plain); !errors.Is(err, fs.ErrNotExist) || there != nil {
			return journal.SoftKey{}, err
		}
		if err := s.seal(plain, sealed); err != nil {
			return journal.SoftKey{}, err
		}
		return s.OpenNext(present)
	}
	return journal.SoftKey{}, fmt.Errorf("fleet: next key: %w", ErrNotReplaceable)
}

// AdoptNext puts the next key in the place of the present one: one rename, so that after a power cut there is the one or the other, and durable once it returns.
func (s KeySource) AdoptNext(present KeyOrigin) error {
	from, to := NextKeyFile, KeyFile
	switch present {
	case FromFile:
	case FromTPM:
		from, to = NextSealedKeyFile, SealedKeyFile
	default:
		return fmt.Errorf("fleet: adopting next key: %w", ErrNotReplaceable)
	}
	if err := os.Rename(filepath.Join(s.Dir, from), filepath.Join(s.Dir, to)); err != nil {
		return fmt.Errorf("fleet: adopting next key: %w", err)
	}
	return syncDir(s.Dir)
}
