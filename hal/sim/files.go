// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// overlay is a tree of files that are written while they are read, as those of sysfs are, over other files. A folder that both have
// shows the entries of both; of two files with one name it shows its own.
type overlay struct {
	under fs.FS
	nodes map[string]node // by path, without links in it
}

// node is a file, a link or, with neither, a folder.
type node struct {
	text func() []byte
	wait time.Duration // that the kernel takes before it answers
	link string        // path from the root
}

// maxLinks limits the links that a path may go through.
const maxLinks = 8

func newOverlay(under fs.FS) *overlay {
	return &overlay{under: under, nodes: map[string]node{".": {}}}
}

// add puts a node into the tree, and the folders above it.
func (o *overlay) add(name string, n node) {
	o.nodes[name] = n
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		o.nodes[dir] = node{}
	}
}

// resolve replaces the links in a path.
func (o *overlay) resolve(name string) string {
	for range maxLinks {
		link, rest := o.firstLink(name)
		if link == "" {
			break
		}
		name = path.Join(link, rest)
	}
	return name
}

func (o *overlay) firstLink(name string) (link, rest string) {
	for i := range len(name) + 1 {
		if i == len(name) || name[i] == '/' {
			if n := o.nodes[name[:i]]; n.link != "" {
				return n.link, name[i:]
			}
		}
	}
	return "", ""
}

// Open implements fs.FS.
func (o *overlay) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	full := o.resolve(name)
	n, ok := o.nodes[full]
	switch {
	case !ok:
		return o.under.Open(full)
	case n.text != nil:
		return &attribute{entry: entry{path.Base(name), attributeMode}, node: n}, nil
	}
	return &folder{entry: entry{path.Base(name), folderMode}, list: o.list(full)}, nil
}

// list returns the entries of a folder in the order of their names.
func (o *overlay) list(dir string) []fs.DirEntry {
	var all []fs.DirEntry
	for name, n := range o.nodes {
		if name == "." || path.Dir(name) != dir {
			continue
		}
		e := entry{path.Base(name), folderMode}
		if n.link != "" {
			e.mode = fs.ModeSymlink | 0o777
		} else if n.text != nil {
			e.mode = attributeMode
		}
		all = append(all, e)
	}
	below, err := fs.ReadDir(o.under, dir)
	if err != nil { // the folder is not there, or not for us
		below = nil
	}
	for _, e := range below {
		if _, ok := o.nodes[path.Join(dir, e.Name())]; !ok {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

const (
	attributeMode = fs.FileMode(0o444)
	folderMode    = fs.ModeDir | 0o755
)

// entry describes a node. It is fs.DirEntry and fs.FileInfo.
type entry struct {
	name string
	mode fs.FileMode
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.mode.IsDir() }
func (e entry) Type() fs.FileMode          { return e.mode.Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Mode() fs.FileMode          { return e.mode }
func (e entry) ModTime() time.Time         { return time.Time{} }
func (e entry) Sys() any                   { return nil }
func (e entry) String() string             { return fs.FormatDirEntry(e) }

// Size is a page for a file, as in sysfs, whatever is in it.
func (e entry) Size() int64 {
	if e.mode.IsRegular() {
		return 4096
	}
	return 0
}

// attribute is an opened file. Its text is made by the first read.
type attribute struct {
	entry
	node
	rest *bytes.Reader
}

func (a *attribute) Stat() (fs.FileInfo, error) { return a.entry, nil }
func (a *attribute) Close() error               { return nil }

func (a *attribute) Read(b []byte) (int, error) {
	if a.rest == nil {
		time.Sleep(a.wait)
		a.rest = bytes.NewReader(a.text())
	}
	return a.rest.Read(b)
}

// folder is an opened folder.
type folder struct {
	entry
	list []fs.DirEntry
}

func (f *folder) Stat() (fs.FileInfo, error) { return f.entry, nil }
func (f *folder) Close() error               { return nil }

func (f *folder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (f *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(f.list) {
		if n > 0 && len(f.list) == 0 {
			return nil, io.EOF
		}
		n = len(f.list)
	}
	out := f.list[:n]
	f.list = f.list[n:]
	return out, nil
}
