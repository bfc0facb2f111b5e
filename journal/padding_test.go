// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// padme is the paper's definition, with logarithms, as an oracle for the shifts that we use.
func padme(l int) int {
	e := int(math.Floor(math.Log2(float64(l))))
	s := int(math.Floor(math.Log2(float64(e)))) + 1
	step := 1 << (e - s)
	return (l + step - 1) / step * step
}

func TestPad_AgainstThePaper(t *testing.T) {
	sizes := map[int]int{} // how many lengths share a padded size
	for n := range journal.MaxSegment {
		padded := journal.PaddedSize(n)
		if want := padme(max(n+1, 256)); padded != want {
			t.Fatalf("%d bytes are padded to %d, want %d", n, padded, want)
		}
		if n > 256 && float64(padded) > 1.0625*float64(n+1) {
			t.Fatalf("%d bytes are padded to %d", n, padded)
		}
		sizes[padded]++
	}
	if len(sizes) > 200 {
		t.Errorf("%d sizes up to %d bytes: want a few for each power of two", len(sizes), journal.MaxSegment)
	}
}

func TestUnpad_OneFormOnly(t *testing.T) {
	for _, n := range []int{0, 1, 254, 255, 256, 271, 272, 1000, 48 << 10} {
		for _, last := range []byte{0, 1, 0x80} { // a payload may end with what padding looks like
			packed := bytes.Repeat([]byte{last}, n)
			got, err := journal.Unpad(journal.Pad(bytes.Clone(packed)))
			if err != nil || !bytes.Equal(got, packed) {
				t.Fatalf("%d bytes of %02x come back as %d: %v", n, last, len(got), err)
			}
		}
	}
	good := journal.Pad([]byte("abc"))
	for name, bad := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 256), "no mark": bytes.Repeat([]byte{1}, 256),
		"shorter": good[:255], "longer": append(bytes.Clone(good), 0), "a size more than needed": append(bytes.Clone(good), make([]byte, 16)...),
	} {
		if _, err := journal.Unpad(bad); !errors.Is(err, journal.ErrNotCanonical) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a hub sees of a stream: that it holds readings, how many, and about how long they are. It must not see which.
func TestPadding_HidesWhichReadingsTheseAre(t *testing.T) {
	size := func(name, unit, text string, value float64, n int) uint32 {
		w, _ := newWriter(t)
		var batch []edge.Reading
		for i := range n {
			q := edge.Quantity{Name: name, Unit: unit}
			if text != "" {
				q.Kind = edge.Text
			}
			batch = append(batch, edge.Reading{Sensor: "a", At: edge.Instant{Mono: int64(i)}, Sample: edge.Sample{Quantity: q, Value: value, Text: text}})
		}
		return commit(t, w)(w.Readings(testBoot, batch)).Size
	}
	want := size("t", "Cel", "", 20, 1)
	for name, got := range map[string]uint32{
		"a long name":       size("volatile-organic-compounds", "Cel", "", 20, 1),
		"many digits":       size("t", "Cel", "", 20.123456789, 1),
		"a text":            size("t", "", "the door at the back was opened", 0, 1),
		"another unit":      size("t", "%RH", "", 55, 1),
		"two of them":       size("t", "Cel", "", 20, 2),
		"a text of 90 byte": size("t", "", strings.Repeat("x", 90), 0, 1),
	} {
		if got != want {
			t.Errorf("%s: %d bytes, the plain reading has %d", name, got, want)
		}
	}
	// And it must be able to fail: sixty texts do not look like one.
	if size("t", "", "the door at the back was opened "+fmt.Sprint(1.0/3), 0, 60) == want {
		t.Error("sixty texts have the size of one reading")
	}
}

// A device that leaves the padding out gives its readings away; readers and hubs refuse what it makes.
func TestPadding_StrippedIsRefused(t *testing.T) {
	w, epoch := newWriter(t)
	plain, err := edge.MarshalSenML(testKey(1).ID(), 3_600_000, weather(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	h := w.Next(journal.KindReadings, stamp(3_600_000, 0))
	h.Count = 1
	open := func(padded []byte) error {
		payload := w.SealUnpadded(h, padded)
		s, err := journal.Open(journal.Forge(testKey(1), described(h, payload), payload), testFleet)
		if err == nil {
			_, err = keyring(t, epoch).Readings(s)
		}
		return err
	}
	if err := open(journal.Pad(bytes.Clone(plain))); err != nil {
		t.Fatal(err)
	}
	if err := open(plain); !errors.Is(err, journal.ErrNotCanonical) {
		t.Errorf("unpadded: %v", err)
	}
	if err := open(append(bytes.Clone(plain), make([]byte, 256-len(plain))...)); !errors.Is(err, journal.ErrNotCanonical) {
		t.Errorf("padded without a mark: %v", err)
	}
	if err := open(append(append(bytes.Clone(plain), 0x80), make([]byte, 320-len(plain)-1)...)); !errors.Is(err, journal.ErrNotCanonical) {
		t.Errorf("padded to another size: %v", err)
	}
}
