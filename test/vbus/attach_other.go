// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"net"
)

var errNotLinux = errors.New("vbus: only Linux has a virtual USB host controller (vhci-hcd)")

func plug(string) (net.Conn, string, error) { return nil, "", errNotLinux }

func adapters() []string { return nil }

func newBus([]string) (string, error) { return "", errNotLinux }
