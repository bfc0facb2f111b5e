// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // for crypto.SHA256
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/selfupdate"

	"github.com/streembit/edge/ota"
)

// spare is what stays free on the disk when a program is staged, in bytes: the agent goes on measuring meanwhile.
const spare = 16 << 20

// Staged is a program that lies complete beside the running one.
type Staged struct {
	release  release
	baseline Baseline
}

// Version of the program.
func (s *Staged) Version() ota.Version { return s.release.Version }

// Stage takes what the agent handed over below its state folder, proves it once more, and puts it beside the running program. Nothing that runs or
// is gone back to is touched. The error wraps fs.ErrNotExist when nothing was handed over, ErrBusy during another update, and a *Refusal,
// which is also told as the outcome, when the program may not be installed.
func (s *Slots) Stage(ctx context.Context, state string) (*Staged, error) {
	unlock, err := lock(s.path(stagingLock), false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	box, err := openInbox(state)
	if err != nil {
		return nil, err
	}
	defer box.close()
	r, err := box.request()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, s.refused(r.Wanted, refuse(ota.ReasonProof, "%w", err))
	}
	staged, err := s.stage(ctx, box, r)
	if err != nil && !errors.Is(err, ErrBusy) && ctx.Err() == nil {
		err = s.refused(r.Wanted, err)
	}
	return staged, err
}

// refused tells why a program is not installed.
func (s *Slots) refused(wanted ota.Version, err error) error {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		r = &Refusal{ota.ReasonDisk, err}
	}
	p := ota.Progress{Wanted: wanted, Stage: ota.Refused, Reason: r.Reason, Detail: r.Err.Error()}
	if now, err := s.linked(currentName); err == nil {
		p.Version = now.Version
	}
	s.conclude(p)
	return r
}

func (s *Slots) stage(ctx context.Context, box *inbox, r Request) (*Staged, error) {
	a, err := s.prove(ctx, box, r)
	if err != nil {
		return nil, err
	}
	to := releaseOf(a)
	if err := s.admit(a, to); err != nil {
		return nil, err
	}
	if err := s.write(ctx, box, a, to); err != nil {
		return nil, err
	}
	return &Staged{to, r.Baseline}, nil
}

// prove returns the wanted program as the updater's own trust says, by a copy of the metadata that nobody else can change.
func (s *Slots) prove(ctx context.Context, box *inbox, r Request) (a ota.Artifact, err error) {
	own := s.path(proofName)
	if err := errors.Join(os.RemoveAll(own), os.Mkdir(own, 0o700)); err != nil {
		return a, fmt.Errorf("slots: emptying the folder of proofs: %w", err)
	}
	defer func() { _ = os.RemoveAll(own) }() // the next one does it otherwise
	if err := box.copyMetadata(own); err != nil {
		return a, refuse(ota.ReasonProof, "%w", err)
	}
	if a, err = s.o.Prove(ctx, own, r.Path); err != nil {
		return a, refuse(ota.ReasonProof, "%w", err)
	}
	if a.Version != r.Wanted || a.Path != r.Path {
		return a, refuse(ota.ReasonProof, "%s is version %s, %s was wanted", a.Path, a.Version, r.Wanted)
	}
	return a, nil
}

// admit checks what speaks against a program before any of it is read.
func (s *Slots) admit(a ota.Artifact, to release) error {
	unlock, err := lock(s.path(lockName), true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.settle()
	switch {
	case err != nil:
		return err
	case st.trying():
		return fmt.Errorf("slots: %s is on trial: %w", st.current.Version, ErrBusy)
	}
	if err := a.Fits(s.o.Machine); err != nil {
		return refuse(ota.ReasonUnfit, "%w", err)
	}
	switch {
	case a.Version.Compare(st.ledger.Floor) < 0:
		return refuse(ota.ReasonFloor, "%s is below the security floor %s", a.Version, st.ledger.Floor)
	case st.ledger.failed(to.Hash):
		return refuse(ota.ReasonFailed, "this program was tried on this device and did not stay: release it anew, with what was wrong put right")
	case to.name == st.current.name:
		return refuse(ota.ReasonSame, "%s runs already", a.Version)
	case a.Size <= 0 || a.Size > ota.MaxProgram:
		return refuse(ota.ReasonProof, "the program has %d bytes, want 1 to %d", a.Size, ota.MaxProgram)
	}
	if err := s.prune(st.current, st.good); err != nil {
		return err
	}
	free, err := room(s.o.Root)
	if err != nil {
		return err
	}
	if need := uint64(a.Size) + spare; free < need {
		return refuse(ota.ReasonSpace, "%d MB are free in %s, %d MB are needed", free/1e6, s.o.Root, need/1e6)
	}
	return nil
}

// write puts the program into a folder of its own, which gets its name when everything in it is on the disk. The program is read once, into memory,
// and what was checked there is what is written: changing the inbox meanwhile is of no use.
func (s *Slots) write(ctx context.Context, box *inbox, a ota.Artifact, to release) error {
	f, size, err := fileAt(box.dir, programName, a.Size)
	if err != nil {
		return refuse(ota.ReasonProof, "%w", err)
	}
	defer func() { _ = f.Close() }()
	if size != a.Size {
		return refuse(ota.ReasonProof, "the program has %d bytes, %d are signed", size, a.Size)
	}
	if err := s.fill(&patientReader{ctx, f}, to, a.Hash[:]); err != nil {
		if ctx.Err() == nil && isFull(err) {
			err = refuse(ota.ReasonSpace, "%w", err)
		}
		return errors.Join(err, s.sweep())
	}
	return nil
}

// fill makes the release's folder.
func (s *Slots) fill(program io.Reader, to release, hash []byte) error {
	at := s.folder(".new")
	if err := errors.Join(s.disk.removeAll(at), s.disk.mkdir(at)); err != nil {
		return fmt.Errorf("slots: making a folder for %s: %w", to.name, err)
	}
	target := filepath.Join(at, ProgramName)
	if err := s.disk.create(target, nil); err != nil { // selfupdate wants something to be there
		return fmt.Errorf("slots: making room for %s: %w", to.name, err)
	}
	if err := s.disk.step("prepare", target); err != nil {
		return err
	}
	// Checksum and TargetPath are always set: selfupdate installs anything without the first, and over the running program without the other.
	err := selfupdate.PrepareAndCheckBinary(program, selfupdate.Options{TargetPath: target, TargetMode: 0o755,
		Checksum: hash, Hash: crypto.SHA256, Patcher: once{to.Size}})
	if err != nil {
		return s.unprepared(err)
	}
	text, err := encodeChecked(to)
	if err != nil {
		return fmt.Errorf("slots: describing %s: %w", to.name, err)
	}
	prepared := hidden(target) // the name that selfupdate gives
	for _, step := range []func() error{
		func() error { return s.disk.sync(prepared) },
		func() error { return s.disk.rename(prepared, target) },
		func() error { return s.disk.create(filepath.Join(at, releaseFile), text) },
		func() error { return s.disk.sync(at) },
		func() error { return s.disk.rename(at, s.folder(to.name)) },
		func() error { return s.disk.sync(s.path(releasesName)) },
		func() error { return s.disk.sync(s.o.Root) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("slots: writing %s: %w", to.name, err)
		}
	}
	r, err := s.readRelease(to.name)
	if err != nil {
		return err
	}
	return s.intact(r) // selfupdate does not look whether closing the file succeeded
}

// unprepared tells a program that is not what was signed from a disk that does not take it.
func (s *Slots) unprepared(err error) error {
	if _, system := errors.AsType[*fs.PathError](err); system || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("slots: preparing the program: %w", err)
	}
	return refuse(ota.ReasonProof, "%w", err)
}

// sweep takes away what a failed attempt left, so that it does not fill the disk.
func (s *Slots) sweep() error {
	if err := s.disk.removeAll(s.folder(".new")); err != nil {
		return fmt.Errorf("slots: removing what was not finished: %w", err)
	}
	return nil
}

// once copies the program in selfupdate's place, into memory that is asked for once: without a Patcher, selfupdate has it there twice.
type once struct {
	size int64
}

// Patch implements selfupdate.Patcher.
func (o once) Patch(_ io.Reader, to io.Writer, from io.Reader) error {
	if b, ok := to.(*bytes.Buffer); ok {
		b.Grow(int(o.size) + bytes.MinRead)
	}
	_, err := io.Copy(to, io.LimitReader(from, o.size))
	return err
}

// patientReader ends with its context.
type patientReader struct {
	ctx context.Context
	r   io.Reader
}

func (p *patientReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
