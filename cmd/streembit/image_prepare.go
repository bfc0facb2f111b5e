// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/image"
)

// add prepares the system on a target with the payload, if there is one.
func (i *imaging) add(ctx context.Context, t *image.Target, view io.ReaderAt, size int64, p image.Payload) error {
	if len(p.Packages) == 0 && p.Config == nil && p.Token == nil {
		return nil
	}
	style, err := image.Prepare(ctx, t, view, size, p)
	switch {
	case errors.Is(err, image.ErrNoTool):
		return cli.Try(err, "apt-get install mtools e2fsprogs, then the same command again")
	case errors.Is(err, image.ErrPrepared), errors.Is(err, image.ErrUnknownSystem):
		return cli.Try(err, "the same command without --package, --config and --token, and install by hand: docs/operations.md")
	case err != nil:
		return err
	}
	var names []string
	for _, d := range p.Packages {
		names = append(names, d.Name+" "+d.Version+" "+d.Arch)
	}
	if p.Config != nil {
		names = append(names, "config")
	}
	if p.Token != nil {
		names = append(names, "claim token")
	}
	fmt.Fprintf(i.app.out, "added for the first start (%s): %s\n", style, strings.Join(names, ", "))
	if p.Token != nil {
		fmt.Fprintf(i.app.err, "whoever reads this card before its first start can join the fleet\nnext, when the board has started: streembit enroll list\n")
	}
	return nil
}

// prepare adds the payload to a disk or image file that has a system already.
func (i *imaging) prepare(ctx context.Context, to string) (err error) {
	p, err := i.payload()
	if err != nil {
		return err
	}
	if len(p.Packages) == 0 && p.Config == nil && p.Token == nil {
		return cli.Try(cli.Usagef("streembit image prepare: there is nothing to add"), "streembit image prepare %s --package FILE.deb --token enroll.toml", cli.Quote(to))
	}
	t, size, err := i.openPrepared(ctx, to)
	if err != nil || t == nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := i.add(ctx, t, t, size, p); err != nil {
		return err
	}
	return t.Reload()
}

// openPrepared opens what is to be prepared; nil after a dry run.
func (i *imaging) openPrepared(ctx context.Context, to string) (*image.Target, int64, error) {
	info, err := os.Stat(to)
	if err != nil {
		return nil, 0, cli.Try(cli.Usage(err), "a disk such as /dev/sdb, or an image file")
	}
	var disk *image.Disk
	size := info.Size()
	if !info.Mode().IsRegular() {
		if disk, err = i.lookDisk(to, 0); err != nil {
			return nil, 0, err
		}
		size = disk.Size
	}
	if i.dry {
		fmt.Fprintf(i.app.out, "%s could be prepared; nothing was changed\n", to)
		return nil, 0, nil
	}
	if err := i.agreed(ctx, disk); err != nil {
		return nil, 0, err
	}
	if disk != nil {
		t, err := i.open(to, disk, 0)
		return t, size, err
	}
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("opening image file: %w", err)
	}
	return &image.Target{File: f}, size, nil
}

// showDisk shows what a person must recognise before they let it be written.
func showDisk(w io.Writer, d image.Disk) {
	or := func(s string) string {
		if s == "" {
			return "unknown"
		}
		return s
	}
	fmt.Fprintf(w, "disk    %s, %s, %s\nmodel   %s\nserial  %s\n", d.Name, image.Bytes(d.Size), d.Bus, or(d.Model), or(d.Serial))
	for _, p := range d.Parts[1:] {
		fmt.Fprintf(w, "part    %s, %s\n", p.Name, image.Bytes(p.Size))
	}
}

// agreed asks the person to type the disk's name. Files are made new and need no asking.
func (i *imaging) agreed(ctx context.Context, d *image.Disk) error {
	if d == nil {
		return nil
	}
	typed := i.confirm
	if typed == "" {
		var err error
		if typed, err = i.ask(ctx, fmt.Sprintf("everything on it will be lost. To go on, type %s: ", d.Name)); err != nil {
			return err
		}
	}
	if typed != d.Name {
		return &image.Refusal{Reason: image.Changed, Disk: d.Name, Why: fmt.Sprintf("%q is not its name", typed), Try: "the same command again, and the name as it is shown"}
	}
	return nil
}

// ask reads a line from the terminal.
func (i *imaging) ask(ctx context.Context, question string) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", cli.Try(cli.Usagef("there is no terminal to ask at"), "--confirm NAME, as lsblk shows it")
	}
	fmt.Fprint(i.app.err, question)
	stop := context.AfterFunc(ctx, func() { // nothing else ends a read from a terminal, and nothing was written yet
		fmt.Fprintln(i.app.err)
		os.Exit(int(outcome().Report(i.app.err, ctx.Err())))
	})
	defer stop()
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := os.Stdin.Read(b)
		if n == 0 || err != nil || b[0] == '\n' || len(line) > 256 {
			return strings.TrimSpace(string(line)), nil
		}
		line = append(line, b[0])
	}
}
