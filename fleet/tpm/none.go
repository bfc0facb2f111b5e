// SPDX-License-Identifier: Apache-2.0

//go:build !tpm

package tpm

import "fmt"

// Seal needs a program built with -tags tpm.
func (d Device) Seal([]byte) ([]byte, error) { return nil, d.missing() }

// Unseal needs a program built with -tags tpm.
func (d Device) Unseal([]byte) ([]byte, error) { return nil, d.missing() }

func (d Device) missing() error {
	return fmt.Errorf("tpm: opening %s: %w", d.path(), ErrNotBuilt)
}
