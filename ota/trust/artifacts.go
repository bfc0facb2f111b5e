// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/ota"
)

// Bounds of what targets may say of a program.
const (
	MaxNotes  = 1000 // bytes
	maxBoards = 32
)

// Custom is what the targets metadata say of a program beside its length and hash: the field "custom" of a TUF target, in JSON. Fields that
// are not known are left alone, so that later releases may say more.
type Custom struct {
	Version string   `json:"version"`
	Channel string   `json:"channel"`
	Arch    string   `json:"arch"`
	Boards  []string `json:"boards,omitempty"`
	Tree    string   `json:"tree"` // 64 hex digits
	Floor   string   `json:"floor,omitempty"`
	Notes   string   `json:"notes,omitempty"`
}

var (
	targetPath  = regexp.MustCompile(`^streembitd/([^/]{1,64})/linux-(arm|arm64|amd64|riscv64)(?:-([a-z0-9][a-z0-9-]{0,31}))?$`)
	channelName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)
	boardName   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
)

// Artifacts returns the programs of the newest complete set that was proven, by their paths. The error wraps ErrNone when there is no such
// set. It wraps ErrExpired when that may not be used for new updates; the programs are returned all the same, to be shown. A target that is
// malformed, or below the security floor that another program of its channel sets, is left out, see Skipped.
func (s *Store) Artifacts() ([]ota.Artifact, error) {
	all, _, err := s.artifacts()
	return all, err
}

// Skipped says for each target that Artifacts leaves out why.
func (s *Store) Skipped() []error {
	_, skipped, _ := s.artifacts()
	return skipped
}

func (s *Store) artifacts() (all []ota.Artifact, skipped []error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.held.prove()
	if err != nil {
		return nil, nil, fmt.Errorf("ota/trust: %w", err)
	}
	if p == nil {
		return nil, nil, fmt.Errorf("ota/trust: %w", ErrNone)
	}
	for _, path := range slices.Sorted(maps.Keys(p.targets.Signed.Targets)) {
		a, err := artifact(path, p.targets.Signed.Targets[path])
		if err != nil {
			skipped = append(skipped, fmt.Errorf("ota/trust: target %.100q: %w", path, err))
			continue
		}
		all = append(all, a)
	}
	all, below := aboveFloor(all)
	skipped = append(skipped, below...)
	if s.time().After(p.expires) {
		return all, skipped, fmt.Errorf("ota/trust: since %s: %w", p.expires.UTC().Format("2006-01-02 15:04 MST"), ErrExpired)
	}
	return all, skipped, nil
}

// aboveFloor leaves out what is below the highest floor of its channel: newer metadata may name an older program by mistake.
func aboveFloor(all []ota.Artifact) (kept []ota.Artifact, below []error) {
	floors := map[string]ota.Version{}
	for _, a := range all {
		if a.Floor.Compare(floors[a.Channel]) > 0 {
			floors[a.Channel] = a.Floor
		}
	}
	for _, a := range all {
		if err := a.Above(floors[a.Channel]); err != nil {
			below = append(below, fmt.Errorf("ota/trust: %w", err))
			continue
		}
		kept = append(kept, a)
	}
	return kept, below
}

// artifact reads a target strictly. Errors wrap ErrMalformed.
func artifact(path string, t *metadata.TargetFiles) (a ota.Artifact, err error) {
	if t == nil || t.Custom == nil {
		return a, fmt.Errorf("it has no custom fields: %w", ErrMalformed)
	}
	var c Custom
	if err := json.Unmarshal(*t.Custom, &c); err != nil {
		return a, fmt.Errorf("custom fields: %w: %w", ErrMalformed, err)
	}
	a = ota.Artifact{Path: path, Channel: c.Channel, Arch: c.Arch, Boards: c.Boards, Size: t.Length, Notes: c.Notes}
	if a.Version, err = ota.ParseVersion(c.Version); err != nil {
		return a, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if c.Floor != "" {
		if a.Floor, err = ota.ParseVersion(c.Floor); err != nil {
			return a, fmt.Errorf("floor: %w: %w", ErrMalformed, err)
		}
	}
	if err := digest(&a.Hash, hex.EncodeToString(t.Hashes["sha256"])); err != nil {
		return a, fmt.Errorf("sha256: %w", err)
	}
	if err := digest(&a.Tree, c.Tree); err != nil {
		return a, fmt.Errorf("tree: %w", err)
	}
	return a, checkArtifact(a)
}

func digest(to *[32]byte, text string) error {
	if len(text) != 64 || !lowerHex.MatchString(text) {
		return fmt.Errorf("%.80q: want 64 lower-case hex digits: %w", text, ErrMalformed)
	}
	_, err := hex.Decode(to[:], []byte(text))
	return err
}

// checkArtifact checks what the parts of an artifact must have to do with each other.
func checkArtifact(a ota.Artifact) error {
	m := targetPath.FindStringSubmatch(a.Path)
	wrong := ""
	switch {
	case m == nil:
		wrong = "want streembitd/VERSION/linux-ARCH or linux-ARCH-BOARD"
	case m[1] != string(a.Version), m[2] != a.Arch:
		wrong = "version and architecture are not those of its name"
	case m[3] == "" && len(a.Boards) > 0, m[3] != "" && !slices.Contains(a.Boards, m[3]):
		wrong = "its boards are not those of its name"
	case !channelName.MatchString(a.Channel):
		wrong = "channel: want 1 to 32 of a-z 0-9 . _ -"
	case len(a.Boards) > maxBoards, slices.ContainsFunc(a.Boards, func(b string) bool { return !boardName.MatchString(b) }):
		wrong = "boards: want at most 32 names of a-z 0-9 -"
	case a.Size < 1, a.Size > ota.MaxProgram:
		wrong = fmt.Sprintf("length %d: want 1 to %d", a.Size, ota.MaxProgram)
	case a.Floor.Compare(a.Version) > 0:
		wrong = fmt.Sprintf("its security floor %s is above its version %s", a.Floor, a.Version)
	case len(a.Notes) > MaxNotes, !utf8.ValidString(a.Notes), strings.ContainsFunc(a.Notes, unprintable):
		wrong = fmt.Sprintf("notes: want at most %d bytes of printable text", MaxNotes)
	}
	if wrong != "" {
		return fmt.Errorf("%s: %w", wrong, ErrMalformed)
	}
	return nil
}

func unprintable(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// CheckProgram reads a program to its end, and not far beyond the length that was signed, and compares length and hash. Errors of the
// reader come as they are, others wrap ErrMismatch.
func CheckProgram(a ota.Artifact, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, a.Size+1))
	switch {
	case err != nil:
		return fmt.Errorf("ota/trust: reading program: %w", err)
	case n > a.Size:
		return fmt.Errorf("ota/trust: program of %s has more than the %d bytes that were signed: %w", a.Path, a.Size, ErrMismatch)
	case n < a.Size:
		return fmt.Errorf("ota/trust: program of %s has %d of the %d bytes that were signed: %w", a.Path, n, a.Size, ErrMismatch)
	case [32]byte(h.Sum(nil)) != a.Hash:
		return fmt.Errorf("ota/trust: program of %s has another hash than the signed one: %w", a.Path, ErrMismatch)
	}
	return nil
}

// CheckArtifact reports whether Artifacts would take a program that is described like that: for the release side.
func CheckArtifact(a ota.Artifact) error {
	if a.Tree == [32]byte{} || a.Hash == [32]byte{} {
		return errors.New("ota/trust: a program without hashes")
	}
	if err := checkArtifact(a); err != nil {
		return fmt.Errorf("ota/trust: %s: %w", a.Path, err)
	}
	return nil
}
