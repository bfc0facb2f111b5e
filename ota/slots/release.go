// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/streembit/edge/ota"
)

const releaseFile = "release.json"

// release is what release.json says of the program beside it.
type release struct {
	Version ota.Version `json:"version"`
	Hash    string      `json:"hash"` // SHA-256 of the program, hex
	Size    int64       `json:"size"` // of the program, bytes
	Floor   ota.Version `json:"floor,omitempty"`

	name string // of its folder
}

func releaseOf(a ota.Artifact) release {
	hash := hex.EncodeToString(a.Hash[:])
	return release{Version: a.Version, Hash: hash, Size: a.Size, Floor: a.Floor, name: string(a.Version) + "-" + hash[:8]}
}

func (s *Slots) folder(name string) string { return s.path(releasesName, name) }

// readRelease returns a release that is complete by all that can be told without reading the program.
func (s *Slots) readRelease(name string) (release, error) {
	r := release{name: name}
	if err := readChecked(filepath.Join(s.folder(name), releaseFile), &r); err != nil {
		return r, fmt.Errorf("slots: release %s: %w", name, err)
	}
	info, err := os.Lstat(filepath.Join(s.folder(name), ProgramName))
	if err != nil {
		return r, fmt.Errorf("slots: release %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() != r.Size || info.Mode()&0o111 == 0 {
		return r, fmt.Errorf("slots: release %s: its program is not whole: %w", name, errDamaged)
	}
	return r, nil
}

// intact reads the whole program.
func (s *Slots) intact(r release) error {
	sum, err := hashOf(filepath.Join(s.folder(r.name), ProgramName))
	if err != nil {
		return fmt.Errorf("slots: reading release %s: %w", r.name, err)
	}
	if hex.EncodeToString(sum[:]) != r.Hash {
		return fmt.Errorf("slots: release %s: its program is another one: %w", r.name, errDamaged)
	}
	return nil
}

func hashOf(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), errors.Join(err, f.Close())
}

// linked returns the complete release that a link leads to.
func (s *Slots) linked(link string) (release, error) {
	target, err := os.Readlink(s.path(link))
	if err != nil {
		return release{}, fmt.Errorf("slots: link %s: %w", link, err)
	}
	dir, name := filepath.Split(target)
	if filepath.Clean(dir) != releasesName || name == "" || strings.HasPrefix(name, ".") {
		return release{}, fmt.Errorf("slots: link %s leads to %q: %w", link, target, errDamaged)
	}
	return s.readRelease(name)
}

func (s *Slots) link(link string, r release) error {
	if err := s.disk.relink(s.path(link), filepath.Join(releasesName, r.name)); err != nil {
		return fmt.Errorf("slots: link %s to %s: %w", link, r.name, err)
	}
	return nil
}

// anyRelease finds the highest complete release when both links are lost.
func (s *Slots) anyRelease() (best release, err error) {
	entries, err := os.ReadDir(s.path(releasesName))
	if err != nil {
		return best, fmt.Errorf("slots: reading the releases: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		r, err := s.readRelease(e.Name())
		if err == nil && r.Version.Compare(best.Version) > 0 && s.intact(r) == nil {
			best = r
		}
	}
	if best.name == "" {
		return best, fmt.Errorf("slots: %s: %w", s.o.Root, ErrNoProgram)
	}
	return best, nil
}

// prune removes every release that neither link leads to, and what an interrupted one left.
func (s *Slots) prune(keep ...release) error {
	entries, err := os.ReadDir(s.path(releasesName))
	if err != nil {
		return fmt.Errorf("slots: reading the releases: %w", err)
	}
	for _, e := range entries {
		kept := false
		for _, r := range keep {
			kept = kept || r.name == e.Name()
		}
		if kept {
			continue
		}
		if err := s.disk.removeAll(s.folder(e.Name())); err != nil {
			return fmt.Errorf("slots: removing release %s: %w", e.Name(), err)
		}
	}
	return nil
}
