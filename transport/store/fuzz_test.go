// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/streembit/edge/transport"
)

// FuzzPut: of all the bytes that a peer can send only the segment that the device signed is taken.
func FuzzPut(f *testing.F) {
	w := newWorld(f, 1)
	c := w.chain(f, w.device, "main")
	segs := c.many(3)
	for _, s := range segs {
		f.Add(s.Bytes())
	}
	f.Add(segs[1].SignedHeader())
	f.Add(append(bytes.Clone(segs[2].Bytes()), 0))
	st := open(f, f.TempDir(), w.options())
	f.Fuzz(func(t *testing.T, data []byte) {
		err := st.Put(context.Background(), data)
		genuine := false
		for _, s := range segs {
			genuine = genuine || bytes.Equal(s.Bytes(), data)
		}
		if genuine != (err == nil) {
			t.Fatalf("genuine %v, put says %v", genuine, err)
		}
		var r *transport.Refusal
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("%v is no refusal", err)
		}
	})
}

// FuzzMutated flips one byte or cuts a genuine segment anywhere.
func FuzzMutated(f *testing.F) {
	w := newWorld(f, 1)
	c := w.chain(f, w.device, "main")
	segs := c.many(2)
	f.Add(0, 10, byte(1), 0)
	f.Add(1, 200, byte(128), 3)
	st := open(f, f.TempDir(), w.options())
	f.Fuzz(func(t *testing.T, which, at int, flip byte, cut int) {
		orig := segs[uint(which)%uint(len(segs))].Bytes()
		data := bytes.Clone(orig)
		data[uint(at)%uint(len(data))] ^= flip
		data = data[:uint(len(data))-uint(cut)%uint(len(data))]
		if err := st.Put(context.Background(), data); (err == nil) != bytes.Equal(data, orig) {
			t.Fatalf("changed %v: put says %v", !bytes.Equal(data, orig), err)
		}
	})
}
