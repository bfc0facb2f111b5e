// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// readingsHeader is a valid header of a readings segment with the payload.
func readingsHeader(payload []byte) journal.Header {
	return journal.Header{Version: journal.Version, Chain: testChain(1), Seq: 2, Prev: journal.Hash{1}, Epoch: 1,
		Kind: journal.KindReadings, Boot: testBoot, Mono: 1000, Span: 10, Wall: goldenWall, Count: 1,
		Size: uint32(len(payload)), Payload: sha256.Sum256(payload)}
}

func TestOpen_RefusesHeaders(t *testing.T) {
	payload := bytes.Repeat([]byte("payload "), 34) // 272 bytes: a padded size and the tag
	for _, c := range []struct {
		name   string
		change func(*journal.Header)
		want   error
	}{
		{"valid", func(*journal.Header) {}, nil},
		{"unknown version", func(h *journal.Header) { h.Version = 2 }, journal.ErrVersion},
		{"version 0", func(h *journal.Header) { h.Version = 0 }, journal.ErrVersion},
		{"long version", func(h *journal.Header) { h.Version = 200 }, journal.ErrVersion},
		{"wrong fleet", func(h *journal.Header) { h.Chain.Fleet[0]++ }, journal.ErrWrongFleet},
		{"foreign signer", func(h *journal.Header) { h.Chain.Device = testKey(2).ID() }, journal.ErrForeignSigner},
		{"stream without name", func(h *journal.Header) { h.Chain.Stream = "" }, journal.ErrMalformed},
		{"stream with a path", func(h *journal.Header) { h.Chain.Stream = "../etc" }, journal.ErrMalformed},
		{"kind 0", func(h *journal.Header) { h.Kind = 0 }, journal.ErrMalformed},
		{"kind 6", func(h *journal.Header) { h.Kind = 6 }, journal.ErrMalformed},
		{"rewraps in a stream of readings", func(h *journal.Header) { h.Kind, h.Epoch, h.Span = journal.KindRewrap, 0, 0 }, journal.ErrMalformed},
		{"readings in the stream of rewraps", func(h *journal.Header) { h.Chain.Stream = journal.RewrapStream }, journal.ErrMalformed},
		{"rewraps with an epoch", func(h *journal.Header) {
			h.Chain.Stream, h.Kind, h.Span = journal.RewrapStream, journal.KindRewrap, 0
		}, journal.ErrMalformed},
		{"rewraps", func(h *journal.Header) {
			h.Chain.Stream, h.Kind, h.Epoch, h.Span = journal.RewrapStream, journal.KindRewrap, 0, 0
		}, nil},
		{"unpadded", func(h *journal.Header) { h.Size-- }, journal.ErrNotCanonical},
		{"below the smallest padded size", func(h *journal.Header) { h.Size = 256 }, journal.ErrNotCanonical},
		{"coding 2", func(h *journal.Header) { h.Coding = 2 }, journal.ErrMalformed},
		{"packed epoch", func(h *journal.Header) { h.Kind, h.Epoch, h.Count, h.Span, h.Coding = journal.KindEpoch, 2, 0, 0, 1 }, journal.ErrMalformed},
		{"no readings", func(h *journal.Header) { h.Count = 0 }, journal.ErrMalformed},
		{"counting note", func(h *journal.Header) { h.Kind, h.Span = journal.KindNote, 0 }, journal.ErrMalformed},
		{"too many readings", func(h *journal.Header) { h.Count = journal.MaxReadings + 1 }, journal.ErrOversize},
		{"size over the limit", func(h *journal.Header) { h.Size = journal.MaxSegment + 1 }, journal.ErrOversize},
		{"size beyond 32 bits as int", func(h *journal.Header) { h.Size = 1<<32 - 1 }, journal.ErrOversize},
		{"wrong size", func(h *journal.Header) { h.Size += 16 }, journal.ErrTampered},
		{"wrong hash", func(h *journal.Header) { h.Payload[31]++ }, journal.ErrTampered},
		{"epoch after seq", func(h *journal.Header) { h.Epoch = 3 }, journal.ErrMalformed},
		{"readings that start an epoch", func(h *journal.Header) { h.Epoch = 2 }, journal.ErrMalformed},
		{"epoch named by another seq", func(h *journal.Header) { h.Kind, h.Count, h.Span = journal.KindEpoch, 0, 0 }, journal.ErrMalformed},
		{"fleet log with an epoch", func(h *journal.Header) { h.Kind, h.Span = journal.KindFleet, 0 }, journal.ErrMalformed},
		{"seq 0 with a predecessor", func(h *journal.Header) { h.Seq, h.Epoch = 0, 0 }, journal.ErrMalformed},
		{"seq without a predecessor", func(h *journal.Header) { h.Prev = journal.Hash{} }, journal.ErrMalformed},
		{"seq beyond an SQL integer", func(h *journal.Header) { h.Seq = journal.MaxSeq + 1 }, journal.ErrMalformed},
		{"highest seq", func(h *journal.Header) { h.Seq = journal.MaxSeq }, nil},
		{"negative mono", func(h *journal.Header) { h.Mono = -1 }, journal.ErrMalformed},
		{"negative span", func(h *journal.Header) { h.Span = -1 }, journal.ErrMalformed},
		{"span before boot", func(h *journal.Header) { h.Span = 1001 }, journal.ErrMalformed},
		{"negative wall", func(h *journal.Header) { h.Wall = -1 }, journal.ErrMalformed},
		{"wall after 9999", func(h *journal.Header) { h.Wall = journal.MaxTime + 1 }, journal.ErrMalformed},
		{"mono after 9999", func(h *journal.Header) { h.Mono = journal.MaxTime + 1 }, journal.ErrMalformed},
		{"latest times", func(h *journal.Header) { h.Mono, h.Wall, h.Span = journal.MaxTime, journal.MaxTime, journal.MaxTime }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := readingsHeader(payload)
			c.change(&h)
			_, err := journal.Open(journal.Forge(testKey(1), h, payload), testFleet)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// signByHand makes a COSE_Sign1 with any headers, signed as RFC 9052 §4.4 says.
func signByHand(t *testing.T, protected, unprotected, payload []byte) []byte {
	t.Helper()
	sig, err := testKey(1).Sign(encode(t, []any{"Signature1", protected, []byte{}, payload}))
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, cbor.Tag{Number: 18, Content: []any{protected, cbor.RawMessage(unprotected), payload, sig}})
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every record here carries a good signature of the right device; only its form is wrong.
func TestOpenHeader_RefusesOtherEncodingsOfTheSame(t *testing.T) {
	header, err := journal.Encode(readingsHeader(make([]byte, 272)))
	if err != nil {
		t.Fatal(err)
	}
	good := append([]byte{0xa2, 1, 0x27, 3, 0x78, byte(len(journal.TypeSegment))}, journal.TypeSegment...)
	reordered := append(append([]byte{0xa2, 3, 0x78, byte(len(journal.TypeSegment))}, journal.TypeSegment...), 1, 0x27)
	longLength := append([]byte{0xa2, 1, 0x27, 3, 0x79, 0, byte(len(journal.TypeSegment))}, journal.TypeSegment...)
	state := append([]byte{0xa2, 1, 0x27, 3, 0x78, byte(len(journal.TypeState))}, journal.TypeState...)
	empty := []byte{0xa0}
	record := signByHand(t, good, empty, header)
	cut := func(at int, old, fresh string) []byte {
		if !bytes.HasPrefix(record[at:], []byte(old)) {
			t.Fatalf("the record has no %x at byte %d", old, at)
		}
		return slices.Concat(record[:at], []byte(fresh), record[at+len(old):])
	}
	seqAt := bytes.Index(header, bytes.Repeat([]byte{0x1c}, 16)) + 16
	longSeq := slices.Concat(header[:seqAt], []byte{0x18, 2}, header[seqAt+1:])
	indefinite := slices.Concat([]byte{0x9f}, header[1:], []byte{0xff})
	for _, c := range []struct {
		name   string
		record []byte
		want   error
	}{
		{"canonical", record, nil},
		{"protected header reordered", signByHand(t, reordered, empty, header), journal.ErrNotCanonical},
		{"protected header with a longer length", signByHand(t, longLength, empty, header), journal.ErrNotCanonical},
		{"protected header empty", signByHand(t, []byte{}, empty, header), journal.ErrNotCanonical},
		{"algorithm ES256", signByHand(t, bytes.Replace(good, []byte{1, 0x27}, []byte{1, 0x26}, 1), empty, header), journal.ErrNotCanonical},
		{"fleet state offered as segment", signByHand(t, state, empty, header), journal.ErrNotCanonical},
		{"unprotected key id", signByHand(t, good, []byte{0xa1, 4, 0x41, 0x31}, header), journal.ErrNotCanonical},
		{"unprotected of indefinite length", signByHand(t, good, []byte{0xbf, 0xff}, header), journal.ErrNotCanonical},
		{"seq in two bytes", signByHand(t, good, empty, longSeq), journal.ErrNotCanonical},
		{"header of indefinite length", signByHand(t, good, empty, indefinite), journal.ErrMalformed},
		{"header with bytes after it", signByHand(t, good, empty, append(bytes.Clone(header), 0)), journal.ErrMalformed},
		{"empty payload", signByHand(t, good, empty, []byte{}), journal.ErrMalformed},
		{"untagged", record[1:], journal.ErrMalformed},
		{"tag in two bytes", cut(0, "\xd2", "\xd8\x12"), journal.ErrMalformed},
		{"array in two bytes", cut(1, "\x84", "\x98\x04"), journal.ErrMalformed},
		{"indefinite array", append(cut(1, "\x84", "\x9f"), 0xff), journal.ErrMalformed},
		{"protected in three bytes", cut(2, "\x58", "\x59\x00"), journal.ErrNotCanonical},
		{"signature in three bytes", cut(len(record)-66, "\x58\x40", "\x59\x00\x40"), journal.ErrNotCanonical},
		{"payload detached", slices.Concat(record[:4+len(good)+1], []byte{0xf6}, record[len(record)-66:]), journal.ErrMalformed},
		{"bytes after the record", append(bytes.Clone(record), 0), journal.ErrMalformed},
		{"no signature", append(bytes.Clone(record[:len(record)-66]), 0x40), journal.ErrMalformed},
		{"larger than a header may be", append(bytes.Clone(record), make([]byte, journal.MaxHeader)...), journal.ErrOversize},
		{"nothing", nil, journal.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := journal.OpenHeader(c.record, testFleet); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestOpen_RefusesOtherFramings(t *testing.T) {
	raw := goldenSegments(t)[2].Bytes()
	headerEnd := bytes.Index(raw, goldenSegments(t)[2].Plain()) - 3 // the payload has a three-byte head
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"array in two bytes", slices.Concat([]byte{0x98, 2}, raw[1:]), journal.ErrMalformed},
		{"indefinite array", slices.Concat([]byte{0x9f}, raw[1:], []byte{0xff}), journal.ErrMalformed},
		{"header length in five bytes", slices.Concat([]byte{0x82, 0x5a, 0, 0}, raw[2:]), journal.ErrNotCanonical},
		{"header length in nine bytes", slices.Concat([]byte{0x82, 0x5b, 0, 0, 0, 0, 0, 0}, raw[2:]), journal.ErrNotCanonical},
		{"huge length", []byte{0x82, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, journal.ErrMalformed},
		{"payload length in five bytes", slices.Concat(raw[:headerEnd], []byte{0x5a, 0, 0}, raw[headerEnd+1:]), journal.ErrNotCanonical},
		{"payload in indefinite pieces", slices.Concat(raw[:headerEnd], []byte{0x5f}, raw[headerEnd:], []byte{0xff}), journal.ErrNotCanonical},
		{"bytes after it", append(bytes.Clone(raw), 0), journal.ErrMalformed},
		{"oversize", make([]byte, journal.MaxSegment+1), journal.ErrOversize},
		{"nothing", nil, journal.ErrMalformed},
	} {
		if _, err := journal.Open(c.raw, testFleet); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestOpen_RefusesEveryChangedByteAndEveryTruncation(t *testing.T) {
	raw := goldenSegments(t)[1].Bytes()
	for i := range raw {
		for _, flip := range []byte{1, 0x80, 0xff} {
			changed := bytes.Clone(raw)
			changed[i] ^= flip
			if _, err := journal.Open(changed, testFleet); err == nil {
				t.Fatalf("byte %d changed by %#x: opened", i, flip)
			}
		}
		if _, err := journal.Open(raw[:i], testFleet); err == nil {
			t.Fatalf("cut to %d bytes: opened", i)
		}
	}
}

func TestOpenFrom_NamesWhatIsWrong(t *testing.T) {
	raw := goldenSegments(t)[1].Bytes()
	other := testChain(1)
	other.Incarnation[0]++
	for _, c := range []struct {
		name  string
		chain journal.Chain
		seq   uint64
		want  error
	}{
		{"as asked", testChain(1), 1, nil},
		{"foreign signer", testChain(2), 1, journal.ErrForeignSigner},
		{"other incarnation", other, 1, journal.ErrForeignChain},
		{"bad seq", testChain(1), 2, journal.ErrBadSeq},
	} {
		if _, err := journal.OpenFrom(raw, c.chain, c.seq); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLink_RefusesGapsAndForks(t *testing.T) {
	s := goldenSegments(t)
	l0, l1 := s[0].Link(), s[1].Link()
	forked := l1
	forked.Hash[0]++
	headless := s[0].Header
	headless.Prev[0]++
	for _, c := range []struct {
		name string
		link *journal.Link
		next *journal.Header
		want error
	}{
		{"first", nil, &s[0].Header, nil},
		{"next", &l1, &s[2].Header, nil},
		{"hole", &l0, &s[2].Header, journal.ErrBadSeq},
		{"again", &l1, &s[1].Header, journal.ErrBadSeq},
		{"backwards", &l1, &s[0].Header, journal.ErrBadSeq},
		{"start in the middle", nil, &s[1].Header, journal.ErrBadSeq},
		{"forked chain", &forked, &s[2].Header, journal.ErrFork},
		{"start with a predecessor", nil, &headless, journal.ErrFork},
		{"wrapped around", &journal.Link{Seq: 1<<64 - 1, Hash: journal.Hash{1}}, &s[0].Header, journal.ErrFork},
	} {
		if err := c.link.Check(c.next); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestFork_Prove(t *testing.T) {
	key := testKey(1)
	headers := func(change func(*journal.Header)) []byte {
		h := readingsHeader(make([]byte, 272))
		change(&h)
		raw, err := journal.Encode(h)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := journal.SignRecord(key, journal.TypeSegment, raw)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	a := headers(func(*journal.Header) {})
	b := headers(func(h *journal.Header) { h.Boot[0]++ })
	chain, seq, err := journal.Fork{A: a, B: b}.Prove(testFleet)
	if err != nil || chain != testChain(1) || seq != 2 {
		t.Errorf("a proven fork: %s, %d, %v", chain, seq, err)
	}
	foreign := bytes.Clone(b)
	foreign[len(foreign)-1] ^= 1
	for name, f := range map[string]journal.Fork{
		"the same header twice": {A: a, B: a},
		"another seq":           {A: a, B: headers(func(h *journal.Header) { h.Seq = 3 })},
		"another incarnation":   {A: a, B: headers(func(h *journal.Header) { h.Chain.Incarnation[0]++ })},
		"bad signature":         {A: a, B: foreign},
		"half":                  {A: a},
	} {
		if _, _, err := f.Prove(testFleet); err == nil {
			t.Errorf("%s: proves a fork", name)
		}
	}
	if _, _, err := (journal.Fork{A: a, B: b}).Prove(journal.FleetID{}); !errors.Is(err, journal.ErrWrongFleet) {
		t.Errorf("in another fleet: %v", err)
	}
}

func TestRecord_ContentTypesNeverStandIn(t *testing.T) {
	record, err := journal.SignRecord(testKey(1), journal.TypeState, []byte{0x80})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.OpenRecord(testKey(1).ID(), journal.TypeState, record); err != nil {
		t.Error(err)
	}
	if _, err := journal.OpenRecord(testKey(1).ID(), journal.TypeSegment, record); !errors.Is(err, journal.ErrNotCanonical) {
		t.Errorf("as a segment: %v", err)
	}
	if _, err := journal.OpenRecord(testKey(2).ID(), journal.TypeState, record); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("by another signer: %v", err)
	}
	if _, err := journal.SignRecord(testKey(1), journal.TypeState, nil); err == nil {
		t.Error("signed a record without payload")
	}
	var broken brokenSigner
	if _, err := journal.SignRecord(broken, journal.TypeState, []byte{0x80}); !errors.Is(err, errSigner) {
		t.Errorf("by a signer that fails: %v", err)
	}
}

var errSigner = errors.New("no key today")

type brokenSigner struct{}

func (brokenSigner) ID() edge.ID                 { return testKey(1).ID() }
func (brokenSigner) Sign([]byte) ([]byte, error) { return nil, errSigner }

func TestDecode_OneFormForNothing(t *testing.T) {
	type lists struct {
		_    struct{} `cbor:",toarray"`
		Raw  []byte
		List []string
	}
	missing, err := journal.Encode(lists{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x82, 0x40, 0x80}; !bytes.Equal(missing, want) {
		t.Errorf("missing lists are %x, want %x as empty ones", missing, want)
	}
	for _, other := range [][]byte{{0x82, 0xf6, 0x80}, {0x82, 0x40, 0xf6}, {0x82, 0xf7, 0x80}, {0x82, 0x80, 0x80}} {
		var l lists
		if err := journal.Decode(other, &l); err == nil {
			t.Errorf("%x decodes to %+v, which has another form", other, l)
		}
	}
}

func TestParseChain_OneText(t *testing.T) {
	c := testChain(1)
	if got, err := journal.ParseChain(testFleet, c.String()); err != nil || got != c {
		t.Errorf("%v, %v", got, err)
	}
	id := c.Device.String()
	for _, s := range []string{"", "/", "//", id + "/main", id + "/main/00", id + "/MAIN/" + c.Incarnation.String(),
		id + "/main/" + "1C" + c.Incarnation.String()[2:], c.String() + "/", "x" + c.String(), id + "/../" + c.Incarnation.String()} {
		if got, err := journal.ParseChain(testFleet, s); err == nil {
			t.Errorf("%q is taken for %s", s, got)
		}
	}
}
