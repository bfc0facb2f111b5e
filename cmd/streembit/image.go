// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/image"
)

// imaging is what streembit image was asked for.
type imaging struct {
	app      *app
	board    string
	packages []string
	config   string
	token    string
	sha256   string
	unproven bool // --no-checksum
	allow    image.Allow
	confirm  string
	dry      bool
}

func newImage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Write cards for boards, and prepare them so that they enrol by themselves",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newImageFlash(a), newImagePrepare(a), newImageBoards(a), newImageManifest(a))
	return cmd
}

func newImageFlash(a *app) *cobra.Command {
	i := imaging{app: a}
	cmd := &cobra.Command{
		Use:   "flash IMAGE DISK",
		Short: "Write a system image to a card, with our package, a config and a claim token",
		Long: `Writes a system image (Raspberry Pi OS Bookworm or Trixie, Armbian; .img, .img.xz, .img.gz, .img.zst, .zip) to a disk, reads it back and compares it, and adds
what the board needs to come up as a member of the fleet: packages (.deb), a config, a claim token (streembit enroll token).

DISK is a whole disk such as /dev/sdb, or a file that does not exist yet. A disk is written only if nothing of this machine uses it, and if it is a USB disk or a
card of at most 256 GB; it is shown first, and its name must be typed. The checksum of IMAGE is read from IMAGE.sha256 or SHA256SUMS beside it, or given.`,
		Example: "  streembit image flash raspios.img.xz /dev/sdb --board rpi4 --package streembit_0.2.0_arm64.deb --token enroll.toml\n" +
			"  streembit image flash raspios.img.xz card.img --token enroll.toml",
		Args: cli.Args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return advised(i.flash(cmd.Context(), args[0], args[1]))
		},
	}
	i.flags(cmd)
	cmd.Flags().StringVar(&i.sha256, "sha256", "", "SHA-256 of IMAGE in `hex`, or a file with it")
	cmd.Flags().BoolVar(&i.unproven, "no-checksum", false, "write an image of which no checksum is known")
	return cmd
}

func newImagePrepare(a *app) *cobra.Command {
	i := imaging{app: a}
	cmd := &cobra.Command{
		Use:   "prepare DISK",
		Short: "Add our package, a config and a claim token to a card or image that is written already",
		Long: `Adds to a card or an image file what streembit image flash would, for example to one that Raspberry Pi Imager has written: what it set up (user, Wi-Fi, host name)
stays. The card must not have started yet. Run again it replaces what it added before.`,
		Example: "  streembit image prepare /dev/sdb --package streembit_0.2.0_arm64.deb --token enroll.toml",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return advised(i.prepare(cmd.Context(), args[0]))
		},
	}
	i.flags(cmd)
	return cmd
}

// advised adds to a refusal what it says to try.
func advised(err error) error {
	if r, ok := errors.AsType[*image.Refusal](err); ok && !cli.Tried(err) {
		return cli.Try(err, "%s", r.Try)
	}
	return err
}

func (i *imaging) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&i.board, "board", "", "`board` that the card is for: "+strings.Join(boardNames(), ", "))
	fl.StringSliceVar(&i.packages, "package", nil, "`file` .deb to install at the first start (may be repeated: the one of the system's architecture is taken)")
	fl.StringVar(&i.config, "config", "", "`file` that becomes /etc/streembit/streembitd.toml")
	fl.StringVar(&i.token, "token", "", "`file` that streembit enroll token made")
	fl.BoolVar(&i.allow.Fixed, "allow-fixed", false, "also a disk that is built in")
	fl.BoolVar(&i.allow.Large, "allow-large", false, "also a disk of more than 256 GB")
	fl.StringVar(&i.confirm, "confirm", "", "`name` of the disk, as one would type it when asked")
	fl.BoolVar(&i.dry, "dry-run", false, "check everything and write nothing")
}

// payload loads what the card gets, and checks it as far as it can be checked here.
func (i *imaging) payload() (image.Payload, error) {
	var p image.Payload
	for _, path := range i.packages {
		d, err := image.OpenPackage(path)
		if err != nil {
			return p, cli.Try(cli.Usage(err), "--package with a file that make deb made")
		}
		p.Packages = append(p.Packages, d)
	}
	if err := i.fits(p.Packages); err != nil {
		return p, err
	}
	if i.config != "" {
		text, err := os.ReadFile(i.config)
		if err != nil {
			return p, cli.Try(cli.Usagef("--config: %w", err), "--config with a file that is there")
		}
		var anything map[string]any
		if err := cli.ParseTOML(text, &anything); err != nil {
			return p, cli.Try(cli.Usagef("--config %s:\n%w", i.config, err), "docs/operations.md explains every key")
		}
		p.Config = text
	}
	if i.token == "" {
		return p, nil
	}
	text, err := fleet.ReadSecret(i.token)
	if err != nil {
		return p, cli.Try(cli.Usagef("--token: %w", err), "streembit enroll token --out enroll.toml")
	}
	t, err := enroll.ParseToken(text)
	if err == nil && t.Expires.Before(time.Now()) {
		err = fmt.Errorf("the token ended at %s", day(t.Expires.UnixMilli()))
	}
	if err != nil {
		return p, cli.Try(cli.Usagef("--token %s: %w", i.token, err), "streembit enroll token --out enroll.toml")
	}
	p.Token = text
	return p, nil
}

// boardNames lists what --board takes: the names of the Makefile, for the boards of the tables.
func boardNames() []string {
	var names []string
	for _, b := range boards.All() {
		names = append(names, strings.ReplaceAll(b.ID, "-", ""))
	}
	return names
}

// findBoard finds a board by its name, with or without hyphens: rpi4, rpi-4. The Zero is the table's rpi-1-plus.
func findBoard(name string) (boards.Board, error) {
	plain := strings.ReplaceAll(strings.ToLower(name), "-", "")
	if plain == "rpizero" {
		plain = "rpi1plus"
	}
	for _, b := range boards.All() {
		if strings.ReplaceAll(b.ID, "-", "") == plain {
			return b, nil
		}
	}
	return boards.Board{}, cli.Try(cli.Usagef("--board %q is not known", name), "one of %s", strings.Join(boardNames(), ", "))
}

// architectures lists Debian's names of what runs on a board, the best first.
func architectures(b boards.Board) []string {
	switch b.GOARCH {
	case "arm64":
		return []string{"arm64", "armhf"}
	case "arm":
		return []string{"armhf"}
	}
	return []string{b.GOARCH}
}

// fits returns an error if there are packages, and none of them runs on the board.
func (i *imaging) fits(packages []image.Package) error {
	if i.board == "" {
		return nil
	}
	b, err := findBoard(i.board)
	if err != nil || len(packages) == 0 {
		return err
	}
	can := architectures(b)
	if !slices.ContainsFunc(packages, func(p image.Package) bool { return slices.Contains(can, p.Arch) }) {
		return cli.Try(cli.Usage(fmt.Errorf("no package is for a %s: %w", b.Name, errors.New("it runs "+strings.Join(can, " and ")))),
			"make deb, then --package dist/streembit_VERSION_%s.deb", can[0])
	}
	return nil
}
