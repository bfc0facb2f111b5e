// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Token is a claim token: its holder may become a member as the fleet's Policy of the same id says. Whoever reads the boot partition on
// which it lies has it, so that it has few uses and a near end, and is erased once used.
type Token struct {
	ID      fleet.TokenID
	Secret  Secret
	Fleet   journal.FleetID
	Owner   edge.ID // the fleet's first owner key: with Fleet it pins whom the device will obey
	Expires time.Time
	Hubs    []fleet.Bootstrap
}

// NewToken makes a token of a fleet.
func NewToken(f *fleet.Fleet, expires time.Time) Token {
	t := Token{Secret: NewSecret(), Fleet: f.ID(), Owner: f.State().Owners[0], Expires: expires, Hubs: f.State().Hubs}
	rand.Read(t.ID[:])
	return t
}

// file is enroll.toml on the boot partition.
type file struct {
	Fleet   string    `toml:"fleet"`
	Owner   string    `toml:"owner"`
	Token   string    `toml:"token"`
	Secret  string    `toml:"secret"`
	Expires time.Time `toml:"expires"`
	Hubs    []hub     `toml:"hub"`
}

type hub struct {
	ID    string   `toml:"id"`
	Addrs []string `toml:"addrs"`
	Site  string   `toml:"site,omitempty"`
}

// Encode writes the token as the file for the boot partition.
func (t Token) Encode() ([]byte, error) {
	f := file{Fleet: t.Fleet.String(), Owner: t.Owner.String(), Token: hex.EncodeToString(t.ID[:]), Secret: hex.EncodeToString(t.Secret[:]), Expires: t.Expires.UTC()}
	for _, h := range t.Hubs {
		f.Hubs = append(f.Hubs, hub{ID: h.ID.String(), Addrs: h.Addrs, Site: h.Site})
	}
	out, err := toml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("enroll: writing token: %w", err)
	}
	return append([]byte("# A claim token of a Streembit fleet. Whoever reads this file can join the fleet: keep it off shared disks.\n"), out...), nil
}

// maxTokenFile is far more than a token file needs.
const maxTokenFile = 64 << 10

// ErrBadToken is wrapped when a token file is damaged or incomplete.
var ErrBadToken = errors.New("not a claim token: make a new one with streembit enroll token")

// ParseToken reads what Encode wrote. The error wraps ErrBadToken.
func ParseToken(data []byte) (Token, error) {
	var f file
	if len(data) > maxTokenFile {
		return Token{}, fmt.Errorf("enroll: token file of %d bytes: %w", len(data), ErrBadToken)
	}
	if err := toml.Unmarshal(data, &f); err != nil {
		return Token{}, fmt.Errorf("enroll: reading token: %w: %w", err, ErrBadToken)
	}
	t := Token{Expires: f.Expires}
	var errs [4]error
	t.Fleet, errs[0] = journal.ParseFleetID(f.Fleet)
	t.Owner, errs[1] = edge.ParseID(f.Owner)
	errs[2] = unhex(t.ID[:], f.Token)
	errs[3] = unhex(t.Secret[:], f.Secret)
	for _, h := range f.Hubs {
		id, err := edge.ParseID(h.ID)
		b := fleet.Bootstrap{ID: id, Addrs: h.Addrs, Site: h.Site}
		if err := errors.Join(err, b.Check()); err != nil {
			return Token{}, fmt.Errorf("enroll: reading token: hub %q: %w: %w", h.ID, err, ErrBadToken)
		}
		t.Hubs = append(t.Hubs, b)
	}
	err := errors.Join(errs[:]...)
	if len(t.Hubs) == 0 {
		err = errors.Join(err, errors.New("it names no hub"))
	}
	if t.Expires.IsZero() {
		err = errors.Join(err, errors.New("it names no end"))
	}
	if err != nil {
		return Token{}, fmt.Errorf("enroll: reading token: %w: %w", err, ErrBadToken)
	}
	return t, nil
}

func unhex(to []byte, s string) error {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(to) {
		return fmt.Errorf("%d characters instead of %d hexadecimal digits", len(s), 2*len(to))
	}
	copy(to, raw)
	return nil
}

// Claim is a device's request to become a member by a token, made to one hub. It is no bearer of anything: the secure channel proves
// Device, and MAC the token for this device at this hub alone.
type Claim struct {
	_      struct{} `cbor:",toarray"`
	Fleet  journal.FleetID
	Token  fleet.TokenID
	Device edge.ID
	Hub    edge.ID // to whom the device made it
	Name   string  // what the device calls itself
	MAC    [32]byte
}

// Claim makes the claim of a device at a hub.
func (t Token) Claim(device, hub edge.ID, name string) Claim {
	c := Claim{Fleet: t.Fleet, Token: t.ID, Device: device, Hub: hub, Name: name}
	c.MAC = c.mac(t.Secret)
	return c
}

// Check reports whether the claim was made with the token's secret. Whether Device and Hub are the two that spoke is for the hub to see, from the
// secure channel, before it keeps the claim. The error wraps ErrBadProof.
func (c Claim) Check(s Secret) error {
	want := c.mac(s)
	if !hmac.Equal(c.MAC[:], want[:]) {
		return fmt.Errorf("enroll: claim of %s at %s: %w", c.Device, c.Hub, ErrBadProof)
	}
	return nil
}

func (c Claim) mac(s Secret) [32]byte {
	name := sha256.Sum256([]byte(c.Name))
	return mac(s, "streembit claim 1", c.Fleet[:], c.Token[:], c.Device[:], c.Hub[:], name[:])
}
