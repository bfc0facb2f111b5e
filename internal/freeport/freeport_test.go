// SPDX-License-Identifier: Apache-2.0

package freeport_test

import (
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/streembit/edge/internal/freeport"
)

// TestFind: the ports differ, can be listened on, and are none that the kernel gives to connections.
func TestFind(t *testing.T) {
	ports, err := freeport.Find(50)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(ports); len(slices.Compact(slices.Clone(ports))) != 50 {
		t.Errorf("one port twice: %v", ports)
	}
	for _, p := range ports {
		if n, err := strconv.Atoi(p); err != nil || n < 1024 || n >= 32768 {
			t.Errorf("port %q: %v", p, err)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:"+ports[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
