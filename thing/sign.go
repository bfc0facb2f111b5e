// SPDX-License-Identifier: Apache-2.0

package thing

import (
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// TypeRecord is the content type of a signed description.
const TypeRecord = "application/vnd.streembit.td+json"

// MaxRecord bounds a signed description, in bytes.
const MaxRecord = MaxSize + 256

// Sign returns the description as a record of the device that it is of.
func Sign(s journal.Signer, d *Description) ([]byte, error) {
	if id, err := d.Device(); err != nil || id != s.ID() {
		return nil, fmt.Errorf("thing: signing %.80q as %s: %w", d.ID, s.ID(), ErrBadDescription)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("thing: signing: %w: %w", ErrBadDescription, err)
	}
	text, err := d.Encode()
	if err != nil {
		return nil, err
	}
	return journal.SignRecord(s, TypeRecord, text)
}

// OpenSigned returns the description in a record if that device, and nobody else, signed it, and it is its own.
func OpenSigned(device edge.ID, record []byte) (*Description, error) {
	if len(record) > MaxRecord {
		return nil, fmt.Errorf("thing: opening record of %d bytes: %w", len(record), journal.ErrOversize)
	}
	text, err := journal.OpenRecord(device, TypeRecord, record)
	if err != nil {
		return nil, fmt.Errorf("thing: opening: %w", err)
	}
	d, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if id, err := d.Device(); err != nil || id != device {
		return nil, fmt.Errorf("thing: opening: %s signed the description of %.80q: %w", device, d.ID, ErrBadDescription)
	}
	return d, nil
}
