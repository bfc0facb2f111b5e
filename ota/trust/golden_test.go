// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/streembit/edge/ota/trust/repo"
)

// update rewrites testdata/repo: go test ./ota/trust -run TestGolden -update.
var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden compares what the release side signs with testdata/repo, byte for byte: devices in the field read these files. Keys and time are
// fixed, so that everything is.
func TestGolden(t *testing.T) {
	w := newWorld(t)
	w.release("1.0.1", "arm64", func(r *repo.Release) { r.Boards = []string{"rpi-4"} })
	files, err := w.repo.Files()
	w.must(err)
	maps.Copy(files, w.net.files)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join("testdata", "repo", name)
		if name == "timestamp.json" {
			files[name] = w.net.files[name] // of the first release, which fuzzing begins with
		}
		if *update {
			w.must(os.MkdirAll(filepath.Dir(path), 0o755))
			w.must(os.WriteFile(path, files[name], 0o644))
		}
		golden, err := os.ReadFile(path)
		w.must(err)
		if !bytes.Equal(golden, files[name]) {
			t.Errorf("%s:\n%s\nwant\n%s", name, files[name], golden)
		}
		t.Logf("%s: %d bytes", name, len(golden))
	}
}
