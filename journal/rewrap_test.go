// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// described is the header with the facts about its payload.
func described(h journal.Header, payload []byte) journal.Header {
	h.Size, h.Payload = uint32(len(payload)), sha256.Sum256(payload)
	return h
}

// rewraps makes a segment of rewraps by the member with seed 2, who reads with seed 9, for the reader with seed 7.
func rewraps(t testing.TB, epochs ...*journal.Segment) *journal.Segment {
	t.Helper()
	chain := testChain(2)
	chain.Stream = journal.RewrapStream
	w, err := journal.ResumeWriter(chain, nil, testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	var list []journal.Rewrap
	for _, e := range epochs {
		r, err := keyring(t, e).Rewrap(testKey(2).ID(), e.Chain, e.Epoch, readers(t, testReader(t, 7))[0])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return commit(t, w)(w.Rewraps(list, stamp(1000, 0)))
}

func TestRewrap_OpensTheEpochForItsReaderOnly(t *testing.T) {
	w, epoch := newWriter(t)
	data := commit(t, w)(w.Readings(testBoot, weather(12, 0)))
	seg, err := journal.Open(rewraps(t, epoch).Bytes(), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	list, err := seg.Rewraps()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d rewraps, %v", len(list), err)
	}
	fresh := journal.NewKeyring(testReader(t, 7))
	if _, err := fresh.Learn(epoch); !errors.Is(err, journal.ErrNotReader) {
		t.Fatalf("the new reader reads without a rewrap: %v", err)
	}
	if !fresh.For(list[0]) || journal.NewKeyring(testReader(t, 6)).For(list[0]) {
		t.Error("the rewrap names another reader")
	}
	if err := fresh.LearnRewrap(epoch, seg.Chain.Device, list[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := fresh.Readings(data); err != nil || len(got) != 12 {
		t.Errorf("%d readings, %v", len(got), err)
	}
	for name, learn := range map[string]func(k *journal.Keyring) error{
		"another reader": func(*journal.Keyring) error {
			return journal.NewKeyring(testReader(t, 6)).LearnRewrap(epoch, testKey(2).ID(), list[0])
		},
		"another member's": func(k *journal.Keyring) error { return k.LearnRewrap(epoch, testKey(3).ID(), list[0]) },
		"not an epoch":     func(k *journal.Keyring) error { return k.LearnRewrap(data, testKey(2).ID(), list[0]) },
		"moved to another one": func(k *journal.Keyring) error {
			return k.LearnRewrap(moved(t, epoch), testKey(2).ID(), renamed(list[0]))
		},
	} {
		if err := learn(journal.NewKeyring(testReader(t, 7))); !errors.Is(err, journal.ErrSealed) && !errors.Is(err, journal.ErrForeignChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// moved is the same epoch in another chain of the device, renamed a rewrap that says so.
func moved(t *testing.T, epoch *journal.Segment) *journal.Segment {
	t.Helper()
	h := epoch.Header
	h.Chain.Stream = "other"
	s, err := journal.Open(journal.Forge(testKey(1), h, epoch.Plain()), testFleet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func renamed(r journal.Rewrap) journal.Rewrap {
	r.Chain.Stream = "other"
	return r
}

// A rewrap with a key of the rewrapper's own invention opens nothing.
func TestRewrap_LieIsNoticed(t *testing.T) {
	w, epoch := newWriter(t)
	data := commit(t, w)(w.Readings(testBoot, weather(12, 0)))
	twin, err := journal.ResumeWriter(testChain(1), nil, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	other := commit(t, twin)(twin.Epoch(readers(t, testReader(t, 9)), nil, stamp(1000, 0)))
	list, err := rewraps(t, other).Rewraps()
	if err != nil {
		t.Fatal(err)
	}
	k := journal.NewKeyring(testReader(t, 7))
	if err := k.LearnRewrap(epoch, testKey(2).ID(), list[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Readings(data); !errors.Is(err, journal.ErrSealed) {
		t.Errorf("with a false key: %v", err)
	}
}

func TestRewraps_RefusesWhatNobodyMeans(t *testing.T) {
	_, epoch := newWriter(t)
	good, err := rewraps(t, epoch).Rewraps()
	if err != nil {
		t.Fatal(err)
	}
	chain := testChain(2)
	chain.Stream = journal.RewrapStream
	w, err := journal.ResumeWriter(chain, nil, testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Rewraps(nil, stamp(1, 0)); err == nil {
		t.Error("wrote none")
	}
	if _, err := w.Rewraps(make([]journal.Rewrap, journal.MaxRewraps+1), stamp(1, 0)); !errors.Is(err, journal.ErrOversize) {
		t.Errorf("wrote too many: %v", err)
	}
	full := bytes.Repeat([]byte{0}, 1168)
	most := make([]journal.Rewrap, journal.MaxRewraps)
	for i := range most {
		most[i] = journal.Rewrap{Chain: testChain(1), Epoch: journal.MaxSeq, Sealed: full}
	}
	if s, err := w.Rewraps(most, stamp(1, 0)); err != nil {
		t.Errorf("the largest number does not fit: %v", err)
	} else if _, err := s.Rewraps(); err != nil {
		t.Error(err)
	}
	h := rewraps(t, epoch).Header
	foreign := good[0]
	foreign.Chain.Fleet[0]++
	self := good[0]
	self.Chain.Stream = journal.RewrapStream
	for name, list := range map[string]any{
		"of another fleet": []journal.Rewrap{foreign}, "of a chain of rewraps": []journal.Rewrap{self},
		"fewer than counted": []journal.Rewrap{}, "not a list": good[0], "null": nil,
	} {
		payload := encode(t, list)
		s, err := journal.Open(journal.Forge(testKey(2), described(h, payload), payload), testFleet)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := s.Rewraps(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := epoch.Rewraps(); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("an epoch as rewraps: %v", err)
	}
}

// FuzzRewraps: what is read is written again as it was.
func FuzzRewraps(f *testing.F) {
	_, epoch := newWriter(f)
	seg := rewraps(f, epoch)
	f.Add(seg.Plain(), uint16(1))
	f.Add([]byte{0x80}, uint16(0))
	f.Fuzz(func(t *testing.T, payload []byte, count uint16) {
		h := described(seg.Header, payload)
		h.Count = uint32(count) % journal.MaxReadings
		s, err := journal.Open(journal.Forge(testKey(2), h, payload), testFleet)
		if err != nil {
			return // too long
		}
		list, err := s.Rewraps()
		if err != nil {
			return
		}
		if again, err := journal.Encode(list); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("reads and encodes to %x, %v", again, err)
		}
		k := journal.NewKeyring(testReader(t, 7))
		for _, r := range list {
			_ = k.LearnRewrap(epoch, testKey(2).ID(), r) // must not panic
		}
	})
}

// The ways down from the one cipher: another suite in a wrap, a key that anybody knows, a short key, a wrap that is gone.
func TestDowngrade_OtherSuiteInAWrapIsRefused(t *testing.T) {
	w, epoch := newWriter(t)
	reader, info := testReader(t, 9), encode(t, []any{"streembit/epoch/1", w.Chain(), uint64(0)})
	public, err := hpke.MLKEM768X25519().NewPublicKey(reader.Public())
	if err != nil {
		t.Fatal(err)
	}
	tag := sha256.Sum256(reader.Public())
	for name, suite := range map[string]struct {
		kdf  hpke.KDF
		aead hpke.AEAD
		want error
	}{
		"the suite":   {hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), nil},
		"AES-128-GCM": {hpke.HKDFSHA256(), hpke.AES128GCM(), journal.ErrSealed},
		"SHA-512":     {hpke.HKDFSHA512(), hpke.ChaCha20Poly1305(), journal.ErrSealed},
	} {
		sealed, err := hpke.Seal(public, suite.kdf, suite.aead, info, bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		payload := encode(t, []any{nil, []any{[]any{tag[:8], sealed}}})
		s, err := journal.Open(journal.Forge(testKey(1), described(epoch.Header, payload), payload), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := journal.NewKeyring(reader).Learn(s); !errors.Is(err, suite.want) {
			t.Errorf("%s: got %v, want %v", name, err, suite.want)
		}
	}
}

func TestDowngrade_KeyThatAnybodyKnowsIsRefused(t *testing.T) {
	for key, want := range map[byte]error{0: journal.ErrMalformed, 7: nil} {
		w, err := journal.ResumeWriter(testChain(1), nil, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		epoch := w.SetEpochKey(bytes.Repeat([]byte{key}, 32), readers(t, testReader(t, 9))[0], stamp(1000, 0))
		if _, err := journal.NewKeyring(testReader(t, 9)).Learn(epoch); !errors.Is(err, want) {
			t.Errorf("a key of bytes %d: got %v, want %v", key, err, want)
		}
	}
}

func TestDowngrade_ShortOrLongKeyIsRefused(t *testing.T) {
	w, epoch := newWriter(t)
	reader, info := testReader(t, 9), encode(t, []any{"streembit/epoch/1", w.Chain(), uint64(0)})
	public, err := hpke.MLKEM768X25519().NewPublicKey(reader.Public())
	if err != nil {
		t.Fatal(err)
	}
	tag := sha256.Sum256(reader.Public())
	for _, n := range []int{0, 16, 31, 33, 64} {
		sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, bytes.Repeat([]byte{1}, n))
		if err != nil {
			t.Fatal(err)
		}
		payload := encode(t, []any{nil, []any{[]any{tag[:8], sealed}}})
		s, err := journal.Open(journal.Forge(testKey(1), described(epoch.Header, payload), payload), testFleet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := journal.NewKeyring(reader).Learn(s); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

// A hub that takes a wrap out, or changes how a payload is said to be coded, breaks the signature; it cannot make readers fall back.
func TestDowngrade_StrippedWrapAndOtherCodingBreakTheSignature(t *testing.T) {
	w, epoch := newWriter(t)
	wraps, err := journal.Wraps(epoch.Plain())
	if err != nil {
		t.Fatal(err)
	}
	stripped := encode(t, []any{nil, wraps[:1]})
	raw := encode(t, []any{epoch.SignedHeader(), stripped})
	if _, err := journal.Open(raw, testFleet); !errors.Is(err, journal.ErrTampered) {
		t.Errorf("a stripped wrap: %v", err)
	}
	data := commit(t, w)(w.Readings(testBoot, []edge.Reading{weather(1, 0)[0]}))
	for coding := range journal.Coding(4) {
		h := data.Header
		h.Coding = coding
		s, err := journal.Open(journal.Forge(testKey(1), h, data.Plain()), testFleet)
		if err == nil {
			_, err = keyring(t, epoch).Readings(s)
		}
		if (err == nil) != (coding == data.Coding) {
			t.Errorf("coding %d instead of %d: %v", coding, data.Coding, err)
		}
		s, err = journal.Open(encode(t, []any{resigned(t, h), data.Plain()}), testFleet)
		if coding != data.Coding && err == nil {
			t.Errorf("coding %d by a hub that signs itself: %v, %v", coding, s, err)
		}
	}
}

// resigned is the header as somebody else, a hub say, can sign it.
func resigned(t *testing.T, h journal.Header) []byte {
	t.Helper()
	raw, err := journal.Encode(h)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := journal.SignRecord(testKey(5), journal.TypeSegment, raw)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
