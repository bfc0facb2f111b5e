// SPDX-License-Identifier: Apache-2.0

// Package tpm seals a member's key with a TPM 2.0, so that the card or disk alone does not hold it. Only programs built with -tags tpm
// can: the others stay small and answer ErrNotBuilt.
//
// TPMs of today sign with NIST curves and not with Ed25519, so that the key cannot live in one. The TPM keeps it between the starts; while
// the program runs it is in memory. There is no PCR policy: fleet.KeySource says what follows.
package tpm

import (
	"cmp"
	"errors"
)

// Errors of the package.
var (
	ErrNotBuilt = errors.New("this program was built without TPM support: build it with -tags tpm")
	ErrNone     = errors.New("this machine shows no TPM")
	ErrOtherTPM = errors.New("this TPM did not seal it, or was cleared since: enrol the device anew with another key")
)

// DefaultDevice is the kernel's TPM with a resource manager, so that several programs can use it.
const DefaultDevice = "/dev/tpmrm0"

// Device is a TPM. Its zero value is DefaultDevice. Each call opens and closes it; calls may run at once where the device allows it.
type Device struct {
	Path string // a character device, or the Unix socket of an emulator such as swtpm
}

func (d Device) path() string { return cmp.Or(d.Path, DefaultDevice) }
