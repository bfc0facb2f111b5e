// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
)

// resetOptions are the flags of streembitd reset.
type resetOptions struct {
	state, tpm                       string
	here, yes, keepOutbox, dropStore bool
}

// errNotHere: somebody must stand before the device, or be root on it.
var errNotHere = errors.New("a reset takes this device out of its fleet for good")

func newResetCommand() *cobra.Command {
	var o resetOptions
	c := &cobra.Command{
		Use:   "reset --i-am-here",
		Short: "Take this device out of its fleet: its key and all that it has not published are gone",
		Long: `Take this device out of its fleet, so that another one, or the same anew, can take it in. It gets another key and with that another id.

Removed are the key, fleet.cbor, the outbox with all that is not published yet, and what a hub keeps for the enrolment of others. The audit
log stays. Have an operator revoke the old id as well: whoever copied the card has its key.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if !o.here {
				return cli.Try(cli.Usage(errNotHere), "streembitd reset --i-am-here --state %s", cli.Quote(o.state))
			}
			return o.run(c)
		},
	}
	fl := c.Flags()
	fl.StringVar(&o.state, "state", defaultState, "state folder")
	fl.StringVar(&o.tpm, "tpm", "", "`device` of the TPM that opens key.tpm; default the kernel's")
	fl.BoolVar(&o.here, "i-am-here", false, "you stand before the device, or are root on it, and mean it")
	fl.BoolVar(&o.yes, "yes", false, "ask no question")
	fl.BoolVar(&o.keepOutbox, "keep-outbox", false, "set the outbox aside instead of removing it, as outbox.OLD-ID; the new key cannot publish it")
	fl.BoolVar(&o.dropStore, "drop-store", false, "of a hub: remove what it stores for others")
	return c
}

func (o resetOptions) run(c *cobra.Command) (err error) {
	if _, err := os.Stat(o.state); err != nil {
		return cli.Try(fmt.Errorf("resetting: %w", err), "--state with the folder that the config names")
	}
	r, err := openRecord(o.state, agent.KernelSynced, slog.New(slog.DiscardHandler))
	if err != nil {
		return err // also while streembitd runs
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	name, short := "without a key", "without"
	key, origin, err := openKey(o.state, o.tpm)
	if err == nil {
		name, short = key.ID().String(), key.ID().Short()
	} else if !errors.Is(err, fs.ErrNotExist) { // a damaged key is a reason to reset
		name, short = "one with a key that cannot be read", "damaged"
	}
	if err := o.checkStore(); err != nil {
		return err
	}
	if err := o.confirm(c, name, short); err != nil {
		return err
	}
	r.decided(evReset, name, o.fleetName(), "")
	if err := o.remove(short); err != nil {
		r.decided(evReset, name, "", "not completed: "+err.Error())
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s left %s\nnext: streembitd run makes a new key and waits for a fleet; have an operator revoke the old id\n", name, o.fleetName())
	if err == nil && origin == fleet.FromCredential {
		fmt.Fprintf(c.OutOrStdout(), "the key is a systemd credential and stays: give the service another %s\n", fleet.KeyCredential)
	}
	return nil
}

// checkStore keeps a hub from throwing away what others believe to be safe here.
func (o resetOptions) checkStore() error {
	if _, err := os.Stat(filepath.Join(o.state, "store")); o.dropStore || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return cli.Try(errors.New("this is a hub that stores segments of others: have it revoked first and wait until the other hubs have its segments"),
		"then: streembitd reset --i-am-here --drop-store --state %s", cli.Quote(o.state))
}

// confirm has a person type the end of the id, or of the word that stands for it.
func (o resetOptions) confirm(c *cobra.Command, name, short string) error {
	if o.yes {
		return nil
	}
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return cli.Try(cli.Usage(fmt.Errorf("%w: there is no terminal to ask at", errNotHere)), "streembitd reset --i-am-here --yes --state %s", cli.Quote(o.state))
	}
	want, ask := short[len(short)-4:], "the last 4 characters of its id"
	if short != name[len(name)-len(short):] {
		want, ask = short, `"`+short+`"`
	}
	fmt.Fprintf(c.ErrOrStderr(), "%v.\nThis device is %s.\nType %s to go on: ", errNotHere, name, ask)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" {
		return fmt.Errorf("resetting: %w", err)
	}
	if trimLine(line) != want {
		return cli.Try(errors.New("that is another id, nothing was changed"), "the same command again")
	}
	return nil
}

func trimLine(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r' || s[len(s)-1] == ' ') {
		s = s[:len(s)-1]
	}
	return s
}

func (o resetOptions) fleetName() string {
	if p, err := readPin(o.state); err == nil && p != (pin{}) {
		return "fleet " + p.Fleet.String()
	}
	return "no fleet"
}

// remove is in an order in which each step can be the last, and the same command goes on: first the secrets, the pin, which says whose device this is, at the end.
func (o resetOptions) remove(short string) error {
	for _, name := range []string{fleet.NextKeyFile, fleet.NextSealedKeyFile, fleet.KeyFile, fleet.SealedKeyFile, readerName, claimName, secretName, queueName} {
		if err := erase(filepath.Join(o.state, name)); err != nil {
			return err
		}
	}
	outbox := filepath.Join(o.state, "outbox")
	err := error(nil)
	if _, serr := os.Stat(outbox); o.keepOutbox && serr == nil {
		err = os.Rename(outbox, outbox+"."+short)
	} else {
		err = os.RemoveAll(outbox)
	}
	if o.dropStore {
		err = errors.Join(err, os.RemoveAll(filepath.Join(o.state, "store")))
	}
	if err != nil {
		return fmt.Errorf("resetting: %w", err)
	}
	for _, name := range []string{formerName, readerPubName, lifeName, bundleName, pinName} {
		if err := erase(filepath.Join(o.state, name)); err != nil {
			return err
		}
	}
	return nil
}
