// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/trust"
)

// Events of the audit log.
const (
	EvFetch    = "update-fetch"
	EvHandOver = "update-handed-over"
	EvOutcome  = "update-outcome"
	EvLiar     = "update-false-chunk"
)

// follow begins or ends the fetch of what is wanted, and hands over what has come.
func (u *Updater) follow(ctx context.Context, d *decision) {
	f := u.current()
	if f != nil && (d.want == nil || f.artifact.Tree != d.want.Tree) { // another one is wanted, or it is quiet now: what has come stays
		f.cancel()
		<-f.done
		u.set(nil)
		f = nil
	}
	if d.want == nil {
		return
	}
	if u.isHanded(d.want, &d.progress) {
		return
	}
	if f == nil {
		u.log.Info("fetching a program", "path", d.want.Path, "bytes", d.want.Size)
		u.o.Note(EvFetch, d.want.Path, fmt.Sprintf("%d bytes, sha256 %x", d.want.Size, d.want.Hash))
		u.set(u.begin(ctx, *d.want))
		return
	}
	select {
	case <-f.done:
	default:
		d.progress.Percent = u.o.Depot.Progress(f.artifact.Tree).Percent()
		if p := u.o.Depot.Progress(f.artifact.Tree); p.Stats.Sources == 0 {
			d.progress.Reason = ota.ReasonNoSources
		}
		return
	}
	u.set(nil)
	u.blame(f)
	switch {
	case errors.Is(f.err, syscall.ENOSPC), errors.Is(f.err, syscall.EDQUOT):
		u.diskFull(&d.progress, f.err)
	case f.err != nil:
		u.log.Warn("a program could not be fetched, it goes on", "path", f.artifact.Path, "err", f.err)
	default:
		u.handOver(d, f.file)
	}
}

func (u *Updater) current() *fetch {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fetch
}

func (u *Updater) set(f *fetch) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fetch = f
}

// begin fetches a program in the background.
func (u *Updater) begin(ctx context.Context, a ota.Artifact) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{artifact: a, cancel: cancel, done: make(chan struct{})}
	go func() { // stop and follow wait for done
		defer close(f.done)
		defer u.settle()
		defer cancel()
		f.file, f.err = u.o.Depot.Bring(ctx, a, u.o.Net.Sources(a.Tree))
	}()
	return f
}

// blame tells of members that gave what is not the program.
func (u *Updater) blame(f *fetch) {
	for _, id := range u.o.Depot.Progress(f.artifact.Tree).Stats.Liars {
		u.o.Raise(AlarmLiar, fmt.Sprintf("%s gave chunks of %s that are not the program: look at that member", id, f.artifact.Path))
		u.o.Note(EvLiar, id.String(), f.artifact.Path)
	}
}

// isHanded reports whether the program lies with the installer already, and says so in p.
func (u *Updater) isHanded(a *ota.Artifact, p *ota.Progress) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.handed.hash != a.Hash {
		return false
	}
	p.Stage = ota.Staged
	if time.Since(u.handed.at) > slotsLimit {
		p.Detail = "nothing has taken it: is streembit-updater.path enabled?"
	}
	return true
}

// handOver proves the whole program once more and gives it to the installer.
func (u *Updater) handOver(d *decision, f *chunks.File) {
	files, err := d.by.Files()
	if err == nil {
		err = checkFile(*d.want, f)
	}
	if err == nil {
		err = u.o.Slots.HandOver(*d.want, files, f.Path())
	}
	p := &d.progress
	switch {
	case err == nil:
		p.Stage, p.Percent = ota.Staged, 0
		u.mu.Lock()
		u.handed, u.bundle, u.full = handed{d.want.Hash, time.Now()}, nil, ""
		u.mu.Unlock()
		u.log.Info("handed over to the updater", "path", d.want.Path)
		u.o.Note(EvHandOver, d.want.Path, fmt.Sprintf("after version %s", u.o.Running))
	case errors.Is(err, trust.ErrMismatch): // tree and hash of the metadata do not belong together
		p.Stage, p.Reason, p.Detail = ota.Refused, ota.ReasonProof, err.Error()
		u.o.Raise(AlarmProof, err.Error())
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		u.diskFull(p, err)
	default:
		p.Detail = err.Error()
		u.log.Error("a program could not be handed over", "path", d.want.Path, "err", err)
	}
}

// fullPause is how long a disk that was full is left alone, whatever it says about its space.
const fullPause = time.Minute

func (u *Updater) diskFull(p *ota.Progress, err error) {
	p.Stage, p.Reason, p.Detail = ota.Waiting, ota.ReasonSpace, err.Error()
	u.o.Raise(AlarmSpace, "no program can be kept: delete something on this machine: "+err.Error())
	u.mu.Lock()
	defer u.mu.Unlock()
	u.full, u.fullTo = err.Error(), time.Now().Add(fullPause)
}
