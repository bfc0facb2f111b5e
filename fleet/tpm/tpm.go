// SPDX-License-Identifier: Apache-2.0

//go:build tpm

package tpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/streembit/edge/journal"
)

// sealed is what lies on disk. Public and Private are TPM2B structures without their lengths (TPM 2.0 Library, part 2).
type sealed struct {
	_       struct{} `cbor:",toarray"`
	Format  uint8
	Public  []byte
	Private []byte
}

// maxSecret is what a TPM seals at most, in bytes (MAX_SYM_DATA of the reference implementation).
const maxSecret = 128

// Seal encrypts a secret of at most 128 bytes under the TPM's storage root key, which never leaves it.
func (d Device) Seal(secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		return nil, fmt.Errorf("tpm: sealing %d bytes: want 1 to %d", len(secret), maxSecret)
	}
	var out sealed
	err := d.with(func(t transport.TPM, r root) error {
		made, err := tpm2.Create{
			ParentHandle: r.parent(tpm2.AESEncryption(128, tpm2.EncryptIn)),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
			}),
		}.Execute(t)
		if err != nil {
			return err
		}
		out = sealed{Format: 1, Public: made.OutPublic.Bytes(), Private: made.OutPrivate.Buffer}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tpm: sealing: %w", err)
	}
	return journal.Encode(out)
}

// Unseal gives the secret back. The error wraps ErrOtherTPM when another TPM sealed it, this one was cleared, or what it sealed was changed.
func (d Device) Unseal(blob []byte) (secret []byte, err error) {
	var in sealed
	if err := journal.Decode(blob, &in); err != nil {
		return nil, fmt.Errorf("tpm: unsealing: the file is damaged: %w", err)
	}
	if in.Format != 1 {
		return nil, fmt.Errorf("tpm: unsealing: format %d is unknown: update this program", in.Format)
	}
	err = d.with(func(t transport.TPM, r root) (err error) {
		loaded, err := tpm2.Load{
			ParentHandle: r.parent(tpm2.AESEncryption(128, tpm2.EncryptIn)),
			InPrivate:    tpm2.TPM2BPrivate{Buffer: in.Private},
			InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](in.Public),
		}.Execute(t)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrOtherTPM, err)
		}
		defer func() { err = errors.Join(err, flush(t, loaded.ObjectHandle)) }()
		item := tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: r.session(tpm2.AESEncryption(128, tpm2.EncryptOut))}
		opened, err := tpm2.Unseal{ItemHandle: item}.Execute(t)
		if err != nil {
			return err
		}
		secret = opened.OutData.Buffer
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tpm: unsealing: %w", err)
	}
	return secret, nil
}

// root is the storage root key for the time of one call.
type root struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// session authorises one command and encrypts its parameters to the root key, so that who listens on the board's bus does not see the
// secret. Who can also talk on the bus could stand in for the TPM: nothing here knows its endorsement key.
func (r root) session(encrypt tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(r.handle, r.public), encrypt)
}

func (r root) parent(encrypt tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: r.session(encrypt)}
}

// with opens the TPM and runs f with its storage root key, which is the same after each start.
func (d Device) with(f func(transport.TPM, root) error) (err error) {
	t, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return fmt.Errorf("making its storage root key: %w", err)
	}
	defer func() { err = errors.Join(err, flush(t, made.ObjectHandle)) }()
	public, err := made.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("reading its storage root key: %w", err)
	}
	return f(t, root{made.ObjectHandle, made.Name, *public})
}

func flush(t transport.TPM, h tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: h}.Execute(t)
	return err
}

func (d Device) open() (transport.TPMCloser, error) {
	path := d.path()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: enable the TPM in the firmware, or name its device: %w", ErrNone, err)
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSocket != 0:
		return linuxudstpm.Open(path)
	}
	t, err := linuxtpm.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: put the service's user into the group tss", err)
	}
	return t, err
}
