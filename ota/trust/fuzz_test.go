// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/ota"
)

// fuzzSet is a set that verifies; it is read from testdata, which TestGolden keeps.
func fuzzSet(f *testing.F) held {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "repo", name))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	return held{Roots: [][]byte{read("1.root.json")}, Proven: &complete{read("timestamp.json"), read("1.snapshot.json"), read("1.targets.json")}}
}

// FuzzMetadata puts bytes in the place of each of the four files. Whoever has no key changes nothing: what is proven says what it said.
func FuzzMetadata(f *testing.F) {
	set := fuzzSet(f)
	want, err := set.prove()
	if err != nil {
		f.Fatal(err)
	}
	for i, text := range [][]byte{set.Roots[0], set.Proven.Timestamp, set.Proven.Snapshot, set.Proven.Targets} {
		f.Add(byte(i), text)
		f.Add(byte(i), bytes.Replace(text, []byte(`"version":1`), []byte(`"version":2`), 1))
		f.Add(byte(i), bytes.Replace(text, []byte(`:{`), []byte(`:null,"x":{`), 2))
	}
	f.Add(byte(3), []byte(`{"signatures":[],"signed":{"_type":"targets","targets":{"a":null}}}`))
	f.Fuzz(func(t *testing.T, which byte, text []byte) {
		h := held{Roots: set.Roots, Proven: &complete{set.Proven.Timestamp, set.Proven.Snapshot, set.Proven.Targets}}
		switch which % 4 {
		case 0:
			h.Roots = [][]byte{set.Roots[0], text} // the first is pinned
		case 1:
			h.Proven.Timestamp = text
		case 2:
			h.Proven.Snapshot = text
		case 3:
			h.Proven.Targets = text
		}
		got, err := h.prove()
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsigned) && !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrRollback) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !reflect.DeepEqual(got.targets.Signed, want.targets.Signed) || !reflect.DeepEqual(got.snapshot.Signed, want.snapshot.Signed) ||
			!reflect.DeepEqual(got.root.Signed, want.root.Signed) {
			t.Fatalf("proven without a key: %s", text)
		}
	})
}

// FuzzForm: what readForm takes is, to the byte, what its meaning is written as.
func FuzzForm(f *testing.F) {
	set := fuzzSet(f)
	f.Add(set.Roots[0])
	f.Add(set.Proven.Targets)
	f.Add([]byte("{\n \"signatures\": [],\n \"signed\": {}\n}"))
	f.Add([]byte(`{"signatures":[{"keyid":"a","sig":"AB"}],"signed":{"a":1e3,"a":2}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := readForm(text); err != nil {
			return
		}
		line, err := Canonical(text)
		if err != nil {
			t.Fatal(err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, line, "", " "); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(line, text) && !bytes.Equal(indented.Bytes(), text) {
			t.Fatalf("taken: %q", text)
		}
		for _, again := range [][]byte{line, indented.Bytes()} {
			if _, err := readForm(again); err != nil {
				t.Fatalf("%q: %v", again, err)
			}
		}
	})
}

// FuzzCustom: what is taken for a program is written and read again as the same.
func FuzzCustom(f *testing.F) {
	tree := strings.Repeat("ab", 32)
	f.Add("streembitd/1.4.0/linux-arm64", `{"version":"1.4.0","channel":"stable","arch":"arm64","tree":"`+tree+`"}`, int64(5), tree)
	f.Add("streembitd/1.4.0/linux-arm64-rpi-4", `{"version":"1.4.0","channel":"a","arch":"arm64","boards":["rpi-4","rpi-5"],"tree":"`+tree+`","floor":"1.0.0","notes":"é"}`, int64(1), tree)
	f.Add("streembitd/../linux-arm64", `{"version":"..","channel":"../x","boards":[null],"tree":7}`, int64(-1), "xyz")
	f.Fuzz(func(t *testing.T, path, custom string, size int64, hash string) {
		raw := json.RawMessage(custom)
		sum, _ := hex.DecodeString(hash)
		a, err := artifact(path, &metadata.TargetFiles{Length: size, Hashes: metadata.Hashes{"sha256": sum}, Custom: &raw})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if strings.Contains(a.Path, "..") || a.Size < 1 || a.Size > ota.MaxProgram || len(a.Notes) > MaxNotes || a.Floor.Compare(a.Version) > 0 {
			t.Fatalf("taken: %+v", a)
		}
		text, err := json.Marshal(Custom{string(a.Version), a.Channel, a.Arch, a.Boards, hex.EncodeToString(a.Tree[:]), string(a.Floor), a.Notes})
		if err != nil {
			t.Fatal(err)
		}
		again, err := artifact(path, &metadata.TargetFiles{Length: size, Hashes: metadata.Hashes{"sha256": a.Hash[:]}, Custom: (*json.RawMessage)(&text)})
		if len(a.Boards) == 0 {
			a.Boards = nil
		}
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Fatalf("%+v, again %+v, %v", a, again, err)
		}
	})
}

// FuzzBundle: what a bundle says it has is what a plain reader of tar finds there.
func FuzzBundle(f *testing.F) {
	set := fuzzSet(f)
	tree := sha256.Sum256([]byte("tree"))
	open := func([32]byte) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader("program")), 7, nil
	}
	var good bytes.Buffer
	if err := WriteBundle(&good, map[string][]byte{"1.root.json": set.Roots[0], "timestamp.json": set.Proven.Timestamp}, [][32]byte{tree}, open); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(good.Bytes()[:good.Len()/2])
	f.Add([]byte("no tar"))
	var links bytes.Buffer
	w := tar.NewWriter(&links)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "metadata/timestamp.json", Linkname: "/etc/passwd"})
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "metadata/timestamp.json", Size: 1 << 40, Format: tar.FormatPAX})
	f.Add(links.Bytes())
	path := filepath.Join(f.TempDir(), "bundle")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBundle(path)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		defer b.Close()
		plain := tar.NewReader(bytes.NewReader(data))
		for range len(b.metadata) + len(b.programs) {
			h, err := plain.Next()
			if err != nil {
				t.Fatal(err)
			}
			want, errW := io.ReadAll(plain)
			got, errG := b.Fetch(context.Background(), strings.TrimPrefix(h.Name, "metadata/"), MaxTargets)
			if hexTree, is := strings.CutPrefix(h.Name, "programs/"); is {
				raw, _ := hex.DecodeString(hexTree)
				r, err := b.Program([32]byte(raw))
				if err != nil {
					t.Fatal(err)
				}
				got, errG = io.ReadAll(r)
			}
			if errW != nil || errG != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %v, %v: %d bytes, a plain reader finds %d", h.Name, errG, errW, len(got), len(want))
			}
		}
	})
}
