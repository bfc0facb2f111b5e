// SPDX-License-Identifier: Apache-2.0

// Package freeport finds ports for servers that stop and start again on the same one.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports: none of those that Linux gives to connections (32768 and above), which would take one while its server is away.
const (
	lowest  = 10_000
	highest = 32_000
	tries   = 1000
)

// Find returns n TCP ports of 127.0.0.1 on which nobody listened a moment ago, each another one.
func Find(n int) (ports []string, err error) {
	for range n {
		l, err := listen()
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at the end, so that no port comes twice
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

func listen() (l net.Listener, err error) {
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("freeport: looking for a free port: %w", err)
}
