// SPDX-License-Identifier: Apache-2.0

//go:build !tpm

package tpm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/streembit/edge/fleet/tpm"
)

// TestNotBuilt: a program without TPM support says so, and names what it looked for.
func TestNotBuilt(t *testing.T) {
	_, sealed := tpm.Device{}.Seal([]byte("x"))
	_, opened := tpm.Device{Path: "/dev/tpm7"}.Unseal([]byte("x"))
	for err, path := range map[error]string{sealed: tpm.DefaultDevice, opened: "/dev/tpm7"} {
		if !errors.Is(err, tpm.ErrNotBuilt) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "-tags tpm") {
			t.Errorf("%v", err)
		}
	}
}
