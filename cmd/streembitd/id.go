// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
)

// identity is what streembitd id shows, and its JSON.
type identity struct {
	ID        string `json:"id"`
	Key       string `json:"key"`                  // where it lies
	Code      string `json:"code,omitempty"`       // of an unclaimed device
	Offer     string `json:"offer,omitempty"`      // the same with addresses, to copy and paste
	Fleet     string `json:"fleet,omitempty"`      // of a claimed one
	FleetID   string `json:"fleet_id,omitempty"`   //
	ReaderPub string `json:"reader_pub,omitempty"` // file, with --reader
}

// idOptions are the flags of streembitd id.
type idOptions struct {
	state, tpm              string
	json, qr, offer, reader bool
}

func newIDCommand() *cobra.Command {
	var o idOptions
	c := &cobra.Command{
		Use:   "id",
		Short: "Show this member's id and, while it belongs to no fleet, its enrolment code; makes its key the first time",
		Long: `Show this member's id, making its key the first time.

While it belongs to no fleet it also shows its enrolment code: whoever has seen the code can take the device into a fleet, so show it to
nobody else. The offer is the code together with the addresses of this device, as a block to copy and paste.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := loadIdentity(c.Context(), o)
			if err != nil {
				return err
			}
			if o.json {
				return cli.PrintJSON(c.OutOrStdout(), id)
			}
			return id.print(c.OutOrStdout(), o)
		},
	}
	fl := c.Flags()
	fl.StringVar(&o.state, "state", defaultState, "state folder")
	fl.StringVar(&o.tpm, "tpm", "", "`device` of the TPM that opens key.tpm; default the kernel's")
	fl.BoolVar(&o.json, "json", false, "print JSON")
	fl.BoolVar(&o.qr, "qr", false, "show the code as a QR code, 39 columns wide")
	fl.BoolVar(&o.offer, "offer", false, "show the offer block, with the addresses of the running streembitd")
	fl.BoolVar(&o.reader, "reader", false, "make a reader key too, and write reader.pub: for a hub that is to grant devices by claim tokens")
	return c
}

// loadIdentity loads or makes what makes this member itself.
func loadIdentity(ctx context.Context, o idOptions) (id identity, err error) {
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return id, cli.Try(fmt.Errorf("making state folder: %w", err), "--state with a folder that you may write to")
	}
	key, origin, err := openOrMakeKey(o.state, o.tpm)
	if err != nil {
		return id, keyError(err, o.state)
	}
	id = identity{ID: key.ID().String(), Key: string(origin)}
	if origin == fleet.FromFile {
		id.Key = filepath.Join(o.state, fleet.KeyFile)
	}
	if o.reader {
		if id.ReaderPub, err = makeReader(o.state); err != nil {
			return id, err
		}
	}
	f, err := loadFleet(o.state)
	if err == nil {
		id.Fleet, id.FleetID = f.State().Name, f.ID().String()
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || o.isPinned() {
		return id, err
	}
	code := enroll.Code{Device: key.ID(), Name: hostName()}
	if code.Secret, err = claimSecret(o.state); err != nil {
		return id, err
	}
	code.Addrs = runningAddrs(ctx, o.state)
	id.Code = code.String()
	id.Offer, err = code.Block()
	return id, err
}

// isPinned reports whether the member belongs to a fleet although fleet.cbor is gone.
func (o idOptions) isPinned() bool {
	p, err := readPin(o.state)
	return err != nil || p != pin{}
}

// runningAddrs asks the streembitd that runs with the folder where it listens; none if none runs.
func runningAddrs(ctx context.Context, state string) []string {
	data, err := askStatus(ctx, state)
	var s status
	if err != nil || json.Unmarshal(data, &s) != nil {
		return nil
	}
	return s.Addrs[:min(len(s.Addrs), 16)] // what an offer holds
}

func (id identity) print(w io.Writer, o idOptions) error {
	fmt.Fprintln(w, id.ID)
	if id.ReaderPub != "" {
		fmt.Fprintf(w, "\nreader key: %s, for the hub's grant:\n  streembit fleet grant %s --role hub --name NAME --reader reader.pub\n", id.ReaderPub, id.ID)
	}
	if id.Code == "" {
		_, err := fmt.Fprintf(w, "\nfleet %s %s\n", id.Fleet, id.FleetID)
		return err
	}
	if o.qr {
		fmt.Fprintln(w)
		qrterminal.GenerateWithConfig(id.Code, qrterminal.Config{Level: qrterminal.L, Writer: w, HalfBlocks: true, QuietZone: 3})
	}
	fmt.Fprintf(w, "\nenrolment code (secret):\n  %s\n", id.Code)
	if o.offer {
		_, err := fmt.Fprintf(w, "\n%s", id.Offer)
		return err
	}
	_, err := fmt.Fprintf(w, "\nAn operator takes it into a fleet with\n  streembit enroll approve CODE\nwhile streembitd run is running here.\n")
	return err
}

// defaultState is where the service keeps its state.
const defaultState = "/var/lib/streembit"
