// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	blockSize = 4 << 20 // of a write: cards erase such blocks at once
	maxHead   = 1 << 20 // what of the image's beginning is written last
)

// Device is the disk or the file that is written.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Sync waits until everything is on the medium.
	Sync() error
	// Forget drops what the kernel remembers of the contents, so that the next read comes from the medium.
	Forget() error
	// Reload makes the kernel read the partition table again.
	Reload() error
}

// ErrMismatch is wrapped when what is read back is not what was written.
var ErrMismatch = errors.New("what was read back is not what was written: the card is worn out, or lies about its size")

// ErrTooLarge is wrapped when an image turns out to be larger than the disk.
var ErrTooLarge = errors.New("the image is larger than the disk")

// Writer writes one image. The beginning, with the partition table, is written last: until then the disk looks empty, so that no desktop mounts it, and a
// write that was interrupted leaves no card that starts and fails later.
//
// Call Write, then Check, then change files through Prepare if wanted, then Finish.
type Writer struct {
	Device Device
	Size   int64                             // of the device, in bytes; 0 = a file that grows
	Told   func(step string, done, of int64) // progress in bytes, of = 0: unknown; may be nil

	head []byte
	rest hash.Hash // of all but the head
	n    int64
}

// Write writes everything but the beginning, and empties the beginning and the end (where an old GPT may have its copy). of is the size that the source says,
// 0 = unknown. Afterwards Length and Head are known.
func (w *Writer) Write(ctx context.Context, src io.Reader, of int64) error {
	head := make([]byte, maxHead)
	n, err := io.ReadFull(src, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("image: reading system image: %w", err)
	}
	head = head[:n]
	cut, err := headEnd(head)
	if err != nil {
		return err
	}
	w.head, w.rest, w.n = head[:cut:cut], sha256.New(), int64(cut)
	if err := w.empty(); err != nil {
		return err
	}
	if err := w.put(head[cut:]); err != nil {
		return err
	}
	buf := make([]byte, blockSize)
	for last := false; !last; {
		n, err := io.ReadFull(src, buf)
		last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("image: reading system image after %d bytes: %w", w.n, err)
		}
		if err := errors.Join(ctx.Err(), w.put(buf[:n])); err != nil {
			return err
		}
		w.tell("writing", w.n, max(of, 0))
	}
	if err := w.Device.Sync(); err != nil {
		return fmt.Errorf("image: writing: %w", err)
	}
	return nil
}

// headEnd says how much of the beginning is kept back: all of it, or what lies before the first partition. The table must be in it.
func headEnd(head []byte) (int, error) {
	if len(head) < maxHead {
		return 0, fmt.Errorf("image: it has %d bytes only: %w", len(head), ErrNotImage)
	}
	padded := padding{bytes.NewReader(head)}
	found, err := Extents(padded, 1<<60)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, ErrNotImage)
	}
	end := int64(len(head))
	for _, x := range found {
		end = min(end, x.Start)
	}
	return int(end), nil
}

// padding reads zeros beyond the end.
type padding struct{ r *bytes.Reader }

func (p padding) ReadAt(b []byte, at int64) (int, error) {
	n, _ := p.r.ReadAt(b, at)
	clear(b[n:])
	return len(b), nil
}

func (w *Writer) empty() error {
	if w.Size > 0 && w.Size < 2*maxHead {
		return fmt.Errorf("image: %d bytes: %w", w.Size, ErrTooLarge)
	}
	zeros := make([]byte, maxHead)
	_, err := w.Device.WriteAt(zeros, 0)
	if w.Size > 0 {
		_, e := w.Device.WriteAt(zeros, w.Size-maxHead)
		err = errors.Join(err, e)
	}
	if err = errors.Join(err, w.Device.Sync()); err != nil {
		return fmt.Errorf("image: emptying the disk's beginning and end: %w", err)
	}
	if err := w.Device.Reload(); err != nil {
		return fmt.Errorf("image: making the kernel forget the old partitions: %w", err)
	}
	return nil
}

func (w *Writer) put(b []byte) error {
	if w.Size > 0 && w.n+int64(len(b)) > w.Size {
		return fmt.Errorf("image: after %d bytes: %w", w.n, ErrTooLarge)
	}
	if _, err := w.Device.WriteAt(b, w.n); err != nil {
		return fmt.Errorf("image: writing at byte %d: %w", w.n, err)
	}
	w.rest.Write(b)
	w.n += int64(len(b))
	return nil
}

// Length is the size of the image, in bytes.
func (w *Writer) Length() int64 { return w.n }

// Head returns a view of the device as it will be: the beginning that is kept back, then what is written.
func (w *Writer) Head() io.ReaderAt { return withHead{w.head, w.Device} }

type withHead struct {
	head []byte
	r    io.ReaderAt
}

func (h withHead) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	if at < int64(len(h.head)) {
		n = copy(b, h.head[at:])
	}
	if n == len(b) {
		return n, nil
	}
	m, err := h.r.ReadAt(b[n:], at+int64(n))
	return n + m, err
}

// Check reads everything back from the medium and compares it. The error wraps ErrMismatch.
func (w *Writer) Check(ctx context.Context) error {
	if err := w.Device.Forget(); err != nil {
		return fmt.Errorf("image: reading back: %w", err)
	}
	h := sha256.New()
	buf := make([]byte, blockSize)
	for at := int64(len(w.head)); at < w.n; {
		b := buf[:min(int64(len(buf)), w.n-at)]
		if _, err := w.Device.ReadAt(b, at); err != nil {
			return fmt.Errorf("image: reading back at byte %d: %w", at, err)
		}
		h.Write(b)
		at += int64(len(b))
		if err := ctx.Err(); err != nil {
			return err
		}
		w.tell("checking", at, w.n)
	}
	if !bytes.Equal(h.Sum(nil), w.rest.Sum(nil)) {
		return fmt.Errorf("image: reading back: %w", ErrMismatch)
	}
	return nil
}

// Finish writes the beginning, which makes the card one that starts, and makes the kernel see its partitions.
func (w *Writer) Finish() error {
	_, err := w.Device.WriteAt(w.head, 0)
	if err = errors.Join(err, w.Device.Sync(), w.Device.Forget()); err != nil {
		return fmt.Errorf("image: writing the partition table: %w", err)
	}
	got := make([]byte, len(w.head))
	if _, err := w.Device.ReadAt(got, 0); err != nil {
		return fmt.Errorf("image: reading back the partition table: %w", err)
	}
	if !bytes.Equal(got, w.head) {
		return fmt.Errorf("image: reading back the partition table: %w", ErrMismatch)
	}
	if err := w.Device.Reload(); err != nil {
		return fmt.Errorf("image: showing the kernel the new partitions: %w", err)
	}
	return nil
}

func (w *Writer) tell(step string, done, of int64) {
	if w.Told != nil {
		w.Told(step, done, of)
	}
}
