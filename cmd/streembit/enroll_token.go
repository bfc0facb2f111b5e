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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
	"github.com/streembit/edge/fleet/enroll"
)

// tokenOrder is what streembit enroll token was asked for.
type tokenOrder struct {
	uses           uint32
	roles, expires string
	site, out      string
	labels         []string
	executor       string
}

func newToken(a *app) *cobra.Command {
	d := desk{app: a}
	var t tokenOrder
	cmd := &cobra.Command{
		Use:   "token --out FILE",
		Short: "Make a claim token for the boot partitions of new devices",
		Long: `Writes enroll.toml. A device that finds it on its boot partition (streembit/enroll.toml) claims membership at the hubs that it names, and erases it
once it is a member. Whoever reads the file can claim too: give it few uses and a near end.

The claims wait at the hubs until somebody who knows the token's secret grants them: this folder (streembit enroll grant, or serve), which keeps the
secret, or with --executor a hub, to whose reader key the secret is sealed and which then grants without a person.`,
		Example: "  streembit enroll token --uses 50 --expires 7d --label site=lab --out /media/sdcard/streembit/enroll.toml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "--uses 50 --expires 7d --out enroll.toml", "out"); err != nil {
				return err
			}
			return d.makeToken(cmd.Context(), t)
		},
	}
	fl := cmd.Flags()
	fl.Uint32Var(&t.uses, "uses", 1, "how many `devices` may use it")
	fl.StringVar(&t.expires, "expires", "7d", "end of the token: a `duration` (7d, 12h) or a date (2027-01-31)")
	fl.StringVar(&t.roles, "role", "device", "`roles` of those who use it: device, hub, or both")
	fl.StringVar(&t.site, "site", "", "their `site`")
	fl.StringSliceVar(&t.labels, "label", nil, "their `key=value` (may be repeated)")
	fl.StringVar(&t.out, "out", "", "`file` to write")
	fl.StringVar(&t.executor, "executor", "", "`hub` that grants those who claim by it, by name or id; default: this folder does")
	d.flags(cmd)
	return cmd
}

func (d desk) makeToken(ctx context.Context, t tokenOrder) (err error) {
	if _, err := os.Lstat(t.out); err == nil {
		return cli.Try(fmt.Errorf("making token: %s: %w, and nothing is overwritten", t.out, fs.ErrExist), "rm %s", cli.Quote(t.out))
	}
	o, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	token, policy, err := o.newToken(t)
	if err != nil {
		return err
	}
	text, err := token.Encode()
	if err != nil {
		return err
	}
	if policy.Sealed == nil { // before the fleet knows of it: a policy whose secret nobody has is of no use
		if err := o.keepToken(token, text); err != nil {
			return err
		}
	}
	_, err = o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
		next, err := f.Append(o.author, now, fleet.Entry{Policy: &policy})
		return next, []audit.Event{{Event: "token", What: hex.EncodeToString(token.ID[:]),
			Detail: fmt.Sprintf("%s of %s until %s, by %s", plural(int(t.uses), "use"), policy.Roles, day(policy.Expires), whoIs(f, policy.Executor))}}, err
	})
	if err != nil {
		return errors.Join(err, o.dropToken(token))
	}
	if err := fleet.WriteFile(t.out, text, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(o.app.out, "token %s for %s, until %s, in %s\n", tokenName(token.ID), plural(int(t.uses), "device"), day(policy.Expires), t.out)
	if policy.Sealed == nil {
		fmt.Fprintf(o.app.err, "\nnext, when devices have claimed: streembit enroll grant --all%s, or now: streembit enroll serve%s\n", o.dirArg(), o.dirArg())
	}
	return nil
}

// newToken makes the token and the policy by which it counts.
func (o *office) newToken(t tokenOrder) (enroll.Token, fleet.Policy, error) {
	f := o.known()
	p := fleet.Policy{Executor: o.author.Key.ID(), Site: t.site, Labels: fleet.SortLabels(t.labels), Uses: t.uses}
	bad := func(err error) (enroll.Token, fleet.Policy, error) {
		return enroll.Token{}, p, cli.Try(cli.Usage(err), "streembit enroll token --uses 50 --expires 7d --label site=lab --out enroll.toml")
	}
	var err error
	if p.Roles, err = fleet.ParseRoles(t.roles); err != nil || p.Roles&^(fleet.Device|fleet.Hub) != 0 {
		return bad(errors.Join(err, errIf(err == nil, "--role: a token makes devices or hubs")))
	}
	if p.Expires, err = parseExpires(t.expires, time.Now()); err != nil || p.Expires == 0 {
		return bad(errors.Join(err, errIf(err == nil, "--expires: a token has an end")))
	}
	token := enroll.NewToken(f, time.UnixMilli(p.Expires))
	p.ID = token.ID
	if len(token.Hubs) == 0 {
		return token, p, cli.Try(fmt.Errorf("making token: the fleet state names no hub at which devices could claim"),
			"on the owner's machine: streembit fleet grant ID --role hub --name hub-1 --addr /ip4/ADDRESS/tcp/32321")
	}
	if t.executor == "" {
		return token, p, nil
	}
	hub, err := o.member(t.executor)
	if err != nil {
		return token, p, err
	}
	if hub.Roles&fleet.Hub == 0 || len(hub.Reader) == 0 {
		return token, p, cli.Try(fmt.Errorf("making token: %s is no hub with a reader key, to which the secret could be sealed", hub.Name),
			"on the hub streembitd id --reader, then here streembit fleet grant %s --role hub --name %s --reader reader.pub", hub.Member, hub.Name)
	}
	p.Executor = hub.Member
	p.Sealed, err = enroll.SealSecret(hub.Reader, f.ID(), token.ID, token.Secret)
	return token, p, err
}

func errIf(bad bool, text string) error {
	if bad {
		return errors.New(text)
	}
	return nil
}

func (o *office) keepToken(t enroll.Token, text []byte) error {
	if err := os.MkdirAll(o.dir.tokens(), 0o700); err != nil {
		return fmt.Errorf("making token: %w", err)
	}
	return fleet.WriteFile(o.tokenFile(t.ID), text, 0o600)
}

// dropToken forgets a token that came to nothing.
func (o *office) dropToken(t enroll.Token) error {
	if err := os.Remove(o.tokenFile(t.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making token: %w", err)
	}
	return nil
}

func (o *office) tokenFile(id fleet.TokenID) string {
	return filepath.Join(o.dir.tokens(), hex.EncodeToString(id[:])+".toml")
}

// errNoSecret is wrapped when this folder does not keep a token's secret.
var errNoSecret = errors.New("this folder does not keep the token's secret, its executor does")

// token loads a token that this folder keeps.
func (o *office) token(id fleet.TokenID) (enroll.Token, error) {
	text, err := fleet.ReadSecret(o.tokenFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return enroll.Token{}, fmt.Errorf("token %s: %w", tokenName(id), errNoSecret)
	}
	if err != nil {
		return enroll.Token{}, err
	}
	return enroll.ParseToken(text)
}

// judge reports whether a claim is to be granted: it proves the token's secret, the token is ours to carry out and has not ended, and there
// is a place left.
func (o *office) judge(f *fleet.Fleet, used usage, c enroll.Claim, now time.Time) error {
	p, err := o.policy(f, c.Token)
	if err != nil {
		return err
	}
	t, err := o.token(c.Token)
	if err != nil {
		return err
	}
	if err := c.Check(t.Secret); err != nil {
		return err
	}
	return o.room(f, used[p.ID], p, c.Device, now)
}

// policy returns the token's policy that is ours to carry out.
func (o *office) policy(f *fleet.Fleet, id fleet.TokenID) (fleet.Policy, error) {
	if own := f.PolicyOf(id, o.author.Key.ID()); len(own) > 0 {
		return own[0], nil
	}
	p, _, ok := f.Policy(id)
	if !ok {
		return p, fmt.Errorf("token %s is not of this fleet", tokenName(id))
	}
	return p, fmt.Errorf("token %s: its secret is not kept here, %s carries it out", tokenName(id), whoIs(f, p.Executor))
}

func (o *office) room(f *fleet.Fleet, used map[edge.ID]bool, p fleet.Policy, device edge.ID, now time.Time) error {
	_, revoked, former := f.Former(device)
	switch {
	case now.UnixMilli() > p.Expires:
		return fmt.Errorf("token %s ended at %s", tokenName(p.ID), day(p.Expires))
	case former && revoked != nil:
		return fmt.Errorf("its key was revoked: %w", fleet.ErrRevoked)
	case f.IsMember(device):
		return fmt.Errorf("it is a member already")
	case !used[device] && len(used) >= int(p.Uses):
		return fmt.Errorf("token %s is used up, %s", tokenName(p.ID), plural(int(p.Uses), "device"))
	}
	return nil
}

func newTokenEnd(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "end TOKEN",
		Short: "End a claim token now: it is lost, or not needed any more",
		Long:  "TOKEN is as streembit fleet show names it. Who enrolled by it stays a member; nobody who is granted later by it counts.",
		Args:  cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			o, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, o.close()) }()
			return o.endToken(cmd.Context(), argv[0])
		},
	}
	d.flags(cmd)
	return cmd
}

func (o *office) endToken(ctx context.Context, name string) error {
	var ending []fleet.Policy
	for _, p := range o.known().Policies() {
		if len(name) >= 8 && strings.HasPrefix(hex.EncodeToString(p.ID[:]), name) {
			ending = append(ending, p)
		}
	}
	if len(ending) == 0 {
		return cli.Try(cli.Usagef("fleet %s has no token %q", o.known().State().Name, name), "streembit fleet show%s", o.dirArg())
	}
	ended := false
	for _, p := range ending {
		changed, err := o.apply(ctx, func(f *fleet.Fleet, now time.Time) (*fleet.Fleet, []audit.Event, error) {
			if now.UnixMilli() > p.Expires {
				return f, nil, nil
			}
			p.Expires = now.UnixMilli()
			next, err := f.Append(o.author, now, fleet.Entry{Policy: &p})
			return next, []audit.Event{{Event: "token", What: hex.EncodeToString(p.ID[:]), Detail: "ended"}}, err
		})
		if err != nil {
			return err
		}
		ended = ended || changed
	}
	if !ended {
		fmt.Fprintf(o.app.out, "token %s had ended already\n", name)
		return nil
	}
	fmt.Fprintf(o.app.out, "token %s is ended\n", name)
	return nil
}
