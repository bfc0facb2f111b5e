// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
)

// passphrases gets passphrases from a file, or from the person at the terminal; never from the command line, where every user of the machine
// could read them.
type passphrases struct {
	app   *app
	file  string // --passphrase-file
	none  bool   // --no-passphrase
	known string // the last one that was typed or read
}

// minPassphrase is the shortest that is taken for something new, in bytes.
const minPassphrase = 8

func (p *passphrases) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "passphrase-file", "", "`file` whose first line is the passphrase; default: asked for at the terminal")
}

// flags is flag for a command that makes keys.
func (p *passphrases) flags(cmd *cobra.Command) {
	p.flag(cmd)
	cmd.Flags().BoolVar(&p.none, "no-passphrase", false, "leave new keys unprotected but for the mode of their files: for labs and tests")
}

// choose returns the passphrase for something new; "" = none is wanted.
func (p *passphrases) choose(ctx context.Context, what string) (string, error) {
	switch {
	case p.none && p.file != "":
		return "", cli.Usagef("--no-passphrase and --passphrase-file: want one of them")
	case p.none:
		return "", nil
	case p.file != "":
		return p.fromFile(minPassphrase)
	}
	first, err := p.typed(ctx, "new passphrase for "+what)
	if err != nil {
		return "", err
	}
	if len(first) < minPassphrase {
		return "", p.tooShort("it")
	}
	again, err := p.typed(ctx, "the same once more")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", cli.Try(cli.Usagef("the two passphrases differ"), "the same command again")
	}
	p.known = first
	return first, nil
}

func (p *passphrases) tooShort(what string) error {
	return cli.Try(cli.Usagef("%s has fewer than %d characters, too easy to guess", what, minPassphrase), "a passphrase of four or five words")
}

// open decrypts a text that isSealed. A passphrase that opened or made something before is tried first.
func (p *passphrases) open(ctx context.Context, text []byte, what string) ([]byte, error) {
	if p.known == "" && p.file != "" {
		if _, err := p.fromFile(1); err != nil {
			return nil, err
		}
	}
	if p.known != "" {
		plain, err := unseal(text, p.known)
		if !errors.Is(err, errWrongPassphrase) || p.file != "" {
			return plain, p.explain(err, what)
		}
	}
	typed, err := p.typed(ctx, "passphrase of "+what)
	if err != nil {
		return nil, err
	}
	plain, err := unseal(text, typed)
	if err == nil {
		p.known = typed
	}
	return plain, p.explain(err, what)
}

func (p *passphrases) explain(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWrongPassphrase) && p.file != "":
		return cli.Try(fmt.Errorf("opening %s: %w in %s", what, err, p.file), "--passphrase-file with the right file")
	case errors.Is(err, errWrongPassphrase):
		return cli.Try(fmt.Errorf("opening %s: %w", what, err), "the same command again; nobody can open it without")
	}
	return cli.Try(fmt.Errorf("opening %s: it is damaged: %w", what, err), "streembit fleet restore BACKUP --dir FOLDER")
}

// fromFile reads the first line of the file.
func (p *passphrases) fromFile(least int) (string, error) {
	text, err := fleet.ReadSecret(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", cli.Try(cli.Usagef("--passphrase-file: %w", err), "--passphrase-file with a file that is there, or none to be asked")
	}
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) < least {
		return "", p.tooShort("the first line of " + p.file)
	}
	p.known = string(line)
	return p.known, nil
}

// typed asks at the terminal, without echo. Standard input may be something else, so that a code can be piped in.
func (p *passphrases) typed(ctx context.Context, what string) (string, error) {
	tty := os.Stdin
	if !term.IsTerminal(int(tty.Fd())) {
		own, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", cli.Try(cli.Usagef("%s: there is no terminal to ask at", what), "--passphrase-file FILE")
		}
		defer own.Close()
		tty = own
	}
	shown, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("reading passphrase: %w", err)
	}
	fmt.Fprintf(p.app.err, "%s: ", what)
	// Nothing else ends a read from a terminal. What is written elsewhere is written whole or not at all, so that the end may come here.
	stop := context.AfterFunc(ctx, func() {
		_ = term.Restore(int(tty.Fd()), shown)
		fmt.Fprintln(p.app.err)
		os.Exit(int(outcome().Report(p.app.err, ctx.Err())))
	})
	line, err := term.ReadPassword(int(tty.Fd()))
	stop()
	fmt.Fprintln(p.app.err)
	if err != nil {
		return "", fmt.Errorf("reading passphrase: %w", err)
	}
	if len(line) == 0 {
		return "", cli.Try(cli.Usagef("%s: nothing was typed", what), "the same command again")
	}
	return string(line), nil
}
