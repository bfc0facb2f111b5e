// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// draft is what streembit ota release was asked for.
type draft struct {
	version, channel, floor, notes string
	boards, files                  []string
}

func newOtaRelease(a *app) *cobra.Command {
	d := desk{app: a}
	var r draft
	cmd := &cobra.Command{
		Use:   "release --version VERSION FILE…",
		Short: "Put programs into the draft of a release",
		Long: `Each FILE is streembitd for one architecture, which its ELF header tells; make cross builds them all. A name that says another architecture is
refused. With --board the files are for these boards alone, and go before those for every board.

Nothing changes for devices before streembit ota sign and streembit ota publish.`,
		Example: `  streembit ota release --version 1.4.0 bin/streembitd-linux-arm64 bin/streembitd-linux-arm
  streembit ota release --version 1.4.1 --floor 1.4.0 --notes "mends a hole in the hub" bin/streembitd-linux-*`,
		Args: cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := need(cmd, "--version 1.4.0 "+strings.Join(argv, " "), "version"); err != nil {
				return err
			}
			r.files = argv
			return d.release(cmd.Context(), r, time.Now())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.version, "version", "", "`version` by Semantic Versioning, for example 1.4.0")
	fl.StringVar(&r.channel, "channel", "stable", "`channel` of the release")
	fl.StringVar(&r.floor, "floor", "", "security floor: once this runs, nothing below that `version` is installed any more; default: as before")
	fl.StringVar(&r.notes, "notes", "", "`text` for people")
	fl.StringArrayVar(&r.boards, "board", nil, "`id` of a board that the files are for (may be repeated); default every board")
	dirFlag(cmd, (*string)(&d.dir))
	return cmd
}

// parse refuses what cannot be meant.
func (r *draft) parse() (rel repo.Release, err error) {
	rel = repo.Release{Channel: r.channel, Notes: r.notes, Boards: r.boards}
	if rel.Version, err = ota.ParseVersion(r.version); err != nil {
		return rel, cli.Try(cli.Usage(err), "streembit ota release --version 1.4.0 FILE…")
	}
	if r.floor != "" {
		if rel.Floor, err = ota.ParseVersion(r.floor); err != nil {
			return rel, cli.Try(cli.Usagef("--floor: %w", err), "streembit ota release --version %s --floor %s FILE…", rel.Version, rel.Version)
		}
	}
	for _, id := range r.boards {
		if !slices.ContainsFunc(boards.All(), func(b boards.Board) bool { return b.ID == id }) {
			return rel, cli.Try(cli.Usagef("--board %q is none that is known", id), "streembitd sensors scan, on the device, names its board")
		}
	}
	return rel, nil
}

func (d desk) release(ctx context.Context, r draft, now time.Time) (err error) {
	rel, err := r.parse()
	if err != nil {
		return err
	}
	unlock, err := lockOta(ctx, d.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	for _, file := range r.files { // all are looked at before the first is taken
		if err := checkProgramFile(file, rel); err != nil {
			return err
		}
	}
	t := cli.NewTable(d.app.out)
	for _, file := range r.files {
		a, err := release.Add(rel, file, now)
		if err != nil {
			t.Flush()
			return explainRelease(err, rel)
		}
		t.Row(a.Path, fmt.Sprintf("%.2f MB", float64(a.Size)/1e6), fmt.Sprintf("sha256 %x", a.Hash[:8]), floorText(a.Floor))
	}
	t.Flush()
	fmt.Fprintf(d.app.err, "\nnext:  streembit ota sign%s\n", d.dirArg())
	return nil
}

func floorText(v ota.Version) string {
	if v == "" {
		return ""
	}
	return "floor " + string(v)
}

func explainRelease(err error, rel repo.Release) error {
	switch {
	case errors.Is(err, repo.ErrExists):
		return cli.Try(err, "streembit ota release with a version above %s", rel.Version)
	case errors.Is(err, ota.ErrBelowFloor):
		return cli.Try(err, "a version above the security floor; only a new root of updates takes a floor back")
	case errors.Is(err, trust.ErrMalformed):
		return cli.Try(cli.Usage(err), "streembit ota release --help")
	}
	return err
}

// archNames are how files say an architecture.
func archNames() map[string]string {
	return map[string]string{"arm64": "arm64", "aarch64": "arm64", "armv8": "arm64", "arm": "arm", "armhf": "arm", "armv6": "arm", "armv7": "arm",
		"armv6l": "arm", "armv7l": "arm", "amd64": "amd64", "x64": "amd64", "riscv64": "riscv64", "rv64": "riscv64"}
}

// checkProgramFile compares what a program is with what its name and the release say, and looks that it is streembitd and runs on every board that takes it.
func checkProgramFile(file string, rel repo.Release) error {
	arch, err := repo.Arch(file)
	if err != nil {
		return cli.Try(err, "make cross, which builds bin/streembitd-linux-ARCH")
	}
	words := strings.FieldsFunc(strings.ToLower(filepath.Base(file)), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for _, word := range words {
		if says := archNames()[word]; says != "" && says != arch {
			return cli.Try(fmt.Errorf("%s is a program for %s, and its name says %s: %w", file, arch, says, repo.ErrWrongArch), "the file that was meant, or another name for it")
		}
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil { // no Go program, or stripped of what it says of itself
		return nil
	}
	if info.Path != "" && !strings.HasSuffix(info.Path, "/streembitd") {
		return cli.Try(fmt.Errorf("%s is %s, not streembitd: %w", file, info.Path, repo.ErrWrongArch), "make cross, which builds bin/streembitd-linux-ARCH")
	}
	if err := holdsVersion(file, rel.Version); err != nil {
		return err
	}
	for _, s := range info.Settings {
		if s.Key == "GOARM" && len(rel.Boards) == 0 && !strings.HasPrefix(s.Value, "5") && !strings.HasPrefix(s.Value, "6") {
			return cli.Try(fmt.Errorf("%s is built with GOARM=%s and does not start on an ARMv6 board: %w", file, s.Value, repo.ErrWrongArch),
				"GOARM=6, or --board with the boards that it is for")
		}
	}
	return nil
}

// errOtherVersion: a device would put such a program on trial and go back, because it says that it is another version than the one that was wanted.
var errOtherVersion = errors.New("this program was built as another version")

// holdsVersion looks for the version in the program, which says it of itself. That it is in there proves little, that it is not proves that it was built as another one.
func holdsVersion(file string, v ota.Version) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading program: %w", err)
	}
	if !bytes.Contains(data, []byte(v)) {
		return cli.Try(fmt.Errorf("%s does not hold the text %s: %w", file, v, errOtherVersion), "make cross VERSION=%s", v)
	}
	return nil
}

func newOtaWithdraw(a *app) *cobra.Command {
	d := desk{app: a}
	channel := "stable"
	cmd := &cobra.Command{
		Use:     "withdraw VERSION",
		Short:   "Take a release out of the draft: nobody installs it any more",
		Long:    "Devices that run it keep running it until a rollout says otherwise. It counts after streembit ota sign and streembit ota publish.",
		Example: "  streembit ota withdraw 1.4.0",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			v, err := ota.ParseVersion(argv[0])
			if err != nil {
				return cli.Try(cli.Usage(err), "streembit ota withdraw 1.4.0")
			}
			unlock, err := lockOta(cmd.Context(), d.dir.ota())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, unlock()) }()
			release, err := d.dir.ota().open()
			if err != nil {
				return err
			}
			n, err := release.Withdraw(channel, v, time.Now())
			if err != nil {
				return cli.Try(err, "streembit ota verify%s, which lists what there is", d.dirArg())
			}
			fmt.Fprintf(a.out, "%s of %s %s go\n", plural(n, "program"), channel, v)
			fmt.Fprintf(a.err, "\nnext:  streembit ota sign%s\n", d.dirArg())
			return nil
		},
	}
	cmd.Flags().StringVar(&channel, "channel", channel, "`channel` of the release")
	dirFlag(cmd, (*string)(&d.dir))
	return cmd
}
