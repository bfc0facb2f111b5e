// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/streembit/edge/ota"
)

const (
	maxStateFile = 256 << 10 // bytes
	maxFailed    = 64        // programs that are remembered as failed
)

// errDamaged: a small file of the updater does not carry its own checksum.
var errDamaged = errors.New("the file is damaged")

// ledger is what the updater remembers.
type ledger struct {
	Floor  ota.Version `json:"floor,omitempty"` // nothing below is installed
	Failed []failure   `json:"failed,omitempty"`
	Trial  *Trial      `json:"trial,omitempty"` // counts while the links differ
}

type failure struct {
	Hash    string      `json:"hash"`
	Version ota.Version `json:"version"`
	Reason  ota.Reason  `json:"reason"`
}

// Trial is what is known of the program on trial.
type Trial struct {
	Release  string      `json:"release"` // name of its folder
	Hash     string      `json:"hash"`
	Version  ota.Version `json:"version"`
	Previous ota.Version `json:"previous"` // that is gone back to
	Baseline Baseline    `json:"baseline"`

	Running bool       `json:"running,omitempty"` // started, and its end was not seen
	Unclean int        `json:"unclean,omitempty"` // runs that ended in another way than by being told to
	Watches int        `json:"watches,omitempty"` // times that watching began
	Why     ota.Reason `json:"why,omitempty"`     // of the last unclean end
	Detail  string     `json:"detail,omitempty"`
	Verdict ota.Reason `json:"verdict,omitempty"` // it goes back for this
}

// Baseline is what was healthy before the update.
type Baseline struct {
	ID      string   `json:"id,omitempty"`      // of the device
	Sensors []string `json:"sensors,omitempty"` // that delivered
	Hub     bool     `json:"hub,omitempty"`     // one was reachable
}

func (l *ledger) failed(hash string) bool {
	return slices.ContainsFunc(l.Failed, func(f failure) bool { return f.Hash == hash })
}

func (l *ledger) fail(f failure) {
	if !l.failed(f.Hash) {
		l.Failed = append(l.Failed, f)
	}
	l.Failed = l.Failed[max(0, len(l.Failed)-maxFailed):]
}

func (l *ledger) raise(floor ota.Version) {
	if floor.Compare(l.Floor) > 0 {
		l.Floor = floor
	}
}

func (s *Slots) saveLedger(l *ledger) error {
	if err := s.disk.writeChecked(s.path(ledgerName), l); err != nil {
		return fmt.Errorf("slots: writing the ledger: %w", err)
	}
	return nil
}

// checked is a small file: JSON in which a checksum guards the rest.
type checked struct {
	Sum  string          `json:"sha256"`
	Body json.RawMessage `json:"body"`
}

func (d disk) writeChecked(path string, v any) error {
	data, err := encodeChecked(v)
	if err != nil {
		return err
	}
	return d.replace(path, data)
}

func encodeChecked(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	data, err := json.Marshal(checked{hex.EncodeToString(sum[:]), body})
	return append(data, '\n'), err
}

// readChecked returns an error that wraps errDamaged unless the file is as it was written.
func readChecked(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return decodeChecked(data, v)
}

func decodeChecked(data []byte, v any) error {
	var c checked
	if len(data) > maxStateFile || json.Unmarshal(data, &c) != nil {
		return errDamaged
	}
	if sum := sha256.Sum256(c.Body); hex.EncodeToString(sum[:]) != c.Sum || json.Unmarshal(c.Body, v) != nil {
		return errDamaged
	}
	return nil
}
