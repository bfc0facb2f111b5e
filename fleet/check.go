// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/streembit/edge/journal"
)

// check is the rule for states, both when they are made and when they are read, so that a proven state is usable: every
// owner key is one that only its holder can sign with, and devices can wrap their epoch keys.
func (s State) check() error {
	if s.Format != 1 {
		return fmt.Errorf("format %d is unknown: update this program: %w", s.Format, ErrBadState)
	}
	if !journal.ValidStream(s.Name) {
		return fmt.Errorf("name %q: want 1 to 32 of a-z 0-9 . _ -: %w", s.Name, ErrBadState)
	}
	for i, owner := range s.Owners {
		if journal.WeakKey(owner) {
			return fmt.Errorf("owner key %d is missing or weak, anybody could sign with it: make an active and a spare key: %w", i+1, ErrBadState)
		}
	}
	switch {
	case s.Owners[0] == s.Owners[1]:
		return fmt.Errorf("active and spare owner are one key: make a spare: %w", ErrBadState)
	case !slices.Contains(s.Owners[:], s.LogWriter):
		return fmt.Errorf("the log's writer %s is no owner: %w", s.LogWriter, ErrBadState)
	}
	if _, err := journal.NewReader(s.Recovery); err != nil {
		return fmt.Errorf("recovery key: %w: %w", ErrBadState, err)
	}
	for _, h := range s.Hubs {
		if journal.WeakKey(h.ID) {
			return fmt.Errorf("hub at %q has no usable key: %w", h.Addrs, ErrBadState)
		}
		if err := checkPlace(h.Site, h.Addrs); err != nil {
			return fmt.Errorf("hub %s: %w: %w", h.ID, err, ErrBadState)
		}
	}
	return nil
}

// checkPlace refuses what would not fit a table or could move a terminal's cursor.
func checkPlace(site string, addrs []string) error {
	if len(site) > maxLabel || !printable(site) {
		return fmt.Errorf("site %.80q: want at most %d bytes of printable text", site, maxLabel)
	}
	if len(addrs) > maxAddrs {
		return fmt.Errorf("%d addresses: want at most %d", len(addrs), maxAddrs)
	}
	for _, a := range addrs {
		if len(a) > maxAddr || !printable(a) {
			return fmt.Errorf("address %.80q: want at most %d bytes of printable text", a, maxAddr)
		}
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// Check refuses what would not fit a table or could move a terminal's cursor, and a weak key. The error wraps ErrBadState.
func (b Bootstrap) Check() error {
	err := checkPlace(b.Site, b.Addrs)
	if journal.WeakKey(b.ID) {
		err = errors.New("it has no usable key")
	}
	if err != nil {
		return fmt.Errorf("fleet: hub %s: %w: %w", b.ID, err, ErrBadState)
	}
	return nil
}
