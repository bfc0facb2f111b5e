// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/streembit/edge/ota"
)

// There are no binary patches: selfupdate's patcher trusts the lengths in a patch's header before anything was checked (32 bytes that claim
// 2^62 end the process). The two tests that the attack list has for patches therefore show that none is ever applied.

// TestPatch_HeaderLengthsBounded: no file of the module names a patcher but the one that copies, so that no header is ever read.
func TestPatch_HeaderLengthsBounded(t *testing.T) {
	n := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		n++
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range patchers(t, path, src) {
			t.Errorf("%s uses %s", path, name)
		}
		return nil
	})
	if err != nil || n < 100 {
		t.Fatalf("%d files, %v", n, err)
	}
	for _, planted := range []string{
		`package x; import "github.com/minio/selfupdate"; var p = selfupdate.NewBSDiffPatcher()`,
		`package x; import su "github.com/minio/selfupdate"; var o = su.Options{Patcher: nil}`,
		`package x; import "github.com/minio/selfupdate"; var o = selfupdate.Options{Patcher: other{}}`,
		`package x; import _ "github.com/kr/binarydist"`,
	} {
		if len(patchers(t, "planted.go", []byte(planted))) != 1 {
			t.Errorf("not found in %s", planted)
		}
	}
}

// patchers names what a file has of patchers.
func patchers(t *testing.T, path string, src []byte) (names []string) {
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		if strings.Contains(i.Path.Value, "binarydist") || strings.Contains(i.Path.Value, "bsdiff") {
			names = append(names, i.Path.Value)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok && copies(kv) {
			return false
		}
		if id, ok := n.(*ast.Ident); ok && slices.Contains([]string{"NewBSDiffPatcher", "Patcher"}, id.Name) {
			names = append(names, id.Name)
		}
		return true
	})
	return names
}

// copies reports whether an option is the patcher of package slots, which copies the program that was signed and reads no header of anything.
func copies(kv *ast.KeyValueExpr) bool {
	key, named := kv.Key.(*ast.Ident)
	value, literal := kv.Value.(*ast.CompositeLit)
	if !named || !literal || key.Name != "Patcher" {
		return false
	}
	of, plain := value.Type.(*ast.Ident)
	return plain && of.Name == "once"
}

// TestUpdate_PatchOnWrongBase_FallsBackToFull: signed metadata that name a patch beside a program get the program alone installed, whatever
// base they are for.
func TestUpdate_PatchOnWrongBase_FallsBackToFull(t *testing.T) {
	w := newWorld(t)
	full := w.release("1.1.0", "arm64")
	w.publish()
	w.lift(2, forge(w, "2.targets.json", func(m *metadata.TargetsType) {
		of := *m.Targets[full.Path]
		custom := json.RawMessage(strings.Replace(string(*of.Custom), `{`, `{"patch":"bsdiff","base":"`+strings.Repeat("0", 64)+`",`, 1))
		of.Custom = &custom
		m.Targets["streembitd/1.1.0/linux-arm64.patch"] = &of
		m.Targets["streembitd/1.1.0/from-1.0.0/linux-arm64"] = &of
	}, w.targets))
	s := w.device()
	if got := w.versions(s); !slices.Equal(got, []ota.Version{"1.0.0", "1.1.0"}) {
		t.Errorf("%v", got)
	}
	list, err := s.Artifacts()
	w.must(err)
	if list[1].Path != full.Path || list[1].Hash != full.Hash {
		t.Errorf("%+v", list[1])
	}
	if skipped := s.Skipped(); len(skipped) != 2 {
		t.Errorf("%v", skipped)
	}
}
