// SPDX-License-Identifier: Apache-2.0

package sensors_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplate does what docs/adding-a-sensor.md says, in a copy of the module: copy _template, add one line (and its import) to
// the list, build and read. No other file changes. Then it breaks the driver in ways that people do, and the contract suite must notice.
func TestTemplate(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the go command is needed: ", err)
		}
		t.Skip("the go command is not in the path, so that a copied driver cannot be built: ", err)
	}
	module := t.TempDir()
	copyModule(t, module)
	edit(t, filepath.Join(module, "sensors/all/all.go"),
		"\t\tsht4x.Driver,\n", "\t\tsht4x.Driver,\n\t\ttemplate.Driver,\n",
		"sensors/sht4x\"\n", "sensors/sht4x\"\n\t\"github.com/streembit/edge/sensors/template\"\n")
	write(t, filepath.Join(module, "sensors/all/read_test.go"), readTest)
	if out, err := goTest(module, "./sensors/template", "./sensors/all"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, change := range map[string][2]string{
		"a failed read gives a value":   {"raw, err := wire.ReadWord(ctx, c.conn, regTemperature)\n", "raw, err := wire.ReadWord(ctx, c.conn, regTemperature)\n\terr = nil\n"},
		"the cause is lost":             {`"template: reading: %w", err`, `"template: reading: %v", err`},
		"the driver is not named":       {`"template: reading: %w", err`, `"reading: %w", err`},
		"zeros are taken for 0 °C":      {"if err := c.identify(ctx); err != nil {\n\t\treturn nil, fmt.Errorf(\"template: reading", "if err := ctx.Err(); err != nil {\n\t\treturn nil, fmt.Errorf(\"template: reading"},
		"the context is not looked at":  {"]edge.Sample, error) {\n", "]edge.Sample, error) {\n\tctx = context.Background()\n"},
		"a quantity that is not listed": {"sensors.Celsius(t)}", "sensors.Celsius(t), sensors.Of(sensors.Voltage, 1)}"},
		"a scan takes any chip":         {"return (&chip{p.I2C}).identify(ctx)", "return ctx.Err()"},
		"a scan writes a register":      {"chip) identify(ctx context.Context) error {\n", "chip) identify(ctx context.Context) error {\n\twire.WriteWord(ctx, c.conn, regConfig, configRun)\n"},
	} {
		t.Run(name, func(t *testing.T) { mustNotice(t, module, "sensors/template", "template.go", change) })
	}
	for name, change := range map[string][2]string{
		"a failed Set is silent":       {"err := e.chip.drive(ctx, levels); err != nil {", "err := e.chip.drive(ctx, levels); err != nil && e.latch == 0 {"},
		"Set takes any value":          {" || s.Value != 0 && s.Value != 1 {", " {"},
		"Set forgets the other lines":  {"levels := e.latch &^ (1 << n)", "levels := e.off &^ (1 << n)"},
		"Read gives what was asked":    {"samples[n] = sensors.On(line(kind, n), (levels^e.off)", "samples[n] = sensors.On(line(kind, n), (^e.off)"},
		"a stuck bus closes a contact": {"(levels^e.latch)&e.outputs != 0 {", "false {"},
	} {
		t.Run(name, func(t *testing.T) { mustNotice(t, module, "sensors/expander", "expander.go", change) })
	}
}

// mustNotice breaks a driver in the copy and wants its contract test to fail.
func mustNotice(t *testing.T, module, folder, file string, change [2]string) {
	t.Helper()
	source := filepath.Join(module, folder, file)
	good := read(t, source)
	defer write(t, source, good)
	edit(t, source, change[0], change[1])
	out, err := goTest(module, "-run", "TestContract", "./"+folder)
	if err == nil {
		t.Error("the contract suite notices nothing")
	}
	if !strings.Contains(out, "--- FAIL: TestContract") {
		t.Errorf("the suite did not run:\n%s", out)
	}
}

const readTest = `package all_test

import (
	"testing"
	"testing/synctest"

	"github.com/streembit/edge/hal"
	"github.com/streembit/edge/sensors/all"
	"github.com/streembit/edge/sensors/sensorstest"
)

func TestReadTemplate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := all.Find("template")
		if err != nil {
			t.Fatal(err)
		}
		ops, err := sensorstest.ParseOps([]byte("18 06 0054\n18 07 0400\n18 010000 -\n18 05 c194\n18 010100 -\n"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Connect(t.Context(), sensorstest.Playback(ops), hal.Request{Bus: "/dev/i2c-1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if samples, err := s.Read(t.Context()); err != nil || len(samples) != 1 || samples[0].Value != 25.25 {
			t.Fatal(samples, err)
		}
	})
}
`

// copyModule copies what a driver is built from, the template under its new name.
func copyModule(t *testing.T, to string) {
	t.Helper()
	for _, pattern := range []string{"../go.mod", "../go.sum", "../*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				write(t, filepath.Join(to, filepath.Base(f)), read(t, f))
			}
		}
	}
	for _, folder := range []string{"boards", "hal", "sensors"} {
		err := filepath.WalkDir(filepath.Join("..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name := strings.Replace(strings.TrimPrefix(filepath.ToSlash(path), "../"), "sensors/_template/", "sensors/template/", 1)
			write(t, filepath.Join(to, filepath.FromSlash(name)), read(t, path))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// edit replaces text in a file; each must be there.
func edit(t *testing.T, file string, pairs ...string) {
	t.Helper()
	text := read(t, file)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %q", file, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	write(t, file, text)
}

func goTest(module string, args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"test", "-vet=off", "-count=1"}, args...)...)
	cmd.Dir = module
	// Empty means this machine's own: the copy is built and run here also when these tests are cross-compiled.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GOOS=", "GOARCH=", "GOARM=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
