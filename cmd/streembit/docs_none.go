// SPDX-License-Identifier: Apache-2.0

//go:build !docs

package main

import "github.com/spf13/cobra"

func withDocs(root *cobra.Command) *cobra.Command { return root }
