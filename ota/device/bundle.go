// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/trust"
)

// Errors of TakeBundle beside those of package trust.
var (
	ErrNoRoot  = errors.New("the fleet's state names no root of updates yet: streembit ota pin, on the owner's machine")
	ErrNoSlots = errors.New("nothing on this machine installs updates: run it by systemd's units or by streembitd supervise")
	ErrNothing = errors.New("the bundle has nothing newer for this machine")
)

// TakeBundle installs the newest program for this machine that a bundle has, with the same checks as what comes by the network: only the rollout and the quiet hours
// are not asked, since a person is here. It returns once the program is in the depot; the loop hands it over.
func (u *Updater) TakeBundle(ctx context.Context, b *trust.Bundle) (a ota.Artifact, err error) {
	m, err := u.metadata()
	switch {
	case err != nil:
		return a, err
	case m == nil:
		return a, fmt.Errorf("device: %w", ErrNoRoot)
	case u.o.Slots == nil:
		return a, fmt.Errorf("device: %w", ErrNoSlots)
	}
	refreshed := m.Refresh(ctx, b) // an older bundle than what is known here is fine if its programs still count
	all, err := m.Artifacts()
	if err != nil {
		return a, errors.Join(err, refreshed)
	}
	all = slices.DeleteFunc(all, func(a ota.Artifact) bool {
		_, err := b.Program(a.Tree)
		return err != nil || a.Channel != u.o.Channel || a.Version.Compare(u.o.Running) <= 0
	})
	slices.SortStableFunc(all, func(a, b ota.Artifact) int { return b.Version.Compare(a.Version) })
	if len(all) == 0 {
		return a, errors.Join(fmt.Errorf("device: version %s runs, channel %s: %w", u.o.Running, u.o.Channel, ErrNothing), refreshed)
	}
	best, _, err := u.artifact(all, all[0].Version)
	if err != nil {
		return a, err
	}
	if failed, err := u.o.Slots.Failed(best.Hash); err == nil && failed {
		return a, fmt.Errorf("device: version %s was tried on this machine and gone back from: %w", best.Version, ErrNothing)
	}
	r, err := b.Program(best.Tree)
	if err != nil {
		return a, err
	}
	if err := u.o.Depot.Take(*best, r); err != nil {
		return a, err
	}
	u.mu.Lock()
	u.bundle, u.known = best, known{}
	u.mu.Unlock()
	u.settle()
	return *best, nil
}

// Take puts a program that lies somewhere else into the depot, proven.
func (d *Depot) Take(a ota.Artifact, r io.ReaderAt) error {
	f, err := d.store.Begin(a.Tree, a.Size)
	if errors.Is(err, chunks.ErrQuota) {
		if err = d.store.Keep(a.Tree); err == nil {
			f, err = d.store.Begin(a.Tree, a.Size)
		}
	}
	if err != nil {
		return err
	}
	if err := trust.CheckProgram(a, io.NewSectionReader(r, 0, a.Size+1)); err != nil {
		return err
	}
	list, _, err := chunks.ListOf(io.NewSectionReader(r, 0, a.Size))
	if err != nil {
		return err
	}
	if err := f.SetList(list.Bytes()); err != nil {
		return err
	}
	buf := make([]byte, chunks.Size)
	for i := range list {
		part := buf[:chunks.Len(a.Size, i)]
		if _, err := r.ReadAt(part, int64(i)*chunks.Size); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("device: reading program: %w", err)
		}
		if err := f.Put(i, part); err != nil {
			return err
		}
	}
	return f.Sync()
}
