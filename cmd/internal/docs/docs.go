// SPDX-License-Identifier: Apache-2.0

// Package docs writes a program's man pages and shell completions, for packages. Programs link it only with the build tag docs.
package docs

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Command writes man/*.1 and the completions of bash, zsh and fish of a program into a folder. The pages' date is that of $SOURCE_DATE_EPOCH.
func Command(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "docs FOLDER", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return write(root, args[0]) },
	}
}

func write(root *cobra.Command, dir string) error {
	man := filepath.Join(dir, "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return fmt.Errorf("docs: %w", err)
	}
	root.DisableAutoGenTag = true
	header := doc.GenManHeader{Section: "1", Source: "Streembit edge " + root.Version, Manual: "Streembit edge"}
	if err := doc.GenManTree(root, &header, man); err != nil {
		return fmt.Errorf("docs: writing man pages: %w", err)
	}
	for shell, generate := range map[string]func(string) error{
		"bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"zsh":  root.GenZshCompletionFile,
		"fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := generate(filepath.Join(dir, root.Name()+"."+shell)); err != nil {
			return fmt.Errorf("docs: writing completions for %s: %w", shell, err)
		}
	}
	return nil
}
