// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/streembit/edge"
	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// stateDir is the folder of a collector or an operator: identity, reader key, a copy of the fleet's bundle.
type stateDir string

func (d stateDir) key() string       { return filepath.Join(string(d), "key.pem") }
func (d stateDir) reader() string    { return filepath.Join(string(d), "reader.pem") }
func (d stateDir) readerPub() string { return filepath.Join(string(d), "reader.pub") }
func (d stateDir) bundle() string    { return filepath.Join(string(d), bundleName) }

// stateFlag adds --state, which $STREEMBIT_STATE sets too.
func stateFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state", configDir("collector"), "`folder` of this member's keys and fleet bundle")
}

func newID(a *app) *cobra.Command {
	var dir, name string
	var asJSON, operator bool
	cmd := &cobra.Command{
		Use:   "id",
		Short: "Make or show this collector's or operator's identity and reader key",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if operator && !cmd.Flags().Changed("state") {
				dir = configDir("fleet")
			}
			id, err := makeIdentity(stateDir(dir))
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(a.out, id)
			}
			fmt.Fprintln(a.out, id.ID)
			if operator {
				fmt.Fprintf(a.err, "\nnext, on the owner's machine:\n  streembit fleet operator add %s --name %s\nthen copy %s here, to %s\n",
					id.ID, name, bundleName, stateDir(dir).bundle())
				return nil
			}
			fmt.Fprintf(a.err, "\nnext, on the owner's machine (bring %s along):\n  streembit fleet grant %s --role collector --name %s --reader %s\nthen copy %s here, to %s\n",
				id.ReaderPub, id.ID, name, cli.Quote(id.ReaderPub), bundleName, stateDir(dir).bundle())
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", hostName(), "`name` to suggest in the next command")
	cmd.Flags().BoolVar(&operator, "operator", false, "for an operator: in the folder of the fleet commands unless --state names another")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	stateFlag(cmd, &dir)
	return cmd
}

// identity is who a collector is, and the JSON of streembit id.
type identity struct {
	ID        edge.ID `json:"id"`
	Key       string  `json:"key"`
	Reader    string  `json:"reader"`
	ReaderPub string  `json:"reader_pub"`

	public []byte // what ReaderPub holds
}

// makeIdentity loads the keys in dir or makes them, and writes reader.pub anew.
func makeIdentity(dir stateDir) (identity, error) {
	full, err := filepath.Abs(string(dir))
	if err != nil {
		return identity{}, fmt.Errorf("making identity: %w", err)
	}
	dir = stateDir(full)
	if err := os.MkdirAll(full, 0o700); err != nil {
		return identity{}, fmt.Errorf("making identity: %w", err)
	}
	key, err := fleet.LoadOrCreateKey(dir.key())
	if err != nil {
		return identity{}, err
	}
	reader, err := fleet.LoadOrCreateReaderKey(dir.reader())
	if err != nil {
		return identity{}, err
	}
	pub := pem.EncodeToMemory(&pem.Block{Type: readerPubPEM, Bytes: reader.Public()})
	if err := fleet.WriteFile(dir.readerPub(), pub, 0o644); err != nil {
		return identity{}, err
	}
	return identity{ID: key.ID(), Key: dir.key(), Reader: dir.reader(), ReaderPub: dir.readerPub(), public: reader.Public()}, nil
}

// readerPubPEM is the PEM type of reader.pub: an HPKE public key (RFC 9180) of MLKEM768-X25519.
const readerPubPEM = "STREEMBIT READER PUBLIC KEY"

func parseReaderPub(data []byte) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != readerPubPEM {
		return nil, errors.New("this is no reader.pub: streembit id writes one")
	}
	if _, err := journal.NewReader(block.Bytes); err != nil {
		return nil, err
	}
	return block.Bytes, nil
}

// hostName suggests a member name that the fleet accepts.
func hostName() string {
	if h, err := os.Hostname(); err == nil && journal.ValidStream(h) {
		return h
	}
	return "server"
}
