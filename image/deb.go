// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Package is a Debian package as its control file describes it.
type Package struct {
	Path                string
	Name, Version, Arch string
	Size                int64 // of the file, in bytes
}

// ErrNotPackage is wrapped when a file is no Debian package that can be read.
var ErrNotPackage = errors.New("not a Debian package")

// maxControl is what is unpacked of a package's control archive, in bytes.
const maxControl = 4 << 20

// controlWord matches the names, versions and architectures that Debian Policy §5.6 allows.
var controlWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~:-]*$`)

// OpenPackage reads what a file .deb is. The error wraps ErrNotPackage if it is none.
func OpenPackage(path string) (Package, error) {
	f, err := os.Open(path)
	if err != nil {
		return Package{}, fmt.Errorf("image: opening package: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Package{}, fmt.Errorf("image: opening package: %w", err)
	}
	p, err := ReadPackage(f)
	if err != nil {
		return Package{}, fmt.Errorf("image: opening package %s: %w", path, err)
	}
	p.Path, p.Size = path, info.Size()
	return p, nil
}

// ReadPackage reads the control file of a package (deb(5): an ar archive of debian-binary, control.tar.* and data.tar.*). The error wraps ErrNotPackage.
func ReadPackage(r io.Reader) (Package, error) {
	bad := func(err error) (Package, error) { return Package{}, fmt.Errorf("%w: %w", ErrNotPackage, err) }
	in := bufio.NewReader(r)
	magic := make([]byte, 8)
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != "!<arch>\n" {
		return bad(errors.New("it does not begin like one"))
	}
	for range 4 {
		name, size, err := arMember(in)
		if err != nil {
			return bad(err)
		}
		if kind, ok := strings.CutPrefix(name, "control.tar"); ok {
			p, err := control(io.LimitReader(in, size), kind)
			if err != nil {
				return bad(err)
			}
			return p, nil
		}
		if _, err := io.CopyN(io.Discard, in, size+size%2); err != nil {
			return bad(err)
		}
	}
	return bad(errors.New("it has no control.tar"))
}

// arMember reads the 60 bytes before a member of an ar archive.
func arMember(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, err
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 || string(h[58:]) != "`\n" {
		return "", 0, errors.New("damaged archive")
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

func control(packed io.Reader, kind string) (Package, error) {
	var r io.Reader
	var err error
	switch kind {
	case "":
		r = packed
	case ".gz":
		r, err = gzip.NewReader(packed)
	case ".xz":
		r, err = xz.NewReader(packed)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(packed, zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		err = fmt.Errorf("control.tar%s is packed in an unknown way", kind)
	}
	if err != nil {
		return Package{}, err
	}
	t := tar.NewReader(io.LimitReader(r, maxControl))
	for {
		h, err := t.Next()
		if err != nil {
			return Package{}, fmt.Errorf("looking for the control file: %w", err)
		}
		if path.Clean(h.Name) == "control" {
			text, err := io.ReadAll(t)
			if err != nil {
				return Package{}, err
			}
			return fields(string(text))
		}
	}
}

func fields(text string) (p Package, err error) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Architecture":
			p.Arch = value
		}
	}
	for _, word := range []string{p.Name, p.Version, p.Arch} {
		if !controlWord.MatchString(word) {
			return Package{}, fmt.Errorf("its control file says %q of name, version or architecture", word)
		}
	}
	return p, nil
}
