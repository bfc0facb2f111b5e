// SPDX-License-Identifier: Apache-2.0

//go:build docs

package main

import (
	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/docs"
)

// withDocs adds the command that writes man pages and completions for the packages; the programs that are shipped do not have it.
func withDocs(root *cobra.Command) *cobra.Command {
	root.AddCommand(docs.Command(root))
	return root
}
