// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/veraison/go-cose"
	"golang.org/x/crypto/chacha20poly1305"
)

// plainReader reads segments as docs/wire.md describes them, with general libraries alone: nothing of package journal
// but the names of its content types.
type plainReader struct {
	t     testing.TB
	epoch []byte // key
}

// verify decodes a segment, checks the signature over a Sig_structure built by hand (RFC 9052 §4.4) and the hash, and
// returns header and payload.
func (r *plainReader) verify(raw []byte) (header []any, payload []byte) {
	r.t.Helper()
	var segment [2][]byte
	r.decode(raw, &segment)
	var tag cbor.Tag
	r.decode(segment[0], &tag)
	sign1 := tag.Content.([]any)
	protected, encoded := sign1[0].([]byte), sign1[2].([]byte)
	var params map[int]any
	r.decode(protected, &params)
	if tag.Number != 18 || len(sign1) != 4 || len(sign1[1].(map[any]any)) != 0 || params[1] != int64(-8) || params[3] != journal.TypeSegment {
		r.t.Fatalf("tag %d, %d fields, headers %v, %v", tag.Number, len(sign1), params, sign1[1])
	}
	r.decode(encoded, &header)
	device := header[1].([]any)[1].([]byte)
	if !ed25519.Verify(device, encode(r.t, []any{"Signature1", protected, []byte{}, encoded}), sign1[3].([]byte)) {
		r.t.Fatal("the signature does not verify")
	}
	sum := sha256.Sum256(segment[1])
	if !bytes.Equal(header[13].([]byte), sum[:]) || header[12] != uint64(len(segment[1])) {
		r.t.Fatal("the payload does not match its hash and size")
	}
	return header, segment[1]
}

func (r *plainReader) decode(data []byte, v any) {
	r.t.Helper()
	if err := cbor.Unmarshal(data, v); err != nil {
		r.t.Fatalf("%x: %v", data, err)
	}
}

// learn unwraps the epoch key for the reader with the seed.
func (r *plainReader) learn(header []any, payload, seed []byte) {
	r.t.Helper()
	key, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		r.t.Fatal(err)
	}
	var epoch struct {
		_     struct{} `cbor:",toarray"`
		After any
		Wraps [][2][]byte
	}
	r.decode(payload, &epoch)
	tag := sha256.Sum256(key.PublicKey().Bytes())
	info := encode(r.t, []any{"streembit/epoch/1", header[1], header[4]})
	for _, w := range epoch.Wraps {
		if bytes.Equal(w[0], tag[:8]) {
			if r.epoch, err = hpke.Open(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, w[1]); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// open opens a sealed payload.
func (r *plainReader) open(header []any, payload []byte) []byte {
	r.t.Helper()
	aead, err := chacha20poly1305.New(r.epoch)
	if err != nil {
		r.t.Fatal(err)
	}
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4), header[2].(uint64))
	bound := slices.Clone(header)
	bound[12], bound[13] = 0, make([]byte, 32)
	plain, err := aead.Open(nil, nonce, payload, encode(r.t, bound))
	if err != nil {
		r.t.Fatal(err)
	}
	plain = bytes.TrimRight(plain, "\x00")
	plain = plain[:len(plain)-1] // the mark 0x80
	if header[6] == uint64(1) {
		z, err := zstd.NewReader(nil)
		if err != nil {
			r.t.Fatal(err)
		}
		defer z.Close()
		if plain, err = z.DecodeAll(plain, nil); err != nil {
			r.t.Fatal(err)
		}
	}
	return plain
}

func TestAnyCOSELibraryVerifiesUs(t *testing.T) {
	r := plainReader{t: t}
	h, payload := r.verify(golden(t, "epoch"))
	r.learn(h, payload, bytes.Repeat([]byte{9}, 32))
	h, payload = r.verify(golden(t, "readings"))
	want, err := edge.MarshalSenML(testKey(1).ID(), goldenReadings()[11].At.Mono, goldenReadings())
	if err != nil {
		t.Fatal(err)
	}
	if plain := r.open(h, payload); !bytes.Equal(plain, want) {
		t.Errorf("the pack is %x, want %x", plain, want)
	}
	var records []map[int]any
	r.decode(want, &records)
	if len(records) != 12 || records[0][-2] != testKey(1).ID().String()+"/" || records[0][0] != "bme280-0/temperature" {
		t.Errorf("SenML %v", records)
	}
	h, payload = r.verify(golden(t, "note"))
	var note []any
	r.decode(r.open(h, payload), &note)
	if clock := note[0].([]any); note[1] != nil || clock[1] != uint64(5000) || clock[2] != uint64(goldenWall+5000) {
		t.Errorf("note %v", note)
	}
}

// go-cose is the other implementation: it must accept, and encode again to the same bytes, what we sign and verify.
func TestGoCOSEAgrees(t *testing.T) {
	signed := golden(t, "header")
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(signed); err != nil {
		t.Fatal(err)
	}
	v, err := cose.NewVerifier(cose.AlgorithmEdDSA, testKey(1).ID().Key())
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Verify(nil, v); err != nil {
		t.Error(err)
	}
	msg.Payload[0] ^= 1
	if err := msg.Verify(nil, v); err == nil {
		t.Error("go-cose verifies a changed payload")
	}
}

// groupOrder is L, the order of the base point (RFC 8032 §5.1).
func groupOrder() *big.Int {
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
}

func littleEndian(n *big.Int) []byte {
	b := n.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}

func bigFrom(little []byte) *big.Int {
	b := bytes.Clone(little)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// S + L gives the same point, so a verifier that does not bound S would take a second form of each signature.
func TestOpenHeader_RefusesMalleatedSignature(t *testing.T) {
	signed := golden(t, "header")
	s := bigFrom(signed[len(signed)-32:])
	for range 3 {
		s.Add(s, groupOrder())
		if s.BitLen() > 256 {
			break
		}
		if _, _, err := journal.OpenHeader(append(bytes.Clone(signed[:len(signed)-32]), littleEndian(s)...), testFleet); !errors.Is(err, journal.ErrForeignSigner) {
			t.Fatalf("S + L: %v", err)
		}
	}
}

// With a key of small order, [h]A vanishes for one h in eight at least: then R = [S]B verifies for any S. The zero ID is
// such a key. The test forges a signature that crypto/ed25519 accepts and sees that we do not.
func TestOpenRecord_RefusesKeysWithWhichAnybodySigns(t *testing.T) {
	var zero edge.ID
	record, err := journal.SignRecord(zeroSigner{t}, journal.TypeState, []byte{0x80})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.OpenRecord(zero, journal.TypeState, record); !errors.Is(err, journal.ErrForeignSigner) {
		t.Errorf("a record that anybody can sign: %v", err)
	}
	for _, first := range []byte{0, 1, 0xec, 0xed, 0xee} {
		id := edge.ID{first}
		if first > 1 {
			for i := 1; i < 31; i++ {
				id[i] = 0xff
			}
			id[31] = 0x7f
		}
		for _, sign := range []byte{0, 0x80} {
			if id[31] |= sign; !journal.WeakKey(id) {
				t.Errorf("key %x passes", id)
			}
		}
	}
	for seed := range byte(100) {
		if journal.WeakKey(testKey(seed).ID()) {
			t.Errorf("the key of seed %d is refused", seed)
		}
	}
}

// zeroSigner signs for the zero ID without any secret.
type zeroSigner struct{ t testing.TB }

func (zeroSigner) ID() edge.ID { return edge.ID{} }

func (z zeroSigner) Sign(message []byte) ([]byte, error) {
	for seed := range byte(255) {
		k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
		digest := sha512.Sum512(k.Seed())
		scalar := digest[:32]
		scalar[0] &= 248
		scalar[31] = scalar[31]&127 | 64
		s := new(big.Int).Mod(bigFrom(scalar), groupOrder())
		sig := append(bytes.Clone(k.Public().(ed25519.PublicKey)), littleEndian(s)...)
		if ed25519.Verify(make([]byte, 32), message, sig) {
			return sig, nil
		}
	}
	z.t.Fatal("could not forge: crypto/ed25519 may refuse such keys now, then WeakKey can go")
	return nil, nil
}
