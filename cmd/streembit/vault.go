// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// errWrongPassphrase is wrapped when a passphrase does not open a file.
var errWrongPassphrase = errors.New("wrong passphrase")

// scryptWork is the logarithm of scrypt's cost (RFC 7914, N; r = 8, p = 1): 256 MiB of memory and about a second for each guess.
const scryptWork = 18

// isSealed reports whether a file is protected by a passphrase.
func isSealed(text []byte) bool {
	return strings.HasPrefix(strings.TrimSpace(string(text)), armor.Header)
}

// sealTo encrypts with a passphrase what write writes: an armored age file (age-encryption.org/v1) with one scrypt recipient.
func (a *app) sealTo(out io.Writer, passphrase string, write func(io.Writer) error) error {
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	to.SetWorkFactor(a.work)
	text := armor.NewWriter(out)
	w, err := age.Encrypt(text, to)
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	if err := errors.Join(write(w), w.Close(), text.Close()); err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	return nil
}

// seal encrypts a small text.
func (a *app) seal(plain []byte, passphrase string) ([]byte, error) {
	var out bytes.Buffer
	err := a.sealTo(&out, passphrase, func(w io.Writer) error {
		_, err := w.Write(plain)
		return err
	})
	return out.Bytes(), err
}

// unsealFrom decrypts what sealTo wrote. The error wraps errWrongPassphrase; damage beyond the head shows while reading.
func unsealFrom(in io.Reader, passphrase string) (io.Reader, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	r, err := age.Decrypt(armor.NewReader(in), id)
	if _, none := errors.AsType[*age.NoIdentityMatchError](err); none {
		return nil, fmt.Errorf("decrypting: %w", errWrongPassphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return r, nil
}

// unseal decrypts a small text.
func unseal(text []byte, passphrase string) ([]byte, error) {
	r, err := unsealFrom(bytes.NewReader(text), passphrase)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return plain, nil
}
