// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "errors"

func diskFree(string) (uint64, error) { return 0, errors.ErrUnsupported }
