// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"testing"

	"github.com/streembit/edge/client"
)

// FuzzMemory: a file that is taken is written as it was understood, and understood the same again.
func FuzzMemory(f *testing.F) {
	f.Add([]byte(`{"fleet":"000102030405060708090a0b0c0d0e0f","chains":[{"chain":"12D3KooWDJ8XKquuwon9x8sCgX93746Zigew1kPFL6piwwBhj78L/main/3716cfa1f88ea2b5bb360876fef01be8",` +
		`"seq":3,"hash":"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f","gaps":[{"first":1,"last":2,"reason":"x","found":"2026-01-02T03:04:05Z",` +
		`"before":"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f","after":"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"}]}],` +
		`"clocks":[{"device":"12D3KooWDJ8XKquuwon9x8sCgX93746Zigew1kPFL6piwwBhj78L","boot":"000102030405060708090a0b0c0d0e0f","mono_ms":5,"wall_ms":6}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"fleet":"x","chains":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := client.Remember(text)
		if err != nil {
			return
		}
		second, err := client.Remember(first)
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, first)
		}
		if len(first) != len(second) { // chains are in no order
			t.Errorf("%s\nbecame\n%s", first, second)
		}
	})
}
