// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// TestDocs checks that what the pages point to is there, that every decision is in the list, and that the README stays
// short enough to be read.
func TestDocs(t *testing.T) {
	for _, v := range staleDocs(t, os.DirFS(".")) {
		t.Error(v)
	}
}

// TestDocsFindsStalePages plants each fault once.
func TestDocsFindsStalePages(t *testing.T) {
	for name, c := range map[string]struct {
		tree fstest.MapFS
		want string
	}{
		"good": {fstest.MapFS{"README.md": text("[x](docs/x.md) [web](https://example.com) [part](docs/x.md#part)"), "docs/x.md": text("")}, ""},
		"link": {fstest.MapFS{"docs/x.md": text("[y](y.md)")}, "docs/x.md points to docs/y.md"},
		"list": {fstest.MapFS{"docs/decisions/README.md": text(""), "docs/decisions/0001-x.md": text("")}, "0001-x.md is not in the list"},
		"long": {fstest.MapFS{"README.md": text(strings.Repeat("\n", 121))}, "README.md has 121 lines"},
	} {
		t.Run(name, func(t *testing.T) {
			got := staleDocs(t, c.tree)
			if c.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || c.want == "" || !strings.Contains(got[0], c.want) {
				t.Errorf("got %q, want one fault with %q", got, c.want)
			}
		})
	}
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func staleDocs(t *testing.T, tree fs.FS) (all []string) {
	t.Helper()
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, page := range pages(t, tree) {
		src := read(t, tree, page)
		for _, m := range link.FindAllStringSubmatch(src, -1) {
			to := path.Join(path.Dir(page), m[1])
			if _, err := fs.Stat(tree, to); err != nil && !strings.Contains(m[1], "://") {
				all = append(all, fmt.Sprintf("%s points to %s, which is not there", page, to))
			}
		}
		if dir, name := path.Split(page); dir == "docs/decisions/" && name != "README.md" &&
			!strings.Contains(read(t, tree, dir+"README.md"), "("+name+")") {
			all = append(all, page+" is not in the list docs/decisions/README.md")
		}
		if n := strings.Count(src, "\n"); page == "README.md" && n > 120 {
			all = append(all, fmt.Sprintf("%s has %d lines, at most 120 are read", page, n))
		}
	}
	return all
}

// pages lists the pages in the root and under docs.
func pages(t *testing.T, tree fs.FS) []string {
	t.Helper()
	all, err := fs.Glob(tree, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := fs.Glob(tree, pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	return all
}

func read(t *testing.T, tree fs.FS, name string) string {
	t.Helper()
	src, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}
