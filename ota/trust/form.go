// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Names by which timestamp and snapshot speak of the files below them.
const (
	snapshotMeta = "snapshot.json"
	targetsMeta  = "targets.json"
)

var lowerHex = regexp.MustCompile(`^([0-9a-f]{2})*$`)

// readForm reads a metadata file and refuses every way to write it but two: one line without blanks, as package repo does, and indented by
// one blank, as python-tuf and tuf-on-ci do; keys sorted in both. TUF signs what a file means and not its bytes, so that bytes that nobody
// signed could be changed (blanks, the case of hex digits, fields beside the signature). Here no byte is without meaning, and what two
// parsers might read differently (a key twice, null) is refused before go-tuf sees it, which takes some of it amiss: it panics at a null.
func readForm(data []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || m == nil {
		return nil, fmt.Errorf("more or less than one object: %w", ErrMalformed)
	}
	line, err := encodeLine(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(line, data) {
		var indented bytes.Buffer
		if err := json.Indent(&indented, line, "", " "); err != nil || !bytes.Equal(indented.Bytes(), data) {
			return nil, fmt.Errorf("neither one line without blanks nor indented by one blank, with sorted keys: %w", ErrMalformed)
		}
	}
	return m, checkEnvelope(m)
}

// encodeLine writes JSON on one line, keys sorted, nothing escaped that need not be.
func encodeLine(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// checkEnvelope checks the part that is not signed.
func checkEnvelope(m map[string]any) error {
	signed, _ := m["signed"].(map[string]any)
	signatures, _ := m["signatures"].([]any)
	if len(m) != 2 || signed == nil || signatures == nil {
		return fmt.Errorf("want an object with signed and signatures alone: %w", ErrMalformed)
	}
	if hasNull(m) {
		return fmt.Errorf("it has a null: %w", ErrMalformed)
	}
	for _, s := range signatures {
		sig, _ := s.(map[string]any)
		id, _ := sig["keyid"].(string)
		text, ok := sig["sig"].(string)
		if len(sig) != 2 || !ok || id == "" || !lowerHex.MatchString(text) {
			return fmt.Errorf("want signatures with keyid and sig in lower-case hex alone: %w", ErrMalformed)
		}
	}
	return nil
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, e := range v {
			if hasNull(e) {
				return true
			}
		}
	case []any:
		if slices.ContainsFunc(v, hasNull) {
			return true
		}
	}
	return false
}

// checkRoot checks what go-tuf takes for granted in a root: all roles, and keys that can be used.
func checkRoot(data []byte) error {
	if _, err := readForm(data); err != nil {
		return err
	}
	root, err := metadata.Root().FromBytes(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !root.Signed.ConsistentSnapshot || root.Signed.Version < 1 {
		return fmt.Errorf("want a version and consistent snapshots: %w", ErrMalformed)
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		role := root.Signed.Roles[name]
		if role == nil || role.Threshold < 1 || role.Threshold > len(role.KeyIDs) {
			return fmt.Errorf("role %s is missing or can never be signed: %w", name, ErrMalformed)
		}
		for _, id := range role.KeyIDs {
			if err := checkKey(id, root.Signed.Keys[id]); err != nil {
				return fmt.Errorf("role %s: %w", name, err)
			}
		}
	}
	return nil
}

// checkKey wants Ed25519 or ECDSA. Whether the id is the key's hash does not matter: go-tuf counts keys, not ids.
func checkKey(id string, key *metadata.Key) error {
	if key == nil {
		return fmt.Errorf("key %.64q is missing: %w", id, ErrMalformed)
	}
	switch key.Type {
	case metadata.KeyTypeEd25519:
		if raw, err := hex.DecodeString(key.Value.PublicKey); err != nil || len(raw) != 32 {
			return fmt.Errorf("key %.64q is no Ed25519 key: %w", id, ErrMalformed)
		}
	case metadata.KeyTypeECDSA_SHA2_P256, metadata.KeyTypeECDSA_SHA2_P256_COMPAT:
		if _, err := key.ToPublicKey(); err != nil {
			return fmt.Errorf("key %.64q: %w: %w", id, ErrMalformed, err)
		}
	default:
		return fmt.Errorf("key %.64q has type %.32q, want ed25519 or ecdsa: %w", id, key.Type, ErrMalformed)
	}
	return nil
}

func checkTimestamp(data []byte) error {
	if _, err := readForm(data); err != nil {
		return err
	}
	ts, err := metadata.Timestamp().FromBytes(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return checkMeta(ts.Signed.Meta, snapshotMeta)
}

func checkSnapshot(data []byte) error {
	if _, err := readForm(data); err != nil {
		return err
	}
	snap, err := metadata.Snapshot().FromBytes(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return checkMeta(snap.Signed.Meta, targetsMeta)
}

func checkMeta(meta map[string]*metadata.MetaFiles, name string) error {
	m := meta[name]
	if m == nil || m.Version < 1 || m.Length < 0 {
		return fmt.Errorf("it does not name a version of %s: %w", name, ErrMalformed)
	}
	return nil
}

func checkTargets(data []byte) error {
	_, err := readForm(data)
	return err
}

// explain gives go-tuf's errors our names.
func explain(err error) error {
	for _, k := range []struct{ theirs, ours error }{
		{&metadata.ErrExpiredMetadata{}, ErrExpired},
		{&metadata.ErrBadVersionNumber{}, ErrRollback},
		{&metadata.ErrUnsignedMetadata{}, ErrUnsigned},
		{&metadata.ErrLengthOrHashMismatch{}, ErrMismatch},
	} {
		if errors.Is(err, k.theirs) {
			return fmt.Errorf("%w: %w", k.ours, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// guard turns a panic of a parser into an error. What arrives is checked before it gets there; but the program that would stop here again at
// each start is the one that no update could reach any more.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: reading it failed: %v", ErrMalformed, p)
	}
}

// Canonical rewrites metadata in the form that readForm wants: one line, keys sorted.
func Canonical(data []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("ota/trust: %w: %w", ErrMalformed, err)
	}
	line, err := encodeLine(m)
	if err != nil {
		return nil, fmt.Errorf("ota/trust: %w: %w", ErrMalformed, err)
	}
	return line, nil
}

// CheckRootForm reports whether a root is well-formed; who signed it does not count.
func CheckRootForm(data []byte) error {
	if err := checkRoot(data); err != nil {
		return fmt.Errorf("ota/trust: root: %w", err)
	}
	return nil
}
