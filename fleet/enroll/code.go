// SPDX-License-Identifier: Apache-2.0

// Package enroll is how a newcomer and a fleet come to know each other before either can prove itself by the fleet log: the code that a device
// shows to a person, the claim token on a boot partition, and the proofs that both give. It does no I/O but for the file of a Queue.
//
// A device makes a Code; whoever has seen it can approve the device (Approve), and nobody else can, since the approval proves the code's
// secret. A token (NewToken) lets devices claim membership without a person; the claim proves the token's secret over both peers' keys, so that it
// cannot be carried to another hub or used for another device. A hub keeps both in a Queue.
package enroll

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Errors of the package.
var (
	ErrBadCode  = errors.New("not an enrolment code: copy all of it, or scan it again")
	ErrBadProof = errors.New("the proof is wrong: it was made with another secret, for another device, another hub or another fleet")
)

// Secret is what both sides of an enrolment know beforehand, 128 random bits.
type Secret [16]byte

// NewSecret makes a random one.
func NewSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// Code is what a device shows to a person: who it is and a secret that it tells nobody else. It stays the same until the device is claimed.
type Code struct {
	Device edge.ID
	Secret Secret
	Addrs  []string // multiaddrs at which the device listens; in the block only, to keep the QR code small
	Name   string   // what the device calls itself, for example its host name; in the block only
}

const (
	codePrefix = "STREEMBIT:1:"
	blockBegin = "-----BEGIN STREEMBIT OFFER-----"
	blockEnd   = "-----END STREEMBIT OFFER-----"
	maxBlock   = 8 << 10
)

// String writes the short form, of characters that a QR code holds densely (ISO/IEC 18004 alphanumeric mode).
func (c Code) String() string {
	raw := append(bytes.Clone(c.Device[:]), c.Secret[:]...)
	sum := sha256.Sum256(raw)
	return codePrefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(raw, sum[:2]...))
}

// Block writes the long form, a contact offer to copy and paste.
func (c Code) Block() (string, error) {
	enc, err := journal.Encode(block{Code: c.String(), Addrs: c.Addrs, Name: c.Name})
	if err != nil {
		return "", fmt.Errorf("enroll: writing offer: %w", err)
	}
	sum := sha256.Sum256(enc)
	text := base64.StdEncoding.EncodeToString(append(enc, sum[:4]...))
	var b strings.Builder
	b.WriteString(blockBegin + "\n")
	for len(text) > 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	return b.String() + text + "\n" + blockEnd + "\n", nil
}

type block struct {
	_     struct{} `cbor:",toarray"`
	Code  string
	Addrs []string
	Name  string
}

// ParseCode reads either form; spaces, line breaks and what stands around a block do not matter. The error wraps ErrBadCode.
func ParseCode(text string) (Code, error) {
	if len(text) > maxBlock {
		return Code{}, fmt.Errorf("enroll: code of %d bytes: %w", len(text), ErrBadCode)
	}
	if _, rest, ok := strings.Cut(text, blockBegin); ok {
		body, _, ok := strings.Cut(rest, blockEnd)
		if !ok {
			return Code{}, fmt.Errorf("enroll: offer without its last line: %w", ErrBadCode)
		}
		return parseBlock(body)
	}
	clean := strings.ToUpper(strings.Join(strings.Fields(text), ""))
	body, ok := strings.CutPrefix(clean, codePrefix)
	if !ok {
		return Code{}, fmt.Errorf("enroll: %.40q does not begin with %s: %w", text, codePrefix, ErrBadCode)
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(body)
	if err != nil || len(raw) != 50 {
		return Code{}, fmt.Errorf("enroll: code of %d characters: %w", len(clean), ErrBadCode)
	}
	sum := sha256.Sum256(raw[:48])
	if !bytes.Equal(raw[48:], sum[:2]) {
		return Code{}, fmt.Errorf("enroll: the code's checksum is wrong: %w", ErrBadCode)
	}
	c := Code{Device: edge.ID(raw[:32]), Secret: Secret(raw[32:48])}
	if c.String() != clean { // base32 has unused bits
		return Code{}, fmt.Errorf("enroll: the code's last character is wrong: %w", ErrBadCode)
	}
	if journal.WeakKey(c.Device) {
		return Code{}, fmt.Errorf("enroll: the code's key is weak: %w", ErrBadCode)
	}
	return c, nil
}

func parseBlock(body string) (Code, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil || len(raw) < 4 {
		return Code{}, fmt.Errorf("enroll: offer: %w", ErrBadCode)
	}
	enc := raw[:len(raw)-4]
	sum := sha256.Sum256(enc)
	if !bytes.Equal(raw[len(enc):], sum[:4]) {
		return Code{}, fmt.Errorf("enroll: the offer's checksum is wrong: %w", ErrBadCode)
	}
	var b block
	if err := journal.Decode(enc, &b); err != nil {
		return Code{}, fmt.Errorf("enroll: offer: %w: %w", err, ErrBadCode)
	}
	if strings.Contains(b.Code, blockBegin) {
		return Code{}, fmt.Errorf("enroll: an offer in an offer: %w", ErrBadCode)
	}
	c, err := ParseCode(b.Code)
	if err != nil {
		return Code{}, err
	}
	probe := fleet.Bootstrap{ID: c.Device, Addrs: b.Addrs, Site: b.Name}
	if err := probe.Check(); err != nil {
		return Code{}, fmt.Errorf("enroll: offer: %w: %w", err, ErrBadCode)
	}
	c.Addrs, c.Name = b.Addrs, b.Name
	return c, nil
}

// Approval tells a device which fleet has taken it in: proof that whoever granted it has seen its code.
type Approval struct {
	_        struct{} `cbor:",toarray"`
	Fleet    journal.FleetID
	Device   edge.ID
	Operator edge.ID // who approved
	MAC      [32]byte
}

// Approve makes the approval of the device that showed the code.
func (c Code) Approve(fleet journal.FleetID, operator edge.ID) Approval {
	a := Approval{Fleet: fleet, Device: c.Device, Operator: operator}
	a.MAC = a.mac(c.Secret)
	return a
}

// Check reports whether the approval is for this device and made by somebody who knows its secret. The error wraps ErrBadProof.
func (a Approval) Check(c Code) error {
	want := a.mac(c.Secret)
	if a.Device != c.Device || !hmac.Equal(a.MAC[:], want[:]) {
		return fmt.Errorf("enroll: approval by %s for fleet %s: %w", a.Operator, a.Fleet, ErrBadProof)
	}
	return nil
}

func (a Approval) mac(s Secret) [32]byte {
	return mac(s, "streembit approval 1", a.Fleet[:], a.Device[:], a.Operator[:])
}

// mac is HMAC-SHA256 (RFC 2104) over a label and parts of fixed lengths.
func mac(s Secret, label string, parts ...[]byte) [32]byte {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte(label))
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}
