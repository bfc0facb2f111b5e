// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package hal

import (
	"errors"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/i2c"
)

var errLinux = errors.New("buses need Linux: use the simulated board here")

func openI2C(int) (i2c.BusCloser, error) { return nil, errLinux }

func classify(err error) error { return err }

func isTransient(error) bool { return false }

// Input implements Pin.
func (p chipPin) Input(gpio.Pull, gpio.Edge) (Line, error) { return nil, errLinux }

// Output implements Pin.
func (p chipPin) Output(gpio.Level) (Output, error) { return nil, errLinux }
