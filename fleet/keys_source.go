// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/streembit/edge/journal"
)

// Files of a member's key, in its state folder, and the name of the systemd credential that stands for them.
const (
	KeyFile       = "key.pem"
	SealedKeyFile = "key.tpm"
	KeyCredential = "streembit.key"
)

// Sealer gives a secret a form from which this machine alone gets it back; package fleet/tpm has one.
type Sealer interface {
	Seal(secret []byte) (sealed []byte, err error)
	Unseal(sealed []byte) (secret []byte, err error)
}

// KeySource says where a member's key may be. In each case the key is in the program's memory while it runs, so whoever is root on the
// running machine has it. What the places protect beyond that:
//
//   - The file key.pem, mode 0600: against other users of the machine. Who takes the card, or a copy of it, has the key; the answer is
//     a revocation.
//   - A systemd credential (LoadCredentialEncrypted=streembit.key): against backups and copies of the file as well, since it is
//     encrypted on disk. Made with --with-key=host its key lies on the same card, so that a stolen card still tells it; with
//     --with-key=tpm2 it is as the next one.
//   - The file key.tpm, sealed by a TPM 2.0: who takes the card without the board has nothing. Who takes both boots them and is root, for no
//     PCR policy ties the key to the software: an update must not lose a device its identity.
type KeySource struct {
	Dir         string // state folder
	Credentials string // what $CREDENTIALS_DIRECTORY says; "" = no credentials
	TPM         Sealer // opens key.tpm; nil = there is none
}

// KeyOrigin is where OpenKey found a key.
type KeyOrigin string

// The origins.
const (
	FromFile       KeyOrigin = "file"
	FromCredential KeyOrigin = "systemd credential"
	FromTPM        KeyOrigin = "TPM"
)

// ErrNoTPM is wrapped when a key is sealed by a TPM and there is none to open it.
var ErrNoTPM = errors.New("there is no TPM to open it")

// OpenKey returns a member's key from the first place that has one: the credential, key.tpm, key.pem. One that is there and cannot be used is
// an error, never a reason to look further: the member would take another identity. The error wraps fs.ErrNotExist if there is none at all.
func OpenKey(s KeySource) (journal.SoftKey, KeyOrigin, error) {
	if s.Credentials != "" {
		key, err := loadCredential(filepath.Join(s.Credentials, KeyCredential))
		if !errors.Is(err, fs.ErrNotExist) {
			return key, FromCredential, err
		}
	}
	path := filepath.Join(s.Dir, SealedKeyFile)
	sealed, err := ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := LoadKey(filepath.Join(s.Dir, KeyFile))
		return key, FromFile, err
	}
	if err != nil {
		return journal.SoftKey{}, FromTPM, err
	}
	key, err := s.unseal(path, sealed)
	return key, FromTPM, err
}

// loadCredential reads what systemd has put there. Its mode shows the mask of an access list that lets in the service's user alone
// (systemd.exec(5)), so the bits are not looked at.
func loadCredential(path string) (journal.SoftKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading credential: %w", err)
	}
	defer f.Close()
	text, err := readKeyFile(f)
	if err != nil {
		return journal.SoftKey{}, err
	}
	priv, err := parseIdentity(text)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: reading credential %s: %w", path, err)
	}
	return journal.NewSoftKey(priv), nil
}

func (s KeySource) unseal(path string, sealed []byte) (journal.SoftKey, error) {
	if s.TPM == nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: opening key %s: %w: start a program that was built with -tags tpm, and give it the TPM", path, ErrNoTPM)
	}
	seed, err := s.TPM.Unseal(sealed)
	if err != nil {
		return journal.SoftKey{}, fmt.Errorf("fleet: opening key %s: %w", path, err)
	}
	if len(seed) != ed25519.SeedSize {
		return journal.SoftKey{}, fmt.Errorf("fleet: opening key %s: %d bytes instead of %d", path, len(seed), ed25519.SeedSize)
	}
	return journal.NewSoftKey(ed25519.NewKeyFromSeed(seed)), nil
}

// SealKey moves the key of key.pem into key.tpm: it seals, opens the sealed one again to be sure, writes it durably and only then removes key.pem. Flash
// memory may keep the removed file's blocks, so a key that must never have been on the card is sealed before the first start. Run again
// after an interruption, it goes on.
func (s KeySource) SealKey() error {
	return s.seal(filepath.Join(s.Dir, KeyFile), filepath.Join(s.Dir, SealedKeyFile))
}

func (s KeySource) seal(plain, path string) error {
	if s.TPM == nil {
		return fmt.Errorf("fleet: sealing key %s: %w", plain, ErrNoTPM)
	}
	text, err := ReadSecret(plain)
	if err != nil {
		return err
	}
	priv, err := parseIdentity(text)
	if err != nil {
		return fmt.Errorf("fleet: reading key %s: %w", plain, err)
	}
	if err := s.sealTo(path, priv); err != nil {
		return err
	}
	if err := os.Remove(plain); err != nil {
		return fmt.Errorf("fleet: removing the unsealed key: %w", err)
	}
	return nil
}

// sealTo writes a key so that the TPM alone opens it, and sees that it does.
func (s KeySource) sealTo(path string, priv ed25519.PrivateKey) error {
	if s.TPM == nil {
		return fmt.Errorf("fleet: sealing key %s: %w", path, ErrNoTPM)
	}
	sealed, err := s.TPM.Seal(priv.Seed())
	if err != nil {
		return fmt.Errorf("fleet: sealing key %s: %w", path, err)
	}
	again, err := s.TPM.Unseal(sealed)
	if err != nil || !bytes.Equal(again, priv.Seed()) {
		return fmt.Errorf("fleet: sealing key %s: the TPM does not give it back: %w", path, errors.Join(err, ErrNoTPM))
	}
	return WriteFile(path, sealed, 0o600)
}
