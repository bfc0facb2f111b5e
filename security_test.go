// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

const securityPage = "docs/security.md"

// TestSecurityPage checks that each claim of docs/security.md names a test, and that every test that it names is there.
func TestSecurityPage(t *testing.T) {
	for _, v := range unproven(t, os.DirFS(".")) {
		t.Error(v)
	}
}

// TestSecurityPageFindsUnprovenClaims plants each fault once.
func TestSecurityPageFindsUnprovenClaims(t *testing.T) {
	const there = "package x\nimport \"testing\"\nfunc TestA(t *testing.T) {}\nfunc FuzzB(f *testing.F) {}\nfunc (x) TestMethod() {}\n"
	for name, c := range map[string]struct{ page, want string }{
		"good":           {"<!-- claims -->\n- yes: `x.TestA`\n  and `FuzzB`\n| a | `TestA` |\n<!-- end -->\n- no test needed\n", ""},
		"list item":      {"<!-- claims -->\n- yes: `TestA`\n- trust us\n<!-- end -->\n", "trust us"},
		"last of all":    {"<!-- claims -->\n- trust us\n", "trust us"},
		"table":          {"<!-- claims -->\n| what | test |\n|---|---|\n| trust us | none |\n<!-- end -->\n", "trust us"},
		"gone":           {"<!-- claims -->\n- yes: `TestGone`\n<!-- end -->\n", "TestGone"},
		"elsewhere":      {"<!-- claims -->\n- yes: `y.TestA`\n<!-- end -->\n", "y.TestA"},
		"method":         {"<!-- claims -->\n- yes: `TestMethod`\n<!-- end -->\n", "TestMethod"},
		"outside":        {"<!-- claims -->\n- yes: `TestA`\n<!-- end -->\nas `TestGone` shows\n", "TestGone"},
		"nothing at all": {"we are secure\n", "no claim"},
	} {
		t.Run(name, func(t *testing.T) {
			got := unproven(t, fstest.MapFS{securityPage: text(c.page), "x/x_test.go": text(there)})
			if c.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || c.want == "" || !strings.Contains(got[0], c.want) {
				t.Errorf("got %q, want one fault with %q", got, c.want)
			}
		})
	}
}

// named finds `TestX` or `folder.TestX`, where folder is the last part of the path.
var named = regexp.MustCompile("`(?:([a-z0-9]+)\\.)?((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")

func unproven(t *testing.T, tree fs.FS) (all []string) {
	t.Helper()
	there := testNames(t, tree)
	claims := 0
	for _, claim := range claimsOf(read(t, tree, securityPage)) {
		claims++
		if !named.MatchString(claim) {
			all = append(all, fmt.Sprintf("%s: no test shows %q", securityPage, claim))
		}
	}
	if claims == 0 {
		all = append(all, securityPage+": there is no claim")
	}
	for _, m := range named.FindAllStringSubmatch(read(t, tree, securityPage), -1) {
		folders := there[m[2]]
		if len(folders) == 0 || m[1] != "" && !folders[m[1]] {
			all = append(all, fmt.Sprintf("%s: %s is not there", securityPage, strings.Trim(m[0], "`")))
		}
	}
	return all
}

// claimsOf returns the list items and table rows between the marks, each with the lines that belong to it.
func claimsOf(page string) (claims []string) {
	inside := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "<!-- claims -->":
			inside = true
		case line == "<!-- end -->":
			inside = false
		case !inside:
		case strings.HasPrefix(line, "|---"):
			claims = claims[:len(claims)-1] // the line before was the table's head
		case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "| "):
			claims = append(claims, line)
		case strings.HasPrefix(line, "  ") && len(claims) > 0:
			claims[len(claims)-1] += line
		}
	}
	return claims
}

// testNames returns the tests of the tree and the last parts of the folders that have them.
func testNames(t *testing.T, tree fs.FS) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	for _, name := range goFiles(t, tree) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, read(t, tree, name), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			if out[fn.Name.Name] == nil {
				out[fn.Name.Name] = map[string]bool{}
			}
			out[fn.Name.Name][path.Base(path.Dir(name))] = true
		}
	}
	return out
}

// TestPredecessor_NoServiceOfACompany: the original had the seeds, the list of peers, the time and address servers and the pages of some companies in its code. No
// text in what we ship names a host or an address of the internet but those kept for examples (RFC 2606, RFC 5737, RFC 3849), and the W3C's name of a vocabulary,
// which nothing opens.
func TestPredecessor_NoServiceOfACompany(t *testing.T) {
	for _, v := range services(t, os.DirFS(".")) {
		t.Error(v)
	}
	for src, want := range map[string]int{
		`package x; var a = "https://seeds.streembit.com/list"`: 1, `package x; var a = "/dns4/hub.example/tcp/32321"`: 0, `package x; var a = "6.12 to 7.1, at 0.5"`: 0,
		`package x; var a = "/ip4/8.8.8.8/tcp/53"`: 1, `package x; var a = "/ip4/192.0.2.7/tcp/32321"`: 0, `package x; var a = "stun.l.google.com:19302"`: 1,
		`package x; var a = "wss://gate.example.org"`: 0, `package x; var a = "see github.com/streembit/edge"`: 0,
	} {
		if got := services(t, fstest.MapFS{"x/x.go": text(src)}); len(got) != want {
			t.Errorf("%s: %q", src, got)
		}
	}
}

var (
	service = regexp.MustCompile(`(?:[a-z]+://|/dns[46a]?[a-z]*/)([a-z0-9-]+(?:\.[a-z0-9-]+)+)|^([a-z0-9-]+(?:\.[a-z0-9-]+)+):\d+$|\b(\d{1,3}(?:\.\d{1,3}){3})\b`)
	exempt  = regexp.MustCompile(`^www\.w3\.org$|(^|\.)example(\.(com|net|org))?$|^(192\.0\.2|198\.51\.100|203\.0\.113|127\.0\.0)\.|^0\.0\.0\.0$|^224\.0\.0\.251$`)
)

func services(t *testing.T, tree fs.FS) (all []string) {
	t.Helper()
	for _, name := range goFiles(t, tree) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "bench/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, read(t, tree, name), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, ok := n.(*ast.ImportSpec); ok {
				return false
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			for _, word := range strings.FieldsFunc(lit.Value, func(r rune) bool { return strings.ContainsRune(" \"`\n\t,;()", r) }) {
				for _, m := range service.FindAllStringSubmatch(word, -1) {
					if at := m[1] + m[2] + m[3]; !exempt.MatchString(at) {
						all = append(all, fmt.Sprintf("%s names %s", name, at))
					}
				}
			}
			return true
		})
	}
	return all
}

// TestPredecessor_NoSecretOnACommandLine: the original took the password as a flag, where every user of the machine reads it. No flag of ours takes a secret: what
// has such a name takes a file, or is a switch.
func TestPredecessor_NoSecretOnACommandLine(t *testing.T) {
	seen := 0
	for _, v := range secretFlags(t, os.DirFS("."), &seen) {
		t.Error(v)
	}
	if seen < 20 {
		t.Errorf("only %d flags were found", seen)
	}
	for src, want := range map[string]int{
		`fl.StringVar(&p, "passphrase", "", "the passphrase")`: 1, "fl.StringVarP(&p, \"pwd\", \"p\", \"\", \"password\")": 1,
		"fl.StringVar(&p, \"passphrase-file\", \"\", \"`file` with it\")": 0, `fl.BoolVar(&p, "no-passphrase", false, "none")`: 0,
		`fl.StringVar(&p, "name", "", "a name")`: 0,
	} {
		if got := secretFlags(t, fstest.MapFS{"cmd/x/x.go": text("package x\nfunc f() { " + src + " }\n")}, &seen); len(got) != want {
			t.Errorf("%s: %q", src, got)
		}
	}
}

var secretWord = regexp.MustCompile(`pass|pwd|secret|token|key|mnemonic|credential`)

func secretFlags(t *testing.T, tree fs.FS, seen *int) (all []string) {
	t.Helper()
	for _, name := range goFiles(t, tree) {
		if !strings.HasPrefix(name, "cmd/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, read(t, tree, name), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 4 {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			flag, isText := call.Args[1].(*ast.BasicLit)
			if !ok || !isText || !strings.Contains(fn.Sel.Name, "Var") {
				return true
			}
			*seen++
			usage, _ := call.Args[len(call.Args)-1].(*ast.BasicLit)
			if secretWord.MatchString(flag.Value) && !strings.HasPrefix(fn.Sel.Name, "Bool") && (usage == nil || !strings.Contains(usage.Value, "`file`")) {
				all = append(all, fmt.Sprintf("%s: flag %s takes a secret", name, flag.Value))
			}
			return true
		})
	}
	return all
}
