// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/streembit/edge/journal"
)

const (
	forksName = "forks.cbor"
	// maxForks bounds the proofs that are kept, the first ones: one is enough.
	maxForks = 32
)

// Forks returns the pairs of signed headers with which somebody else with the device's key contradicted it, the device's own first; they survive
// a restart. A pair of one seq is a proof for everybody (journal.Fork.Prove); other pairs are neighbours that do not link.
func (b *Outbox) Forks() []journal.Fork {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.forks)
}

func (b *Outbox) keepFork(f journal.Fork) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.forks) >= maxForks || slices.ContainsFunc(b.forks, func(o journal.Fork) bool { return bytes.Equal(o.A, f.A) && bytes.Equal(o.B, f.B) }) {
		return nil
	}
	all := append(slices.Clone(b.forks), f)
	enc, err := journal.Encode(all)
	if err == nil {
		err = replaceFile(filepath.Join(b.o.Dir, forksName), enc)
	}
	if err != nil {
		return fmt.Errorf("outbox: keeping the proof of a fork: %w", err)
	}
	b.forks = all
	return nil
}

// replaceFile puts a file in place of another so that a power cut leaves one of the two.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// loadForks reads the proofs. Damaged ones are no reason to stop a device.
func (b *Outbox) loadForks() {
	enc, err := os.ReadFile(filepath.Join(b.o.Dir, forksName))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = journal.Decode(enc, &b.forks)
	}
	if err != nil {
		b.forks = nil
		b.o.Logger.Error("outbox: the proofs of forks cannot be read, the next one begins the file anew", "dir", b.o.Dir, "file", forksName, "err", err)
	}
}
