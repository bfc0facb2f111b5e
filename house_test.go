// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouseRules checks what CONTRIBUTING asks of each file and a linter does not: its length and first line, no init,
// no package variable that changes, a comment on each package.
func TestHouseRules(t *testing.T) {
	for _, v := range broken(t, os.DirFS(".")) {
		t.Error(v)
	}
}

// TestHouseRulesFindsBrokenFiles plants each breach once.
func TestHouseRulesFindsBrokenFiles(t *testing.T) {
	const head = "// SPDX-License-Identifier: Apache-2.0\n\n// Package x is a test.\npackage x\n"
	for name, c := range map[string]struct{ src, want string }{
		"clean":       {head + "import \"errors\"\nvar errX = errors.New(\"x\")\nfunc f() error { errX := errX; errX = nil; return errX }", ""},
		"long":        {head + strings.Repeat("\n", 400), "lines"},
		"licence":     {"// Package x is a test.\npackage x\n", "SPDX"},
		"init":        {head + "func init() {}\n", "init"},
		"package":     {"// SPDX-License-Identifier: Apache-2.0\n\npackage x\n", "package comment"},
		"assigned":    {head + "var n int\nfunc f() { n = 1 }", "n changes"},
		"incremented": {head + "var n int\nfunc f() { n++ }", "n changes"},
		"field":       {head + "var s struct{ n int }\nfunc f() { s.n += 1 }", "s changes"},
		"map":         {head + "var m = map[int]int{}\nfunc f() { m[1] = 2 }", "m changes"},
		"deleted":     {head + "var m = map[int]int{}\nfunc f() { delete(m, 1) }", "m changes"},
		"address":     {head + "var n int\nfunc f() *int { return &n }", "n changes"},
		"lock":        {head + "import \"sync\"\nvar mu sync.Mutex\nfunc f() { mu.Lock() }", "mu changes"},
		"range":       {head + "var n int\nfunc f() { for n = range 3 { } }", "n changes"},
		"atomic":      {head + "import \"sync/atomic\"\nvar n atomic.Int64\n", "n changes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := broken(t, fstest.MapFS{"x/x.go": {Data: []byte(c.src)}})
			if c.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || c.want == "" || !strings.Contains(got[0], c.want) {
				t.Errorf("got %q, want one breach with %q", got, c.want)
			}
		})
	}
}

func broken(t *testing.T, tree fs.FS) (all []string) {
	t.Helper()
	fset := token.NewFileSet()
	folders := map[string][]*ast.File{}
	for _, name := range goFiles(t, tree) {
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(f) {
			continue
		}
		all = append(all, brokenFile(name, string(src), f)...)
		if !strings.HasSuffix(name, "_test.go") {
			folders[path.Dir(name)] = append(folders[path.Dir(name)], f)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		files := folders[dir]
		if !slices.ContainsFunc(files, func(f *ast.File) bool { return f.Doc != nil }) {
			all = append(all, dir+": no package comment")
		}
		all = append(all, mutable(fset, files)...)
	}
	return all
}

func brokenFile(name, src string, f *ast.File) (all []string) {
	if !strings.HasPrefix(src, "// SPDX-License-Identifier: Apache-2.0\n") {
		all = append(all, name+": does not begin with the SPDX line")
	}
	if n := strings.Count(src, "\n"); n > 400 && !strings.HasSuffix(name, "_test.go") {
		all = append(all, fmt.Sprintf("%s: %d lines, split it (at most 400)", name, n))
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			all = append(all, name+": has an init function, let the caller do it")
		}
	}
	return all
}

// mutable names the package variables that the package's own code writes to, or whose type exists to be changed. It
// does not follow slices and maps that are handed on.
func mutable(fset *token.FileSet, files []*ast.File) (all []string) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := conf.Check("x", fset, files, info) // without its imports a package never checks clean; names resolve all the same
	report := func(e ast.Expr) {
		if v, ok := info.Uses[base(e)].(*types.Var); ok && v.Parent() == pkg.Scope() {
			all = append(all, fmt.Sprintf("%s: package variable %s changes: hand it in instead", fset.Position(e.Pos()), v.Name()))
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			all = append(all, mutableTypes(fset, d)...)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			for _, e := range written(n) {
				report(e)
			}
			return true
		})
	}
	return all
}

// written returns the expressions that a node changes or lets others change.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.UnaryExpr:
		if _, literal := n.X.(*ast.CompositeLit); n.Op == token.AND && !literal {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if fn, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy"}, fn.Name) && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// mutableTypes names package variables of a type of sync or sync/atomic.
func mutableTypes(fset *token.FileSet, d ast.Decl) (all []string) {
	decl, ok := d.(*ast.GenDecl)
	if !ok || decl.Tok != token.VAR {
		return nil
	}
	for _, s := range decl.Specs {
		spec, ok := s.(*ast.ValueSpec)
		if !ok {
			continue
		}
		sel, ok := spec.Type.(*ast.SelectorExpr)
		if !ok {
			continue
		}
		if from, ok := sel.X.(*ast.Ident); ok && (from.Name == "sync" || from.Name == "atomic") {
			all = append(all, fmt.Sprintf("%s: package variable %s changes: hand it in instead",
				fset.Position(spec.Pos()), spec.Names[0].Name))
		}
	}
	return all
}

// base returns the variable that an expression such as v.f[i].g is a part of, nil if there is none.
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not looked at") }
