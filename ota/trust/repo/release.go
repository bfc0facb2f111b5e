// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/trust"
)

// Keep is how many versions of a channel stay in the metadata, the newest: what a rollout may name, and go back to.
const Keep = 4

// Release is what one version of a program says of itself.
type Release struct {
	Version ota.Version
	Channel string
	Floor   ota.Version // "" = as the newest release of the channel has it
	Boards  []string    // none = every board of the architecture
	Notes   string
}

// Add puts a program into the draft and its bytes into the folder. Its architecture is what its ELF header says. What the release has already
// changes nothing, and its bytes are put back where they were lost. The error wraps ErrExists when the release has another program for that
// machine, and ota.ErrBelowFloor, ErrWrongArch and trust.ErrMalformed for what devices would
// refuse.
func (r *Repo) Add(rel Release, file string, now time.Time) (a ota.Artifact, err error) {
	c, draft, err := r.draftOrNew(now)
	if err != nil {
		return a, err
	}
	floor := highestFloor(draft, rel.Channel)
	a = ota.Artifact{Version: rel.Version, Channel: rel.Channel, Floor: rel.Floor, Boards: rel.Boards, Notes: rel.Notes}
	if a.Floor == "" {
		a.Floor = floor
	}
	if err := measure(&a, file); err != nil {
		return a, err
	}
	a.Path = fmt.Sprintf("streembitd/%s/linux-%s", a.Version, a.Arch)
	if len(a.Boards) > 0 {
		a.Path += "-" + a.Boards[0]
	}
	if err := a.Above(floor); err != nil {
		return a, fmt.Errorf("ota/repo: %w", err)
	}
	if err := trust.CheckArtifact(a); err != nil {
		return a, fmt.Errorf("ota/repo: %w", err)
	}
	if old := draft.Signed.Targets[a.Path]; old != nil {
		if bytes.Equal(old.Hashes["sha256"], a.Hash[:]) { // the same again, perhaps because the folder lost it
			return a, r.copyProgram(a, file)
		}
		return a, fmt.Errorf("ota/repo: %s: %w", a.Path, ErrExists)
	}
	if err := r.copyProgram(a, file); err != nil {
		return a, err
	}
	if draft.Signed.Targets[a.Path], err = target(a); err != nil {
		return a, err
	}
	prune(draft, rel.Channel)
	if draft.Signed.Targets[a.Path] == nil {
		return a, fmt.Errorf("ota/repo: %s is older than the %d versions that are kept: %w", a.Path, Keep, ota.ErrBelowFloor)
	}
	return a, r.saveDraft(c, draft, now)
}

// Withdraw takes a version of a channel out of the draft: devices that do not run it yet will not install it. It reports how many programs
// went.
func (r *Repo) Withdraw(channel string, v ota.Version, now time.Time) (int, error) {
	c, draft, err := r.draftOrNew(now)
	if err != nil {
		return 0, err
	}
	before := len(draft.Signed.Targets)
	maps.DeleteFunc(draft.Signed.Targets, func(_ string, t *metadata.TargetFiles) bool {
		custom := customOf(t)
		return custom.Channel == channel && custom.Version == string(v)
	})
	gone := before - len(draft.Signed.Targets)
	if gone == 0 {
		return 0, fmt.Errorf("ota/repo: channel %s has no version %s: %w", channel, v, trust.ErrNotFound)
	}
	return gone, r.saveDraft(c, draft, now)
}

// Renew makes a draft of the same programs with a new expiry.
func (r *Repo) Renew(now time.Time) error {
	c, draft, err := r.draftOrNew(now)
	if err != nil {
		return err
	}
	return r.saveDraft(c, draft, now)
}

// Draft returns the programs of the draft and who has signed it. The error wraps ErrNoDraft.
func (r *Repo) Draft() ([]string, Standing, error) {
	c, err := r.current()
	if err != nil {
		return nil, Standing{}, err
	}
	draft, err := r.loadDraft()
	if err != nil {
		return nil, Standing{}, err
	}
	s, err := standing(metadata.TARGETS, c.root.Signed.Roles[metadata.TARGETS], c.root.Signed.Keys, draft)
	return slices.Sorted(maps.Keys(draft.Signed.Targets)), s, err
}

func (r *Repo) loadDraft() (*metadata.Metadata[metadata.TargetsType], error) {
	text, err := os.ReadFile(r.draft())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ota/repo: %w", ErrNoDraft)
	}
	if err != nil {
		return nil, fmt.Errorf("ota/repo: %w", err)
	}
	draft, err := metadata.Targets().FromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("ota/repo: %s: %w", r.draft(), err)
	}
	if draft.Signed.Targets == nil {
		draft.Signed.Targets = map[string]*metadata.TargetFiles{}
	}
	return draft, nil
}

// draftOrNew returns the draft, or a new one of what is signed.
func (r *Repo) draftOrNew(now time.Time) (c current, draft *metadata.Metadata[metadata.TargetsType], err error) {
	if c, err = r.current(); err != nil {
		return c, nil, err
	}
	if draft, err = r.loadDraft(); !errors.Is(err, ErrNoDraft) {
		return c, draft, err
	}
	draft = metadata.Targets(expiry(now, TargetsLife))
	if c.targets != nil {
		maps.Copy(draft.Signed.Targets, c.targets.Signed.Targets)
	}
	return c, draft, nil
}

// saveDraft gives the draft the version after the signed one, and takes away the signatures on what it said before.
func (r *Repo) saveDraft(c current, draft *metadata.Metadata[metadata.TargetsType], now time.Time) error {
	draft.Signatures, draft.Signed.Version, draft.Signed.Expires = []metadata.Signature{}, 1, expiry(now, TargetsLife)
	if c.targets != nil {
		draft.Signed.Version = c.targets.Signed.Version + 1
	}
	text, err := encode(draft)
	if err != nil {
		return err
	}
	if len(text) > trust.MaxTargets {
		return fmt.Errorf("ota/repo: the draft has %d bytes of at most %d: shorter notes, or streembit ota withdraw", len(text), trust.MaxTargets)
	}
	return trust.WriteFile(r.draft(), text, 0o644)
}

// machines are the architectures that releases are made for, by their ELF headers.
func machines(f *elf.File) string {
	switch {
	case f.Machine == elf.EM_AARCH64 && f.Class == elf.ELFCLASS64:
		return "arm64"
	case f.Machine == elf.EM_ARM && f.Class == elf.ELFCLASS32:
		return "arm"
	case f.Machine == elf.EM_X86_64 && f.Class == elf.ELFCLASS64:
		return "amd64"
	case f.Machine == elf.EM_RISCV && f.Class == elf.ELFCLASS64:
		return "riscv64"
	}
	return ""
}

// Arch returns for which architecture (GOARCH) a file is a program, by its ELF header. The error wraps ErrWrongArch.
func Arch(file string) (string, error) {
	f, err := elf.Open(file)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return "", fmt.Errorf("ota/repo: %w", pe)
	}
	if err != nil {
		return "", fmt.Errorf("ota/repo: %s is no program for Linux: %w: %w", file, ErrWrongArch, err)
	}
	defer f.Close()
	arch := machines(f)
	switch {
	case arch == "" || f.Data != elf.ELFDATA2LSB:
		return "", fmt.Errorf("ota/repo: %s is a program for %s, want arm, arm64, amd64 or riscv64: %w", file, f.Machine, ErrWrongArch)
	case f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN:
		return "", fmt.Errorf("ota/repo: %s is no program that starts: %w", file, ErrWrongArch)
	}
	return arch, nil
}

// measure fills in what the file itself says.
func measure(a *ota.Artifact, file string) (err error) {
	if a.Arch, err = Arch(file); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if a.Tree, a.Size, err = chunks.Tree(io.TeeReader(f, h)); err != nil {
		return fmt.Errorf("ota/repo: %s: %w", file, err)
	}
	a.Hash = [32]byte(h.Sum(nil))
	return nil
}

// copyProgram puts the program into the folder, and looks that it is what was measured.
func (r *Repo) copyProgram(a ota.Artifact, file string) (err error) {
	to := r.Program(a.Tree)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".program.*")
	if err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	err = errors.Join(trust.CheckProgram(a, io.TeeReader(in, out)), out.Chmod(0o644), out.Sync(), out.Close())
	if err != nil {
		return fmt.Errorf("ota/repo: copying %s: %w", file, err)
	}
	if err := os.Rename(out.Name(), to); err != nil {
		return fmt.Errorf("ota/repo: %w", err)
	}
	return nil
}

// target is an artifact as the targets metadata say it.
func target(a ota.Artifact) (*metadata.TargetFiles, error) {
	custom, err := json.Marshal(trust.Custom{Version: string(a.Version), Channel: a.Channel, Arch: a.Arch, Boards: a.Boards,
		Tree: hex.EncodeToString(a.Tree[:]), Floor: string(a.Floor), Notes: a.Notes})
	if err != nil {
		return nil, fmt.Errorf("ota/repo: %w", err)
	}
	return &metadata.TargetFiles{Length: a.Size, Hashes: metadata.Hashes{"sha256": a.Hash[:]}, Custom: (*json.RawMessage)(&custom), Path: a.Path}, nil
}

// customOf is what a target of our own making says; nothing for another.
func customOf(t *metadata.TargetFiles) (c trust.Custom) {
	if t != nil && t.Custom != nil {
		_ = json.Unmarshal(*t.Custom, &c)
	}
	return c
}

func highestFloor(draft *metadata.Metadata[metadata.TargetsType], channel string) (floor ota.Version) {
	for _, t := range draft.Signed.Targets {
		if c := customOf(t); c.Channel == channel && ota.Version(c.Floor).Compare(floor) > 0 {
			floor = ota.Version(c.Floor)
		}
	}
	return floor
}

// prune leaves out what is below the channel's floor, and all but the newest versions.
func prune(draft *metadata.Metadata[metadata.TargetsType], channel string) {
	var versions []ota.Version
	for _, t := range draft.Signed.Targets {
		if c := customOf(t); c.Channel == channel && !slices.Contains(versions, ota.Version(c.Version)) {
			versions = append(versions, ota.Version(c.Version))
		}
	}
	slices.SortFunc(versions, func(a, b ota.Version) int { return -cmp.Compare(a.Compare(b), 0) })
	kept, floor := versions[:min(Keep, len(versions))], highestFloor(draft, channel)
	maps.DeleteFunc(draft.Signed.Targets, func(_ string, t *metadata.TargetFiles) bool {
		c := customOf(t)
		return c.Channel == channel && (!slices.Contains(kept, ota.Version(c.Version)) || ota.Version(c.Version).Compare(floor) < 0)
	})
}

// unpublished returns the programs of the folder, draft included, that the fleet did not have when it was last asked.
func (r *Repo) unpublished(c current) (map[string]*metadata.TargetFiles, error) {
	draft, err := r.loadDraft()
	switch {
	case errors.Is(err, ErrNoDraft) && c.targets == nil:
		return nil, nil
	case errors.Is(err, ErrNoDraft):
		draft = c.targets
	case err != nil:
		return nil, err
	}
	version, err := r.common()
	if err != nil {
		return nil, err
	}
	if version == 0 { // it was never asked
		return added(nil, draft), nil
	}
	text, err := r.read(fmt.Sprintf("%d.targets.json", version))
	if err != nil {
		return nil, err
	}
	before, err := metadata.Targets().FromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("ota/repo: %w", err)
	}
	return added(before, draft), nil
}

// published is the file with the version of the newest targets that folder and fleet had in common.
func (r *Repo) published() string { return filepath.Join(r.dir, "published") }

func (r *Repo) common() (version int64, err error) {
	text, err := os.ReadFile(r.published())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ota/repo: %w", err)
	}
	if version, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		return 0, fmt.Errorf("ota/repo: %s: %w: remove it, and look at the draft before you sign", r.published(), err)
	}
	return version, nil
}

func (r *Repo) setCommon(version int64) error {
	if was, err := r.common(); err == nil && was == version {
		return nil
	}
	return trust.WriteFile(r.published(), []byte(strconv.FormatInt(version, 10)+"\n"), 0o644)
}

func added(before, after *metadata.Metadata[metadata.TargetsType]) map[string]*metadata.TargetFiles {
	all := maps.Clone(after.Signed.Targets)
	maps.DeleteFunc(all, func(path string, _ *metadata.TargetFiles) bool {
		return before != nil && before.Signed.Targets[path] != nil
	})
	return all
}

func (r *Repo) dropDraft() error {
	if err := os.Remove(r.draft()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ota/repo: %w", err)
	}
	return nil
}
