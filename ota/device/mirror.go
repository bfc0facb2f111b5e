// SPDX-License-Identifier: Apache-2.0

package device

import (
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/trust"
)

// keep has here what is to be here: what is wanted, and at a hub every program of the metadata, the newest first, as far as the quota goes. What no longer counts goes.
// A device keeps what it fetched last, so that neighbours who come later get it.
func (u *Updater) keep(ctx context.Context, want *ota.Artifact) {
	all := u.programs()
	var trees []chunks.Hash
	if want != nil {
		trees = append(trees, want.Tree)
	}
	for i := range all {
		if u.o.Mirror || all[i].Version == u.o.Running || all[i].Version == u.release() {
			trees = append(trees, all[i].Tree)
		}
	}
	complete := 0
	for _, a := range all {
		if p := u.o.Depot.Progress(a.Tree); p.Of > 0 && p.Chunks == p.Of {
			complete++
		}
	}
	u.mu.Lock()
	heard := u.looks > 0 && u.status.Error == "" // before that, what an earlier run has begun may be what is wanted
	changed := heard && !slices.Equal(u.said.kept, trees)
	if changed {
		u.said.kept = trees
	}
	u.status.Programs, u.status.Complete = len(all), complete
	u.mu.Unlock()
	if changed && len(all) > 0 {
		if err := u.o.Depot.Keep(trees...); err != nil {
			u.log.Warn("programs that do not count any more could not be removed", "err", err)
		}
	}
	if u.o.Mirror {
		u.mirrorNext(ctx, all)
	}
}

// programs returns those of the metadata, the newest first; also of expired ones, which others may have to prove to theirs.
func (u *Updater) programs() []ota.Artifact {
	m, err := u.metadata()
	if err != nil || m == nil {
		return nil
	}
	all, _ := u.artifacts(m)
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b ota.Artifact) int { return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.Path, b.Path)) })
	return all
}

// mirrorNext begins with the next program that is not here, unless one is under way. All of them are made known, so that others are told who else wants them.
func (u *Updater) mirrorNext(ctx context.Context, all []ota.Artifact) {
	u.mu.Lock()
	m := u.mirror
	u.mu.Unlock()
	if m != nil {
		select {
		case <-m.done:
			u.blame(m)
			if m.err != nil && ctx.Err() == nil {
				u.log.Warn("a program could not be kept for others, it goes on", "path", m.artifact.Path, "err", m.err)
			}
		default:
			if slices.ContainsFunc(all, func(a ota.Artifact) bool { return a.Tree == m.artifact.Tree }) {
				return
			}
			m.cancel()
			<-m.done
		}
		m = nil
	}
	for _, a := range all {
		missing, err := u.o.Depot.Begin(a)
		if err != nil {
			u.log.Debug("a program is not kept", "path", a.Path, "err", err)
			continue
		}
		if m == nil && missing > 0 && !u.fetching(a.Tree) && u.o.Free() >= missing+spare {
			m = u.begin(ctx, a)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mirror = m
}

func (u *Updater) fetching(tree chunks.Hash) bool {
	f := u.current()
	return f != nil && f.artifact.Tree == tree
}

// checkFile compares a program with what was signed of it.
func checkFile(a ota.Artifact, f *chunks.File) error {
	r, err := os.Open(f.Path())
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return trust.CheckProgram(a, r)
}
