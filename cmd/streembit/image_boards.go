// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/cmd/internal/cli"
)

// boardAdvice says what a card for a board is made of.
type boardAdvice struct {
	Board   string `json:"board"`   // for --board and make flash BOARD=
	Package string `json:"package"` // architecture of the package
	System  string `json:"system"`  // the image to write
	Name    string `json:"name"`
}

func newImageBoards(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "boards [BOARD]",
		Short: "List the boards, and which package and which system image a card for each is made of",
		Args:  cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			list := boards.All()
			if len(args) > 0 {
				b, err := findBoard(args[0])
				if err != nil {
					return err
				}
				list = []boards.Board{b}
			}
			all := make([]boardAdvice, 0, len(list))
			for _, b := range list {
				all = append(all, boardAdvice{strings.ReplaceAll(b.ID, "-", ""), architectures(b)[0], systemFor(b), b.Name})
			}
			if asJSON {
				return cli.PrintJSON(a.out, all)
			}
			t := cli.NewTable(a.out)
			t.Row("BOARD", "PACKAGE", "SYSTEM", "NAME")
			for _, b := range all {
				t.Row(b.Board, b.Package, b.System, b.Name)
			}
			t.Flush()
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// systemFor names the system image that is known to drive a board's header.
func systemFor(b boards.Board) string {
	switch {
	case strings.HasPrefix(b.ID, "rpi-") && b.GOARCH == "arm64":
		return "Raspberry Pi OS Lite, 64-bit"
	case strings.HasPrefix(b.ID, "rpi-"):
		return "Raspberry Pi OS Lite, 32-bit"
	case strings.HasPrefix(b.ID, "beagle"):
		return "BeagleBoard's Debian"
	case b.GOARCH == "amd64":
		return "Debian, by its installer; then the package"
	}
	return "Armbian"
}
