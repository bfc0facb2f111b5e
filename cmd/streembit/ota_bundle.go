// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

func newOtaVerify(a *app) *cobra.Command {
	d := desk{app: a}
	var root string
	cmd := &cobra.Command{
		Use:   "verify [BUNDLE]",
		Short: "Prove the release folder or a bundle as a device would, programs included",
		Long: `The root that is trusted is the one that the fleet's state pins, or --root; before it is pinned, the release folder's first. What a device would leave
out or refuse ends this with exit code 5.`,
		Example: "  streembit ota verify\n  streembit ota verify /media/usb/update.bundle",
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			d.quiet()
			all, err := d.verifyUpdates(cmd.Context(), argv, root, time.Now())
			if d.asJSON && err == nil {
				return cli.PrintJSON(d.answers, shownArtifacts(all))
			}
			showArtifacts(d.app, all)
			if err != nil {
				return err
			}
			fmt.Fprintf(d.app.out, "%s proven\n", plural(len(all), "program"))
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "`file` of the root that is trusted")
	dirFlag(cmd, (*string)(&d.dir))
	d.jsonFlag(cmd)
	return cmd
}

// shownArtifact is the JSON of a program.
type shownArtifact struct {
	Path    string      `json:"path"`
	Version ota.Version `json:"version"`
	Channel string      `json:"channel"`
	Arch    string      `json:"arch"`
	Boards  []string    `json:"boards,omitempty"`
	Size    int64       `json:"size"`
	SHA256  string      `json:"sha256"`
	Tree    string      `json:"tree"`
	Floor   ota.Version `json:"floor,omitempty"`
	Notes   string      `json:"notes,omitempty"`
}

func shownArtifacts(all []ota.Artifact) []shownArtifact {
	shown := []shownArtifact{}
	for _, a := range all {
		shown = append(shown, shownArtifact{a.Path, a.Version, a.Channel, a.Arch, a.Boards, a.Size, hex.EncodeToString(a.Hash[:]), hex.EncodeToString(a.Tree[:]), a.Floor, a.Notes})
	}
	return shown
}

func (d desk) verifyUpdates(ctx context.Context, argv []string, rootFile string, now time.Time) ([]ota.Artifact, error) {
	root, err := d.trustedRoot(rootFile)
	if err != nil {
		return nil, err
	}
	if len(argv) == 1 {
		return verifyBundle(ctx, argv[0], root, now)
	}
	release, err := d.dir.ota().open()
	if err != nil {
		return nil, err
	}
	all, err := release.Verify(ctx, root, now)
	return all, d.explainVerify(err)
}

func (d desk) explainVerify(err error) error {
	switch {
	case errors.Is(err, trust.ErrExpired):
		return cli.Try(err, "streembit ota sign%s", d.dirArg())
	case errors.Is(err, fs.ErrNotExist):
		return cli.Try(err, "streembit ota release --version VERSION FILE…%s, with the same files as before", d.dirArg())
	case errors.Is(err, repo.ErrNoRelease):
		return cli.Try(err, "streembit ota release --version 1.4.0 FILE…%s, then streembit ota sign%s", d.dirArg(), d.dirArg())
	}
	return err
}

// trustedRoot returns the file's, else the one that the fleet's state pins, else nil: the release folder's own.
func (d desk) trustedRoot(file string) ([]byte, error) {
	if file != "" {
		root, err := os.ReadFile(file)
		if err != nil {
			return nil, cli.Try(cli.Usagef("--root: %w", err), "--root %s", cli.Quote(filepath.Join(string(d.dir.ota()), "metadata", "1.root.json")))
		}
		return root, nil
	}
	f, err := d.dir.load()
	if err != nil {
		return nil, err
	}
	return f.State().UpdateRoot, nil
}

func verifyBundle(ctx context.Context, file string, root []byte, now time.Time) (all []ota.Artifact, err error) {
	if len(root) == 0 {
		return nil, cli.Try(fmt.Errorf("the fleet's state pins no root of updates"), "streembit ota pin, or --root FILE")
	}
	b, err := trust.OpenBundle(file)
	if err != nil {
		return nil, cli.Try(err, "streembit ota bundle --out FILE, and copy it again")
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if all, err = repo.Prove(ctx, root, b, now); err != nil {
		return all, err
	}
	proven := []ota.Artifact{}
	for _, a := range all {
		r, err := b.Program(a.Tree)
		if errors.Is(err, trust.ErrNotFound) { // a bundle need not have all
			continue
		}
		if err := errors.Join(err, checkBundled(a, r)); err != nil {
			return proven, err
		}
		proven = append(proven, a)
	}
	if len(proven) == 0 {
		return nil, fmt.Errorf("%s: %w: none of its %s is one that the metadata name", file, trust.ErrMismatch, plural(b.Programs(), "program"))
	}
	return proven, nil
}

func checkBundled(a ota.Artifact, r *io.SectionReader) error {
	if r == nil {
		return nil
	}
	return trust.CheckProgram(a, r)
}

func newOtaBundle(a *app) *cobra.Command {
	d := desk{app: a}
	var out, version string
	cmd := &cobra.Command{
		Use:   "bundle --out FILE",
		Short: "Write what is signed, with its programs, into one file for a USB stick",
		Long: `On the device: streembitd update --from FILE, which proves it as if it had come by the network. The file holds nothing secret. It is of use until the
timestamp in it expires, 21 days after it was signed.`,
		Example: "  streembit ota bundle --out /media/usb/update.bundle\n  streembit ota bundle --version 1.4.0 --out /media/usb/1.4.0.bundle",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--out /media/usb/update.bundle", "out"); err != nil {
				return err
			}
			return d.bundle(cmd.Context(), out, ota.Version(version), time.Now())
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` to write")
	cmd.Flags().StringVar(&version, "version", "", "`version` whose programs go along; default: all")
	dirFlag(cmd, (*string)(&d.dir))
	return cmd
}

func (d desk) bundle(ctx context.Context, out string, only ota.Version, now time.Time) error {
	if _, err := os.Lstat(out); err == nil {
		return cli.Try(fmt.Errorf("writing bundle: %s: %w, and nothing is overwritten", out, fs.ErrExist), "--out with another name")
	}
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	all, err := release.Verify(ctx, nil, now)
	if err != nil {
		return d.explainVerify(err)
	}
	var trees [][32]byte
	for _, a := range all {
		if (only == "" || a.Version == only) && !slices.Contains(trees, a.Tree) {
			trees = append(trees, a.Tree)
		}
	}
	if len(trees) == 0 {
		return cli.Try(cli.Usagef("there is no program of version %q", only), "streembit ota verify%s, which lists what there is", d.dirArg())
	}
	files, err := release.Files()
	if err != nil {
		return err
	}
	size, err := writeBundle(out, release, files, trees)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.app.out, "%s: %s, %.2f MB\n", out, plural(len(trees), "program"), float64(size)/1e6)
	fmt.Fprintf(d.app.err, "\non the device:  streembitd update --from %s\n", cli.Quote(out))
	return nil
}

// writeBundle leaves nothing behind when it fails.
func writeBundle(out string, release *repo.Repo, files map[string][]byte, trees [][32]byte) (size int64, err error) {
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, fmt.Errorf("writing bundle: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out)
		}
	}()
	err = trust.WriteBundle(f, files, trees, release.OpenProgram)
	if info, e := f.Stat(); e == nil {
		size = info.Size()
	}
	return size, errors.Join(err, f.Sync(), f.Close())
}
