// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/ota/trust/repo"
)

func newOtaKey(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make a holder's key on the holder's own machine",
		Long: `Makes a key that signs roots or targets, protected by a passphrase. The key never leaves this machine; tell the id that is printed to who runs
streembit ota keygen --root ID or streembit ota root rotate --add root=ID.`,
		Example: "  streembit ota key /media/usb/alice.key",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if _, err := os.Lstat(argv[0]); err == nil { // before a passphrase is thought up
				_, err := a.newOtaKeyFile(argv[0], "")
				return err
			}
			passphrase, err := d.pass.choose(cmd.Context(), argv[0])
			if err != nil {
				return err
			}
			key, err := a.newOtaKeyFile(argv[0], passphrase)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, key.ID())
			return nil
		},
	}
	d.pass.app = a
	d.pass.flags(cmd)
	return cmd
}

// ceremony is what streembit ota keygen was asked for.
type ceremony struct {
	holders   []string
	targets   string
	threshold int
	out       string
}

func newOtaKeygen(a *app) *cobra.Command {
	d := desk{app: a}
	var c ceremony
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the keys and the first root of updates",
		Long: `With --root, once for each holder: the holders made their keys on their own machines (streembit ota key), and what is written is a request that they
sign in turn (streembit ota root sign); the root is in force when enough have signed (streembit ota root accept). No machine ever has two root keys.

Without: three root keys are made here, and the root is signed. Move root-1.key, root-2.key and root-3.key to three places off line then.

Keys of targets, snapshot and timestamp are made here in both cases, unless --targets names one that a holder has.`,
		Example: "  streembit ota keygen\n  streembit ota keygen --root 12D3KooW… --root 12D3KooW… --root 12D3KooW… --threshold 2",
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.otaKeygen(cmd.Context(), c, time.Now()) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&c.holders, "root", nil, "`id` of a holder's root key (repeated: one for each holder)")
	fl.IntVar(&c.threshold, "threshold", 2, "`how many` holders must sign a root")
	fl.StringVar(&c.targets, "targets", "", "`id` of the targets key, if it is kept on another machine; default: it is made here")
	fl.StringVar(&c.out, "out", "root-1.request", "`file` of the request, with --root")
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = a
	d.pass.flags(cmd)
	return cmd
}

func (d desk) otaKeygen(ctx context.Context, c ceremony, now time.Time) (err error) {
	if _, err := d.dir.load(); err != nil {
		return err
	}
	unlock, err := lockOta(ctx, d.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := checkCeremony(d.dir.ota(), &c); err != nil {
		return err
	}
	var roles repo.Roles
	if roles.Root.Keys, err = parseIDs("--root", c.holders); err != nil {
		return err
	}
	if roles.Targets.Keys, err = parseIDs("--targets", sliceOf(c.targets)); err != nil {
		return err
	}
	passphrase, err := d.pass.choose(ctx, "the keys of updates")
	if err != nil {
		return err
	}
	request, err := d.makeKeys(roles, c, passphrase, now)
	if err != nil {
		return err
	}
	if len(c.holders) > 0 {
		return d.handOut(request, c.out)
	}
	return d.selfSign(ctx, request, passphrase != "")
}

func sliceOf(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func parseIDs(flag string, texts []string) (all []edge.ID, err error) {
	for _, text := range texts {
		id, err := edge.ParseID(text)
		if err != nil {
			return nil, cli.Try(cli.Usagef("%s %q: %w", flag, text, err), "streembit ota key FILE, on the holder's machine, prints one")
		}
		if slices.Contains(all, id) {
			return nil, cli.Try(cli.Usagef("%s %s is there twice and counts once", flag, id), "one %s for each holder", flag)
		}
		all = append(all, id)
	}
	return all, nil
}

// checkCeremony refuses what would be half done, and what is there already.
func checkCeremony(d otaDir, c *ceremony) error {
	if _, err := repo.Open(string(d)); !errors.Is(err, repo.ErrNoRoot) {
		return errors.Join(err, cli.Try(fmt.Errorf("%s has a root of updates already, and nothing is overwritten", d), "streembit ota root show"))
	}
	entries, err := os.ReadDir(filepath.Dir(d.key("x")))
	if err == nil && len(entries) > 0 {
		return cli.Try(fmt.Errorf("%s has keys of a ceremony that was not finished, and nothing is overwritten", filepath.Dir(d.key("x"))),
			"streembit ota root accept REQUEST, or to begin anew: rm -r %s", cli.Quote(filepath.Dir(d.key("x"))))
	}
	holders := len(c.holders)
	if holders == 0 {
		holders = 3
	}
	if c.threshold < 1 || c.threshold > holders {
		return cli.Try(cli.Usagef("--threshold %d: want 1 to %d, as many as there are root keys at most", c.threshold, holders), "streembit ota keygen --threshold 2")
	}
	if _, err := os.Lstat(c.out); err == nil && len(c.holders) > 0 {
		return cli.Try(fmt.Errorf("%s is there already, and nothing is overwritten", c.out), "--out with another name")
	}
	return nil
}

// makeKeys makes the keys that nobody brought, and the request for the first root.
func (d desk) makeKeys(roles repo.Roles, c ceremony, passphrase string, now time.Time) (*repo.Request, error) {
	roles.Root.Threshold, roles.Targets.Threshold, roles.Snapshot.Threshold, roles.Timestamp.Threshold = c.threshold, 1, 1, 1
	make := func(role *repo.Role, names ...string) error {
		for _, name := range names {
			key, err := d.app.newOtaKeyFile(d.dir.ota().key(name), passphrase)
			if err != nil {
				return err
			}
			role.Keys = append(role.Keys, key.ID())
		}
		return nil
	}
	var err error
	if len(c.holders) == 0 {
		err = make(&roles.Root, "root-1", "root-2", "root-3")
	}
	if len(roles.Targets.Keys) == 0 {
		err = errors.Join(err, make(&roles.Targets, "targets"))
	}
	if err = errors.Join(err, make(&roles.Snapshot, "snapshot"), make(&roles.Timestamp, "timestamp")); err != nil {
		return nil, err
	}
	q, err := repo.FirstRoot(roles, now)
	if err != nil {
		return nil, cli.Try(cli.Usage(err), "streembit ota keygen --help")
	}
	return q, nil
}

// handOut writes a request and says who is to sign it.
func (d desk) handOut(q *repo.Request, file string) error {
	if err := writeRequest(q, file); err != nil {
		return err
	}
	fmt.Fprintf(d.app.out, "%s: root %d\n", file, q.New.Signed.Version)
	if err := showStanding(d.app, q); err != nil {
		return err
	}
	fmt.Fprintf(d.app.err, "\nnext, on each holder's machine:  streembit ota root sign %s --key FILE\nthen, here:                      streembit ota root accept %s%s\n",
		filepath.Base(file), file, d.dirArg())
	return nil
}

func writeRequest(q *repo.Request, file string) error {
	text, err := q.Encode()
	if err != nil {
		return err
	}
	return fleet.WriteFile(file, text, 0o644)
}

// selfSign signs the first root with as many of the keys that were made here as it needs.
func (d desk) selfSign(ctx context.Context, q *repo.Request, protected bool) error {
	for i := range q.New.Signed.Roles["root"].Threshold {
		k, err := d.ownerKey(ctx, d.dir.ota().key(fmt.Sprintf("root-%d", i+1)))
		if err != nil {
			return err
		}
		if err := q.Sign(k); err != nil {
			return err
		}
	}
	if _, err := q.Accept(string(d.dir.ota())); err != nil {
		return err
	}
	t := cli.NewTable(d.app.out)
	for i := range 3 {
		t.Row(d.dir.ota().key(fmt.Sprintf("root-%d", i+1)), "move off line now, each to another place: replaces lost or stolen keys")
	}
	t.Row(d.dir.ota().key("targets"), "names programs: keep it off line where you can")
	t.Row(d.dir.ota().key("snapshot"), "for this machine")
	t.Row(d.dir.ota().key("timestamp"), "for this machine: signs every day that nothing was held back")
	t.Flush()
	if !protected {
		fmt.Fprintf(d.app.err, "\nthe keys have no passphrase: whoever reads these files can sign updates\n")
	}
	fmt.Fprintf(d.app.err, "\nnext:  streembit ota pin%s\n", d.dirArg())
	return nil
}
