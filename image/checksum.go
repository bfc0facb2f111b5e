// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoChecksum is wrapped when nothing says what an image's checksum is.
var ErrNoChecksum = errors.New("no checksum")

// ErrChecksum is wrapped when a file is not the one that its checksum names.
var ErrChecksum = errors.New("the checksum does not fit: the file is damaged or another one")

// maxChecksums is what is read of a file of checksums.
const maxChecksums = 1 << 20

// ParseChecksum finds the SHA-256 of the file with this base name in a text: one checksum alone, or lines "CHECKSUM  NAME" as sha256sum writes them.
// The error wraps ErrNoChecksum.
func ParseChecksum(text []byte, name string) (sum [32]byte, err error) {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range lines {
		hexed, of, named := strings.Cut(strings.TrimSpace(line), " ")
		of = filepath.Base(strings.TrimPrefix(strings.TrimSpace(of), "*"))
		raw, err := hex.DecodeString(hexed)
		if err == nil && len(raw) == len(sum) && (named && of == name || !named && len(lines) == 1) {
			return [32]byte(raw), nil
		}
	}
	return sum, fmt.Errorf("image: %w of %s in SHA-256 there", ErrNoChecksum, name)
}

// FindChecksum returns the SHA-256 that a file beside the image names: NAME.sha256, NAME.sha or SHA256SUMS. The error wraps ErrNoChecksum.
func FindChecksum(image string) (sum [32]byte, from string, err error) {
	dir, name := filepath.Split(image)
	for _, from := range []string{image + ".sha256", image + ".sha", filepath.Join(dir, "SHA256SUMS"), filepath.Join(dir, "sha256sum.txt")} {
		sum, err := ReadChecksum(from, name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoChecksum) {
			return sum, from, err
		}
	}
	return sum, "", fmt.Errorf("image: %w of %s beside it (%s.sha256, SHA256SUMS)", ErrNoChecksum, name, name)
}

// ReadChecksum reads the SHA-256 of the file with this base name from a file of checksums.
func ReadChecksum(path, name string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, fmt.Errorf("image: reading checksum: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxChecksums))
	if err != nil {
		return sum, fmt.Errorf("image: reading checksum: %w", err)
	}
	return ParseChecksum(text, filepath.Base(name))
}

// CheckFile compares a file with its SHA-256. The error wraps ErrChecksum. told, if not nil, hears now and then how much has been read, in bytes.
func CheckFile(ctx context.Context, path string, want [32]byte, told func(done, total int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("image: checking %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("image: checking %s: %w", path, err)
	}
	h := sha256.New()
	buf := make([]byte, blockSize)
	for done := int64(0); ; {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if told != nil {
			told(done, info.Size())
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("image: checking %s: %w", path, err)
		}
	}
	if got := [32]byte(h.Sum(nil)); got != want {
		return fmt.Errorf("image: checking %s: it has %x, want %x: %w", path, got, want, ErrChecksum)
	}
	return nil
}
