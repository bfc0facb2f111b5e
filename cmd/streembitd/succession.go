// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent/command"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/direct"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/thing"
)

// formerName is the file with the keys that this device had before: without it nobody would know whose the old chains in the outbox are.
const formerName = "key.former"

const (
	maxFormer = 64  // keys; what is older has nothing in the outbox any more
	maxEnds   = 100 // chains whose ends one answer names: it must fit a frame
)

// succession is the part of a device that changes its key. It goes in steps that may lie any time apart, each of which may be the last before a power cut
// (docs/decisions/0022-rotating-a-key.md): a next key is made; an operator grants it; the device ends its chains, takes the key and starts anew; an operator revokes
// the old key at the ends of its chains.
type succession struct {
	former []formerKey             // proven, oldest first
	next   atomic.Pointer[edge.ID] // of the key that was made and not taken yet; nil = none
	box    *outbox.Outbox
}

// formerKey is a key that this device had, and the proof that it gave it up.
type formerKey struct {
	fleet.Succession
	record []byte
}

// formerFile is the content of the file: the records of successions.
type formerFile struct {
	_       struct{} `cbor:",toarray"`
	Records [][]byte
}

// openFormer reads which keys this device had before, and takes the next one if the fleet has granted it.
func (p *program) openFormer(f *fleet.Fleet) error {
	if err := p.readFormer(f.ID()); err != nil {
		return err
	}
	source := keySource(p.cfg.State, p.cfg.TPM)
	next, err := source.OpenNext(p.origin)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fleet.ErrNotReplaceable):
		return nil
	case err != nil: // the present key is good for everything
		p.alarms.raise(alarmNextKey, "", fmt.Sprintf("the next key cannot be read: %v: remove %s and call rotate-key again", err, p.cfg.file("next.*")))
		return nil
	}
	id := next.ID()
	s := fleet.Succession{Fleet: f.ID(), Old: p.key.ID(), New: id}
	if !f.AsOf(p.clock.since(f.Floor())).Succeeds(s) {
		p.next.Store(&id)
		return nil
	}
	if err := p.noteFormer(s, next); err != nil {
		return err
	}
	if err := source.AdoptNext(p.origin); err != nil {
		return err
	}
	p.record.decided(evNewKey, p.key.ID().String(), id.String(), "the fleet has granted it")
	p.logger.Info("this device has a new key", "id", id, "before", p.key.ID())
	p.key = next
	return nil
}

func (p *program) readFormer(in journal.FleetID) error {
	path := p.cfg.file(formerName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file formerFile
	if err == nil {
		err = journal.Decode(data, &file)
	}
	for _, record := range file.Records {
		s, serr := fleet.OpenSuccession(in, record)
		err = errors.Join(err, serr)
		p.former = append(p.former, formerKey{s, record})
	}
	if err != nil {
		return cli.Try(fmt.Errorf("reading the keys that this device had before, from %s: %w", path, err),
			"restore it from a backup; rm %s gives up what the outbox holds under them", cli.Quote(path))
	}
	return nil
}

// noteFormer writes down, before the key is taken, that the present one will have been this device's.
func (p *program) noteFormer(s fleet.Succession, next journal.Signer) error {
	if slices.ContainsFunc(p.former, func(k formerKey) bool { return k.Succession == s }) {
		return nil // at a start that was cut short
	}
	record, err := fleet.SignSuccession(s.Fleet, p.key, next)
	if err != nil {
		return err
	}
	p.former = append(p.former, formerKey{s, record})
	var file formerFile
	for _, k := range p.former[max(0, len(p.former)-maxFormer):] {
		file.Records = append(file.Records, k.record)
	}
	enc, err := journal.Encode(file)
	if err != nil {
		return err
	}
	return fleet.WriteFile(p.cfg.file(formerName), enc, 0o644)
}

// formerKeys returns the keys under which the outbox may still hold something.
func (p *program) formerKeys() (all []edge.ID) {
	for _, k := range p.former {
		if k.Old != p.key.ID() {
			all = append(all, k.Old)
		}
	}
	return all
}

// lookForNextKey has the program start anew once the fleet has granted the next key.
func (p *program) lookForNextKey(f *fleet.Fleet) {
	next := p.next.Load()
	if next == nil || !f.Succeeds(fleet.Succession{Fleet: f.ID(), Old: p.key.ID(), New: *next}) {
		return
	}
	p.logger.Info("the fleet has granted the next key: starting anew with it", "id", *next)
	p.startAgain()
}

// startAgain has the program end in order and start anew.
func (p *program) startAgain() {
	select {
	case p.again <- struct{}{}:
	default: // it is under way
	}
}

// keyActions is what a device can do with its key: nothing, if it is more than a device, or if its key lies where this program cannot put another one.
func (p *program) keyActions() map[string]command.Action {
	if g, ok := p.members.get().Member(p.key.ID()); !ok || g.Roles != fleet.Device || p.origin == fleet.FromCredential {
		return nil
	}
	return map[string]command.Action{"rotate-key": {Action: thing.Action{Title: "rotate key", Signed: true, Idempotent: true, Output: &thing.Schema{Type: thing.Object},
		Description: "makes a new key, and says how far the old one reaches; an operator grants the one and revokes the other"}, Do: p.rotateKey}}
}

// rotateKey says where the change of keys stands: the proof for the key that is to come; or, while the fleet still has the old one, the proof for that which has
// come and the ends of the old one's chains. Called again it says the same.
func (p *program) rotateKey(context.Context, *direct.Order) (any, error) {
	f := p.members.get()
	if n := len(p.former); n > 0 && p.former[n-1].New == p.key.ID() && f.IsMember(p.former[n-1].Old) {
		return p.oldKey(p.former[n-1])
	}
	source := keySource(p.cfg.State, p.cfg.TPM)
	next, err := source.NextKey(p.origin)
	if err != nil {
		return nil, err
	}
	if _, _, former := f.Former(next.ID()); former { // no fleet takes it any more
		for _, name := range []string{fleet.NextKeyFile, fleet.NextSealedKeyFile} {
			if err := erase(p.cfg.file(name)); err != nil {
				return nil, err
			}
		}
		if next, err = source.NextKey(p.origin); err != nil {
			return nil, err
		}
	}
	record, err := fleet.SignSuccession(f.ID(), p.key, next)
	if err != nil {
		return nil, err
	}
	id := next.ID()
	p.next.Store(&id)
	p.lookForNextKey(f) // it may have been granted already
	return aboutKeys(fleet.Succession{Old: p.key.ID(), New: id}, record), nil
}

func aboutKeys(s fleet.Succession, record []byte) map[string]any {
	return map[string]any{"old": s.Old.String(), "new": s.New.String(), "proof": base64.StdEncoding.EncodeToString(record)}
}

// oldKey tells how far the old key's chains reach, as this device knows it.
func (p *program) oldKey(k formerKey) (any, error) {
	var cuts []fleet.Cut
	for _, e := range p.box.Ends(k.Old) {
		if len(cuts) < maxEnds {
			cuts = append(cuts, fleet.Cut{Stream: e.Chain.Stream, Incarnation: e.Chain.Incarnation, Seq: e.Seq, Hash: e.Hash})
		} else if e.Pending {
			return nil, fmt.Errorf("more than %d chains of the old key wait to be published: come again when some are", maxEnds)
		}
	}
	ends, err := journal.Encode(cuts)
	if err != nil {
		return nil, err
	}
	answer := aboutKeys(k.Succession, k.record)
	answer["ends"] = base64.StdEncoding.EncodeToString(ends)
	return answer, nil
}
