// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"bytes"
	"crypto/sha256"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSelfupdate_OnlyPrepares holds that of minio/selfupdate only PrepareAndCheckBinary is called, with TargetPath and Checksum always set: Apply and
// CommitBinary lose the program in a power cut, and without these options anything is installed anywhere.
func TestSelfupdate_OnlyPrepares(t *testing.T) {
	files, err := filepath.Glob("*.go")
	check(t, err)
	calls := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		check(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, is := s.X.(*ast.Ident); !is || x.Name != "selfupdate" {
				return true
			}
			switch s.Sel.Name {
			case "PrepareAndCheckBinary":
				calls++
			case "Options":
			default:
				t.Errorf("%s uses selfupdate.%s", name, s.Sel.Name)
			}
			return true
		})
	}
	text, err := os.ReadFile("stage.go")
	check(t, err)
	if calls != 1 || !strings.Contains(string(text), "selfupdate.Options{TargetPath: target, TargetMode: 0o755,\n\t\tChecksum: hash,") {
		t.Errorf("%d calls of PrepareAndCheckBinary; want one, with TargetPath and Checksum", calls)
	}
}

// TestInstall_IsWhole wants a first program to be there as it was, also one that is a few bytes long.
func TestInstall_IsWhole(t *testing.T) {
	w := newWorld(t)
	if got := w.runs(); sha256.Sum256(got) != sha256.Sum256(programOf("1.0.0", 1)) {
		t.Error("another program")
	}
	if err := w.slots.Install("1.0.1", filepath.Join(w.root, "current", "streembitd")); err == nil {
		t.Error("a second first program")
	}
	if !bytes.Equal(w.runs(), programOf("1.0.0", 1)) {
		t.Error("another program after it")
	}
}
