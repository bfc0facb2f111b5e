// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/streembit/edge"

// layer says which of our folders the code of one folder may import. "x/..." stands for x and everything below it;
// the most exact pattern that fits a folder decides.
type layer struct {
	dir  string
	may  []string
	noIO bool // also nothing of the standard library that reaches files, the network or the system
}

// layers is the layout of the README as a table, in the order in which a reading passes. "." is the root.
var layers = []layer{
	{dir: ".", noIO: true},
	{dir: "internal/nap"},
	{dir: "internal/freeport"},
	{dir: "internal/ntp"},
	{dir: "boards"},
	{dir: "hal", may: []string{".", "boards"}},
	{dir: "hal/sim", may: []string{".", "hal"}},
	{dir: "sensors", may: []string{".", "hal"}},
	{dir: "sensors/...", may: []string{".", "hal", "sensors", "sensors/wire", "sensors/bmxx80", "sensors/sysfs"}},
	{dir: "sensors/all", may: []string{".", "hal", "sensors/..."}},
	{dir: "journal", may: []string{"."}, noIO: true},
	{dir: "journal/wal"},
	{dir: "thing", may: []string{".", "journal"}, noIO: true},
	{dir: "fleet", may: []string{".", "journal"}},
	{dir: "direct", may: []string{".", "journal", "fleet", "thing"}, noIO: true},
	{dir: "fleet/...", may: []string{".", "journal", "fleet"}},
	{dir: "agent/...", may: []string{"internal/nap", "internal/ntp", ".", "journal/...", "fleet/...", "hal", "sensors", "transport", "agent/..."}},
	{dir: "agent/command", may: []string{"internal/nap", ".", "journal/...", "fleet", "thing", "direct"}},
	{dir: "transport", may: []string{".", "journal", "fleet"}},
	{dir: "transport/...", may: []string{"internal/nap", ".", "journal/...", "fleet/...", "transport/..."}},
	{dir: "transport/p2p", may: []string{"internal/nap", ".", "journal/...", "fleet/...", "transport/...", "thing", "ota", "ota/chunks", "ota/records", "ota/swarm"}},
	{dir: "transport/store", may: []string{".", "journal/...", "fleet", "transport"}},
	{dir: "collector/...", may: []string{"internal/...", ".", "journal", "fleet", "transport", "collector/..."}},
	{dir: "client", may: []string{".", "journal", "fleet", "transport", "transport/p2p", "collector"}},
	{dir: "ota", noIO: true},
	{dir: "ota/chunks", may: []string{"ota"}},
	{dir: "ota/trust", may: []string{"ota", "ota/chunks"}},
	{dir: "ota/slots", may: []string{"internal/nap", "ota"}},
	{dir: "ota/rollout", may: []string{".", "journal", "fleet", "ota"}},
	{dir: "ota/swarm", may: []string{"internal/nap", ".", "ota", "ota/chunks"}},
	{dir: "ota/pinned", may: []string{"internal/ntp", "ota", "ota/trust"}},
	{dir: "ota/...", may: []string{"internal/nap", ".", "journal", "fleet", "ota/..."}},
	{dir: "image"},
	{dir: "systemd"},
	{dir: "cmd/internal/cli"},
	{dir: "cmd/internal/docs"},
	// streembitd must stay small: neither a sink nor its database driver is linked into it.
	{dir: "cmd/streembitd/...", may: []string{".", "boards/...", "hal/...", "sensors/...", "journal/...", "fleet/...", "thing", "direct",
		"agent/...", "transport/...", "ota/...", "systemd", "cmd/streembitd/...", "cmd/internal/..."}},
	{dir: "cmd/streembit-updater/...", may: []string{".", "boards", "ota/...", "cmd/internal/cli"}},
	{dir: "cmd/streembit/...", may: []string{"./..."}},
	{dir: "test/...", may: []string{"./..."}},
	{dir: "bench/...", may: []string{"./..."}},
}

// reserved names the folders that alone may import a module, in code and in tests; none = nobody may.
var reserved = []struct {
	prefix string
	dirs   []string
}{
	{"github.com/libp2p/", []string{"transport/p2p/..."}},
	{"github.com/multiformats/", []string{"transport/p2p/..."}},
	{"github.com/ipfs/", []string{"transport/p2p/..."}},
	{"github.com/minio/selfupdate", []string{"ota/slots"}},
	{"github.com/coreos/go-systemd/", []string{"systemd"}},
	{"github.com/theupdateframework/", []string{"ota/trust/..."}},
	{"github.com/jackc/pgx", []string{"collector/...", "test/..."}},
	{"github.com/pressly/goose", []string{"collector/..."}},
	{"github.com/go-sql-driver/", []string{"collector/...", "test/..."}},
	{"github.com/microsoft/go-mssqldb", []string{"collector/mssql"}},
	{"github.com/eclipse/paho.golang", []string{"collector/mqtt"}},
	{"github.com/nats-io/", []string{"collector/nats"}},
	{"github.com/prometheus/", []string{"collector/prometheus"}},
	{"modernc.org/", []string{"collector/...", "cmd/streembit/...", "test/..."}},
	{"filippo.io/", []string{"cmd/streembit/..."}}, // streembitd must stay small
	{"github.com/google/go-tpm", []string{"fleet/tpm"}},
	{"github.com/spf13/cobra", []string{"cmd/..."}},
	{"github.com/santhosh-tekuri/jsonschema", []string{"thing", "collector/mqtt"}}, // their tests
	{"periph.io/x/host", []string{"hal"}},
	{"periph.io/x/conn", []string{"hal/...", "sensors/..."}},
	{"periph.io/x/devices", nil},
	{"tinygo.org/", nil},
}

// inputOutput lists what a folder with noIO cannot have.
var inputOutput = []string{"database/sql", "io/fs", "net", "os", "path/filepath", "syscall", "golang.org/x/sys", "golang.org/x/net"}

// TestLayers parses all files in this process: a test that asks `go list` is cached by go test and misses new imports.
func TestLayers(t *testing.T) {
	files := goFiles(t, os.DirFS("."))
	if len(files) < 10 {
		t.Fatalf("found %d Go files, run the test in the project's root", len(files))
	}
	for _, v := range violations(t, os.DirFS("."), files) {
		t.Error(v)
	}
}

// TestLayersFindsBadImports plants one violation of each kind and wants every one named, and nothing else.
func TestLayersFindsBadImports(t *testing.T) {
	for name, c := range map[string]struct{ file, imports, want string }{
		"upwards":            {"journal/x.go", module + "/agent", "journal may not import agent"},
		"sideways":           {"sensors/bme280/x.go", module + "/sensors/gpio", "sensors/bme280 may not import sensors/gpio"},
		"library":            {"agent/outbox/x.go", "github.com/libp2p/go-libp2p/core/peer", "only transport/p2p/... may"},
		"library in a test":  {"fleet/x_test.go", "github.com/libp2p/go-libp2p", "only transport/p2p/... may"},
		"transport's inside": {"collector/x.go", module + "/transport/p2p", "collector may not import transport/p2p"},
		"input and output":   {"journal/x.go", "os", "no input or output"},
		"below the net":      {"journal/x.go", "net/http", "no input or output"},
		"sink in firmware":   {"cmd/streembitd/x.go", module + "/collector/sqlite", "cmd/streembitd may not import collector/sqlite"},
		"program in a test":  {"fleet/x_test.go", module + "/cmd/streembit", "a program"},
		"forbidden library":  {"sensors/x/x.go", "periph.io/x/devices/v3/bmxx80", "nobody may"},
		"unknown folder":     {"gadgets/x.go", "fmt", "add it to the table"},
		"template":           {"sensors/_template/x.go", module + "/agent", "sensors/_template may not import agent"},

		"allowed": {"agent/outbox/x.go", module + "/journal/wal", ""},
		"test":    {"agent/outbox/x_test.go", module + "/transport/mem", ""},
		"p2p":     {"transport/p2p/x.go", "github.com/libp2p/go-libp2p/core/peer", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{c.file: {Data: fmt.Appendf(nil, "package x\nimport _ %q\n", c.imports)}}
			got := violations(t, tree, goFiles(t, tree))
			if c.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || c.want == "" || !strings.Contains(got[0], c.want) || !strings.HasPrefix(got[0], c.file) {
				t.Errorf("got %q, want one violation in %s with %q", got, c.file, c.want)
			}
		})
	}
}

// goFiles lists the Go files of the module, in order; modules within it and test data are left out.
func goFiles(t *testing.T, tree fs.FS) (files []string) {
	t.Helper()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != ".":
			_, noModule := fs.Stat(tree, path.Join(name, "go.mod"))
			if noModule == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
		case path.Ext(name) == ".go":
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func violations(t *testing.T, tree fs.FS, files []string) (all []string) {
	t.Helper()
	for _, name := range files {
		l, known := layerOf(path.Dir(name))
		if !known {
			all = append(all, fmt.Sprintf("%s: folder %s has no layer: add it to the table in layers_test.go and to the README's layout",
				name, path.Dir(name)))
			continue
		}
		for _, imp := range importsOf(t, tree, name) {
			if why := l.forbids(name, imp); why != "" {
				all = append(all, name+": "+why)
			}
		}
	}
	return all
}

func importsOf(t *testing.T, tree fs.FS, name string) (imports []string) {
	t.Helper()
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, imp)
	}
	return imports
}

// forbids says why the file may not have the import; "" when it may. Tests may reach every folder of ours but the
// programs; libraries are reserved for tests too.
func (l layer) forbids(file, imp string) string {
	dir, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	if imp == module || strings.HasPrefix(imp, module+"/") {
		to := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
		if to == "" {
			to = "."
		}
		switch {
		case test && !fits("cmd/...", dir) && fits("cmd/...", to):
			return fmt.Sprintf("%s may not import %s, a program, run it instead", dir, to)
		case !test && to != dir && !fitsAny(l.may, to):
			return fmt.Sprintf("%s may not import %s, only %s", dir, to, list(l.may))
		}
		return ""
	}
	for _, r := range reserved {
		if strings.HasPrefix(imp, r.prefix) && !fitsAny(r.dirs, dir) {
			return fmt.Sprintf("%s may not import %s, %s may", dir, imp, only(r.dirs))
		}
	}
	if l.noIO && !test && slices.ContainsFunc(inputOutput, func(p string) bool { return fits(p+"/...", imp) }) {
		return fmt.Sprintf("%s may not import %s, it does no input or output", dir, imp)
	}
	return ""
}

func layerOf(dir string) (best layer, known bool) {
	for _, l := range layers {
		if !fits(l.dir, dir) {
			continue
		}
		if l.dir == dir {
			return l, true
		}
		if !known || len(l.dir) > len(best.dir) {
			best, known = l, true
		}
	}
	return best, known
}

// fits reports whether the pattern stands for the path.
func fits(pattern, name string) bool {
	top, tree := strings.CutSuffix(pattern, "/...")
	return name == top || tree && (top == "." || strings.HasPrefix(name, top+"/"))
}

func fitsAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(p, name) })
}

func list(patterns []string) string {
	if len(patterns) == 0 {
		return "nothing of ours"
	}
	return strings.Join(patterns, ", ")
}

func only(dirs []string) string {
	if len(dirs) == 0 {
		return "nobody"
	}
	return "only " + strings.Join(dirs, ", ")
}
