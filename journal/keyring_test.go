// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// forged seals any plaintext under the header that change makes of the writer's next one, signs it and opens it.
func forged(t testing.TB, w *journal.Writer, k journal.Kind, plain []byte, change func(*journal.Header)) *journal.Segment {
	t.Helper()
	h := w.Next(k, stamp(3_700_000, 0))
	change(&h)
	payload := w.SealRaw(h, plain)
	h.Size, h.Payload = uint32(len(payload)), sha256.Sum256(payload)
	s, err := journal.Open(journal.Forge(testKey(1), h, payload), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeyring_RefusesAuthenticButHostilePlaintexts(t *testing.T) {
	w, epoch := newWriter(t)
	k := keyring(t, epoch)
	good, err := edge.MarshalSenML(testKey(1).ID(), 3_700_000, weather(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := edge.MarshalSenML(testKey(2).ID(), 3_700_000, weather(3, 0))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, 64<<20), nil)
	if len(bomb) > journal.MaxSegment/2 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	// Without a declared size the decoder learns the size only while it writes.
	var blind bytes.Buffer
	stream, err := zstd.NewWriter(&blind, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if _, err := stream.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	const oldest = 3_700_000 - 3_600_000
	three := func(h *journal.Header) { h.Count, h.Mono, h.Span = 3, 3_700_000, oldest }
	for _, c := range []struct {
		name   string
		plain  []byte
		change func(*journal.Header)
		want   error
	}{
		{"readings of another device", foreign, three, journal.ErrMalformed},
		{"fewer readings than signed", good, func(h *journal.Header) { three(h); h.Count = 4 }, journal.ErrMalformed},
		{"more readings than signed", good, func(h *journal.Header) { three(h); h.Count = 2 }, journal.ErrMalformed},
		{"other time range than signed", good, three, journal.ErrMalformed},
		{"nothing", nil, three, journal.ErrMalformed},
		{"bomb", bomb, func(h *journal.Header) { three(h); h.Coding = journal.CodingZstd }, journal.ErrOversize},
		{"bomb of undeclared size", blind.Bytes(), func(h *journal.Header) { three(h); h.Coding = journal.CodingZstd }, journal.ErrOversize},
		{"not packed", good, func(h *journal.Header) { three(h); h.Coding = journal.CodingZstd }, journal.ErrMalformed},
		{"cut pack", z.EncodeAll(good, nil)[:20], func(h *journal.Header) { three(h); h.Coding = journal.CodingZstd }, journal.ErrMalformed},
		{"null where a list is announced", []byte{0xf6}, three, journal.ErrMalformed},
		{"8192 readings announced in a byte", []byte{0x99, 0x20, 0x00}, func(h *journal.Header) { three(h); h.Count = 8192 }, journal.ErrMalformed},
	} {
		if _, err := k.Readings(forged(t, w, journal.KindReadings, c.plain, c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for name, plain := range map[string][]byte{
		"empty note":            {0x82, 0xf6, 0xf6},
		"undefined":             {0x82, 0xf7, 0xf6},
		"one field":             {0x81, 0xf6},
		"clock without a field": {0x82, 0x82, 0x50, 0x00, 0xf6},
		"text":                  {0x61, 'a'},
		"deep":                  append(bytes.Repeat([]byte{0x81}, 200), 0x80),
	} {
		if n, err := k.Note(forged(t, w, journal.KindNote, plain, func(*journal.Header) {})); !errors.Is(err, journal.ErrMalformed) && !errors.Is(err, journal.ErrNotCanonical) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

// The AEAD binds the header: a payload that is moved is refused although the device itself signs the new place.
func TestKeyring_RefusesPayloadsThatMoved(t *testing.T) {
	w, epoch := newWriter(t)
	k := keyring(t, epoch)
	s := commit(t, w)(w.Readings(testBoot, weather(12, 0)))
	for name, change := range map[string]func(*journal.Header){
		"another seq":         func(h *journal.Header) { h.Seq++ },
		"another predecessor": func(h *journal.Header) { h.Prev[0]++ },
		"another boot":        func(h *journal.Header) { h.Boot[0]++ },
		"another time":        func(h *journal.Header) { h.Mono++ },
		"another clock":       func(h *journal.Header) { h.Wall = goldenWall },
		"another span":        func(h *journal.Header) { h.Span-- },
		"another count":       func(h *journal.Header) { h.Count++ },
		"another coding":      func(h *journal.Header) { h.Coding = journal.CodingPlain },
	} {
		h := s.Header
		change(&h)
		moved, err := journal.Open(journal.Forge(testKey(1), h, s.Plain()), testFleet)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := k.Readings(moved); !errors.Is(err, journal.ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := s.Header
	h.Kind, h.Count, h.Span = journal.KindNote, 0, 0
	moved, err := journal.Open(journal.Forge(testKey(1), h, s.Plain()), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Note(moved); !errors.Is(err, journal.ErrSealed) {
		t.Errorf("as a note: %v", err)
	}
	if _, err := k.Note(s); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("readings asked for as a note: %v", err)
	}
}

func TestKeyring_ChainsAndEpochsNeverMix(t *testing.T) {
	w, epoch := newWriter(t)
	data := commit(t, w)(w.Readings(testBoot, weather(12, 0)))
	next := commit(t, w)(w.Epoch(readers(t, testReader(t, 9)), nil, stamp(4_000_000, 0)))
	later := commit(t, w)(w.Readings(testBoot, weather(13, 0)))

	k := journal.NewKeyring(testReader(t, 9))
	if _, err := k.Readings(data); !errors.Is(err, journal.ErrUnknownEpoch) {
		t.Errorf("before the epoch: %v", err)
	}
	if _, err := k.Learn(data); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("learning from readings: %v", err)
	}
	k = keyring(t, epoch, next)
	if _, err := k.Readings(later); err != nil {
		t.Error(err)
	}
	if _, err := k.Readings(data); !errors.Is(err, journal.ErrUnknownEpoch) {
		t.Errorf("an epoch that ended is not forgotten: %v", err)
	}
	// The wraps are bound to chain and epoch: a device that signs them again elsewhere gets them refused.
	for name, change := range map[string]func(*journal.Header){
		"another epoch":       func(h *journal.Header) { h.Seq, h.Epoch, h.Prev = 5, 5, journal.Hash{1} },
		"another incarnation": func(h *journal.Header) { h.Chain.Incarnation[0]++ },
		"another stream":      func(h *journal.Header) { h.Chain.Stream = "other" },
	} {
		h := epoch.Header
		change(&h)
		moved, err := journal.Open(journal.Forge(testKey(1), h, epoch.Plain()), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Learn(moved); !errors.Is(err, journal.ErrSealed) {
			t.Errorf("wraps moved to %s: %v", name, err)
		}
	}
	// Another chain with an epoch of the same number neither opens with this key nor replaces it.
	other := data.Header
	other.Chain.Incarnation[0]++
	foreign, err := journal.Open(journal.Forge(testKey(1), other, data.Plain()), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring(t, epoch).Readings(foreign); !errors.Is(err, journal.ErrUnknownEpoch) {
		t.Errorf("another incarnation with this one's key: %v", err)
	}
	// A wrong epoch key under the right name.
	again := epoch.Header
	twin, err := journal.ResumeWriter(testChain(1), nil, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	wrong := commit(t, twin)(twin.Epoch(readers(t, testReader(t, 9)), nil, stamp(1000, 0)))
	if wrong.Epoch != again.Epoch {
		t.Fatal("the twin's epoch has another name")
	}
	if _, err := keyring(t, wrong).Readings(data); !errors.Is(err, journal.ErrSealed) {
		t.Errorf("with a wrong epoch key: %v", err)
	}
}

func TestKeyring_WrongReaderAndCollidingTags(t *testing.T) {
	w, epoch := newWriter(t)
	stranger := journal.NewKeyring(testReader(t, 7))
	if _, err := stranger.Learn(epoch); !errors.Is(err, journal.ErrNotReader) {
		t.Errorf("a stranger learns: %v", err)
	}
	data := commit(t, w)(w.Readings(testBoot, weather(2, 0)))
	if _, err := stranger.Readings(data); !errors.Is(err, journal.ErrUnknownEpoch) {
		t.Errorf("a stranger reads: %v", err)
	}
	// Somebody else's wrap carries our tag and stands first.
	wraps, err := journal.Wraps(epoch.Plain())
	if err != nil || len(wraps) != 2 {
		t.Fatalf("%d wraps, %v", len(wraps), err)
	}
	public := testReader(t, 9).Public()
	for name, list := range map[string][]any{
		"collision first": {journal.SameTag(public), wraps[0], wraps[1]},
		"collision alone": {journal.SameTag(public)},
		"nobody":          {},
	} {
		payload, err := journal.Encode([]any{nil, list})
		if err != nil {
			t.Fatal(err)
		}
		h := epoch.Header
		h.Size, h.Payload = uint32(len(payload)), sha256.Sum256(payload)
		s, err := journal.Open(journal.Forge(testKey(1), h, payload), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]error{"collision alone": journal.ErrSealed, "nobody": journal.ErrNotReader}[name]
		if _, err := journal.NewKeyring(testReader(t, 9)).Learn(s); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func TestKeyring_RefusesMalformedWraps(t *testing.T) {
	_, epoch := newWriter(t)
	own := testChain(1).Incarnation
	tag := sha256.Sum256(testReader(t, 9).Public())
	for name, p := range map[string]any{
		"continues itself": []any{[]any{own, []any{0, journal.Hash{}}}, []any{}},
		"short wrap":       []any{nil, []any{[]any{tag[:8], []byte{1, 2, 3}}}},
		"empty wrap":       []any{nil, []any{[]any{tag[:8], []byte{}}}},
		"long tag":         []any{nil, []any{[]any{tag[:], make([]byte, 1168)}}},
		"wraps null":       []any{nil, nil},
		"one field":        []any{nil},
	} {
		payload := encode(t, p)
		h := epoch.Header
		h.Size, h.Payload = uint32(len(payload)), sha256.Sum256(payload)
		s, err := journal.Open(journal.Forge(testKey(1), h, payload), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := journal.NewKeyring(testReader(t, 9)).Learn(s); err == nil {
			t.Errorf("%s: learned", name)
		}
	}
}
