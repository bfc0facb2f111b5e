// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/image"
)

// flash writes an image to a disk or a new file and prepares it.
func (i *imaging) flash(ctx context.Context, path, to string) (err error) {
	p, err := i.payload()
	if err != nil {
		return err
	}
	src, err := image.OpenSource(path)
	if err != nil {
		return cli.Try(cli.Usage(err), "streembit image flash IMAGE DISK --dry-run")
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	disk, err := i.look(to, src.Size)
	if err != nil {
		return err
	}
	if err := i.prove(ctx, path); err != nil {
		return err
	}
	if i.dry {
		fmt.Fprintf(i.app.out, "%s could be written to %s; nothing was changed\n", path, to)
		return nil
	}
	if err := i.agreed(ctx, disk); err != nil {
		return err
	}
	target, err := i.open(to, disk, src.Size)
	if err != nil {
		return err
	}
	start := time.Now()
	n, err := i.write(ctx, src, target, p)
	err = errors.Join(err, target.Close())
	if err != nil {
		if disk == nil {
			err = errors.Join(err, os.Remove(to))
		}
		return err
	}
	took := time.Since(start)
	fmt.Fprintf(i.app.out, "%s written to %s, read back and compared: %s in %s\n", filepath.Base(path), to, image.Bytes(n), took.Round(time.Second))
	return nil
}

// look finds the disk and shows it; nil for a file that is to be made. Disks that must not be written end here.
func (i *imaging) look(to string, need int64) (*image.Disk, error) {
	info, err := os.Stat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(filepath.Clean(to)) == "/dev":
		return nil, &image.Refusal{Reason: image.NoDisk, Disk: to, Why: "there is no such disk", Try: "lsblk -d -o NAME,MODEL,SIZE,TRAN shows the disks"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err == nil && info.Mode().IsRegular():
		return nil, cli.Try(fmt.Errorf("%s: %w, and nothing is overwritten", to, fs.ErrExist), "rm %s", cli.Quote(to))
	}
	return i.lookDisk(to, need)
}

func (i *imaging) lookDisk(to string, need int64) (*image.Disk, error) {
	d, err := image.FindDisk(os.DirFS("/"), to)
	if err != nil {
		return nil, err
	}
	showDisk(i.app.err, d)
	if err := d.Refuse(need, i.allow); err != nil {
		return nil, err
	}
	return &d, nil
}

// prove compares the image with its checksum.
func (i *imaging) prove(ctx context.Context, path string) error {
	if i.unproven {
		return nil
	}
	sum, err := i.checksum(path)
	if err != nil {
		return err
	}
	m := newMeter(i.app.err)
	defer m.end()
	err = image.CheckFile(ctx, path, sum, func(done, of int64) { m.show("checksum", done, of) })
	if errors.Is(err, image.ErrChecksum) {
		return cli.Try(err, "download %s again", filepath.Base(path))
	}
	return err
}

func (i *imaging) checksum(path string) (sum [32]byte, err error) {
	if raw, err := hex.DecodeString(i.sha256); err == nil && len(raw) == len(sum) {
		return [32]byte(raw), nil
	}
	if i.sha256 != "" {
		sum, err = image.ReadChecksum(i.sha256, path)
	} else {
		sum, _, err = image.FindChecksum(path)
	}
	if err != nil {
		return sum, cli.Try(cli.Usage(err), "--sha256 with what the maker's page says, or --no-checksum")
	}
	return sum, nil
}

// open opens the disk that was shown, or makes the file.
func (i *imaging) open(to string, shown *image.Disk, need int64) (*image.Target, error) {
	if shown == nil {
		f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("making image file: %w", err)
		}
		return &image.Target{File: f}, nil
	}
	t, err := image.OpenDisk(os.DirFS("/"), to, *shown, need, i.allow)
	if errors.Is(err, fs.ErrPermission) {
		return nil, cli.Try(err, "the same command with sudo")
	}
	return t, err
}

// write writes, checks and prepares, in the order that leaves no card that starts and is not whole.
func (i *imaging) write(ctx context.Context, src *image.Source, t *image.Target, p image.Payload) (int64, error) {
	m := newMeter(i.app.err)
	defer m.end()
	w := image.Writer{Device: t, Size: t.Disk.Size, Told: func(step string, done, of int64) {
		if step == "writing" && of == 0 { // the image does not say how large it is: how much of the file is left tells as well
			done, of = src.Taken(), src.Packed
		}
		m.show(step, done, of)
	}}
	if err := w.Write(ctx, src, src.Size); err != nil {
		return 0, cli.Try(err, "the same command again; until then the card does not start")
	}
	if err := w.Check(ctx); err != nil {
		return 0, cli.Try(err, "another card")
	}
	m.end()
	if err := i.add(ctx, t, w.Head(), w.Length(), p); err != nil {
		return 0, err
	}
	return w.Length(), w.Finish()
}
