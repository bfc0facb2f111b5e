// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

func newOtaRoot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "root",
		Short: "Sign, accept, rotate and show the root of updates",
		Args:  cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newRootSign(a), newRootAccept(a), newRootRotate(a), newRootShow(a))
	return cmd
}

// readRequest reads a request from a file.
func readRequest(file string) (*repo.Request, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, cli.Try(fmt.Errorf("reading request: %w", err), "streembit ota root rotate --help, or streembit ota keygen --help")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4*trust.MaxRoot+1))
	if err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	q, err := repo.ParseRequest(text)
	if err != nil {
		return nil, cli.Try(fmt.Errorf("%s: %w", file, err), "another copy of the request, as it was sent out")
	}
	return q, nil
}

func newRootSign(a *app) *cobra.Command {
	d := desk{app: a}
	var key string
	cmd := &cobra.Command{
		Use:   "sign REQUEST --key FILE",
		Short: "Sign a root, on a holder's machine: needs no fleet and no network",
		Long: `Shows what the root would change and adds this key's signature to the request. Compare the ids with the holders before you sign: who signs a root
decides whose programs the whole fleet runs.`,
		Example: "  streembit ota root sign root-2.request --key /media/usb/alice.key",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := need(cmd, argv[0]+" --key alice.key", "key"); err != nil {
				return err
			}
			return d.signRoot(cmd.Context(), argv[0], key)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "`file` of the holder's key")
	d.pass.app = a
	d.pass.flag(cmd)
	return cmd
}

func (d desk) signRoot(ctx context.Context, file, keyFile string) error {
	q, err := readRequest(file)
	if err != nil {
		return err
	}
	if err := showChanges(d.app, q); err != nil {
		return err
	}
	key, err := d.ownerKey(ctx, keyFile)
	if err != nil {
		return err
	}
	if err := q.Sign(key); err != nil {
		return cli.Try(err, "the key of a holder whose id is listed above")
	}
	if err := writeRequest(q, file); err != nil {
		return err
	}
	fmt.Fprintf(d.app.out, "\nsigned root %d by %s\n", q.New.Signed.Version, key.ID())
	return showStanding(d.app, q)
}

// showChanges says what a root changes.
func showChanges(a *app, q *repo.Request) error {
	now, err := q.Roles()
	if err != nil {
		return err
	}
	before, err := q.Before()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "root %d, until %s\n", q.New.Signed.Version, q.New.Signed.Expires.Format(time.DateOnly))
	t := cli.NewTable(a.out)
	old := before.List()
	for i, role := range now.List() {
		rule := fmt.Sprintf("%d of %d", role.Threshold, len(role.Keys))
		if q.Old != nil && old[i].Threshold != role.Threshold {
			rule += fmt.Sprintf(" (was %d of %d)", old[i].Threshold, len(old[i].Keys))
		}
		t.Row(role.Name, rule, "")
		for _, id := range role.Keys {
			mark := ""
			if q.Old != nil && !slices.Contains(old[i].Keys, id) {
				mark = "new"
			}
			t.Row("", id.String(), mark)
		}
		for _, id := range old[i].Keys {
			if !slices.Contains(role.Keys, id) {
				t.Row("", id.String(), "goes")
			}
		}
	}
	t.Flush()
	return nil
}

// showStanding says who has signed.
func showStanding(a *app, q *repo.Request) error {
	all, err := q.Standing()
	if err != nil {
		return err
	}
	for _, s := range all {
		line := fmt.Sprintf("%s: %d of %d signatures", s.Role, len(s.Signed), len(s.Signed)+s.Missing)
		if s.Missing > 0 {
			line += fmt.Sprintf(", %d more of %s", s.Missing, joinIDs(s.Open))
		}
		fmt.Fprintln(a.out, line)
	}
	return nil
}

func joinIDs(ids []edge.ID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, ", ")
}

func newRootAccept(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:     "accept REQUEST…",
		Short:   "Put a root in force that enough holders have signed",
		Long:    "Several copies of one request that were signed apart are put together. The request of keygen founds the release folder; a later one rotates it.",
		Example: "  streembit ota root accept root-1.request",
		Args:    cli.Args(cobra.MinimumNArgs(1)),
		RunE:    func(cmd *cobra.Command, argv []string) error { return d.acceptRoot(cmd.Context(), argv) },
	}
	dirFlag(cmd, (*string)(&d.dir))
	return cmd
}

func (d desk) acceptRoot(ctx context.Context, files []string) (err error) {
	if _, err := d.dir.load(); err != nil {
		return err
	}
	unlock, err := lockOta(ctx, d.dir.ota())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	q, err := readRequest(files[0])
	if err != nil {
		return err
	}
	for _, file := range files[1:] {
		other, err := readRequest(file)
		if err != nil {
			return err
		}
		if err := q.Take(other); err != nil {
			return cli.Try(fmt.Errorf("%s: %w", file, err), "copies of one request")
		}
	}
	_, err = q.Accept(string(d.dir.ota()))
	switch {
	case errors.Is(err, repo.ErrTooFew):
		return errors.Join(cli.Try(err, "streembit ota root sign %s --key FILE, on the machine of one of the holders below", cli.Quote(files[0])), showStanding(d.app, q))
	case errors.Is(err, trust.ErrRollback):
		return cli.Try(err, "streembit ota root show%s", d.dirArg())
	case err != nil:
		return err
	}
	fmt.Fprintf(d.app.out, "root %d is in force here\n", q.New.Signed.Version)
	next := "streembit ota pin" + d.dirArg()
	if q.Old != nil {
		next = fmt.Sprintf("streembit ota sign%s, then %s, then streembit ota publish%s", d.dirArg(), next, d.dirArg())
	}
	fmt.Fprintf(d.app.err, "\nnext:  %s\n", next)
	return nil
}

// turn is what streembit ota root rotate was asked for.
type turn struct {
	add, remove, threshold []string
	out                    string
}

func newRootRotate(a *app) *cobra.Command {
	d := desk{app: a}
	var r turn
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a request for the next root: other keys, other thresholds, or just a new expiry",
		Long: `Roles are root, targets, snapshot and timestamp. The request is signed by enough holders of the old root and of the new one (streembit ota root sign)
and accepted (streembit ota root accept). A key that may be stolen is removed: what it alone signed counts nowhere from then on, and devices that its
thief led ahead come back.`,
		Example: `  streembit ota root rotate --remove root=12D3KooW… --add root=12D3KooW…
  streembit ota root rotate --remove timestamp=12D3KooW… --add timestamp=12D3KooW…
  streembit ota root rotate                      # a new expiry, nothing else`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.rotateRoot(r, time.Now()) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&r.add, "add", nil, "`ROLE=ID`: a key more (may be repeated)")
	fl.StringArrayVar(&r.remove, "remove", nil, "`ROLE=ID`: a key less (may be repeated)")
	fl.StringArrayVar(&r.threshold, "threshold", nil, "`ROLE=N`: how many must sign (may be repeated)")
	fl.StringVar(&r.out, "out", "", "`file` of the request; default root-VERSION.request")
	dirFlag(cmd, (*string)(&d.dir))
	return cmd
}

func (d desk) rotateRoot(r turn, now time.Time) error {
	release, err := d.dir.ota().open()
	if err != nil {
		return err
	}
	q, err := release.NextRoot(now, r.apply)
	if err != nil {
		return cli.Try(cli.Usage(err), "streembit ota root show%s", d.dirArg())
	}
	if r.out == "" {
		r.out = fmt.Sprintf("root-%d.request", q.New.Signed.Version)
	}
	if _, err := os.Lstat(r.out); err == nil {
		return cli.Try(fmt.Errorf("%s is there already, and nothing is overwritten", r.out), "--out with another name")
	}
	if err := showChanges(d.app, q); err != nil {
		return err
	}
	return d.handOut(q, r.out)
}

// apply does what was asked to roles.
func (r *turn) apply(roles *repo.Roles) error {
	for _, text := range r.remove {
		role, id, err := roleKey(roles, "--remove", text)
		if err != nil {
			return err
		}
		i := slices.Index(role.Keys, id)
		if i < 0 {
			return fmt.Errorf("--remove %s: the role has no such key", text)
		}
		role.Keys = slices.Delete(role.Keys, i, i+1)
	}
	for _, text := range r.add {
		role, id, err := roleKey(roles, "--add", text)
		if err != nil {
			return err
		}
		role.Keys = append(role.Keys, id)
	}
	for _, text := range r.threshold {
		role, value, err := roleOf(roles, "--threshold", text)
		if err != nil {
			return err
		}
		if role.Threshold, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("--threshold %s: want for example root=2", text)
		}
	}
	return nil
}

func roleKey(roles *repo.Roles, flag, text string) (*repo.Role, edge.ID, error) {
	role, value, err := roleOf(roles, flag, text)
	if err != nil {
		return nil, edge.ID{}, err
	}
	id, err := edge.ParseID(value)
	if err != nil {
		return nil, id, fmt.Errorf("%s %s: %w", flag, text, err)
	}
	return role, id, nil
}

func roleOf(roles *repo.Roles, flag, text string) (*repo.Role, string, error) {
	name, value, ok := strings.Cut(text, "=")
	for _, role := range roles.List() {
		if ok && role.Name == name {
			return role.Role, value, nil
		}
	}
	return nil, "", fmt.Errorf("%s %s: want ROLE=VALUE with root, targets, snapshot or timestamp", flag, text)
}

func newRootShow(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show whose keys sign updates",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			d.quiet()
			r, err := d.dir.ota().open()
			if err != nil {
				return err
			}
			return d.showRoot(r)
		},
	}
	dirFlag(cmd, (*string)(&d.dir))
	d.jsonFlag(cmd)
	return cmd
}

// shownRoot is the JSON of streembit ota root show.
type shownRoot struct {
	Version int64                `json:"version"`
	Expires time.Time            `json:"expires"`
	Roles   map[string]shownRole `json:"roles"`
}

type shownRole struct {
	Threshold int       `json:"threshold"`
	Keys      []edge.ID `json:"keys"`
}

func (d desk) showRoot(r *repo.Repo) error {
	roles, version, expires, err := r.Roles()
	if err != nil {
		return err
	}
	shown := shownRoot{Version: version, Expires: expires, Roles: map[string]shownRole{}}
	fmt.Fprintf(d.app.out, "root %d, until %s\n", version, expires.Format(time.DateOnly))
	t := cli.NewTable(d.app.out)
	for _, role := range roles.List() {
		shown.Roles[role.Name] = shownRole{role.Threshold, role.Keys}
		for i, id := range role.Keys {
			name, rule := "", ""
			if i == 0 {
				name, rule = role.Name, fmt.Sprintf("%d of %d", role.Threshold, len(role.Keys))
			}
			t.Row(name, rule, id.String(), d.whereKey(id))
		}
	}
	t.Flush()
	if !d.asJSON {
		return nil
	}
	return cli.PrintJSON(d.answers, shown)
}

// whereKey names the file of a key that is not protected and lies here; others cannot be told without their passphrases.
func (d desk) whereKey(id edge.ID) string {
	files, _ := filepath.Glob(d.dir.ota().key("*"))
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil || isSealed(text) {
			continue
		}
		if key, err := d.ownerKey(context.Background(), file); err == nil && key.ID() == id {
			return file
		}
	}
	return ""
}
