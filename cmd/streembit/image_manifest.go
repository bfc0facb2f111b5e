// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/image"
)

// manifest is a list of systems for Raspberry Pi Imager (its JSON schema os-list-schema.json).
type manifest struct {
	Systems []manifestEntry `json:"os_list"`
}

type manifestEntry struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	Icon           string   `json:"icon"`
	URL            string   `json:"url"`
	ExtractSize    int64    `json:"extract_size"`
	ExtractSHA256  string   `json:"extract_sha256"`
	DownloadSize   int64    `json:"image_download_size"`
	DownloadSHA256 string   `json:"image_download_sha256"`
	ReleaseDate    string   `json:"release_date"`
	InitFormat     string   `json:"init_format"`
	Devices        []string `json:"devices,omitempty"`
}

func newImageManifest(a *app) *cobra.Command {
	var e manifestEntry
	var names []string
	cmd := &cobra.Command{
		Use:   "manifest IMAGE --url URL",
		Short: "Write the list by which Raspberry Pi Imager offers an image that was prepared here",
		Long: `Reads an image, packed or not, and prints the list (os_list) for Raspberry Pi Imager: rpi-imager --repo FILE. So one prepared image becomes many cards on any
computer. Imager's own settings are switched off for it (init_format none): they would replace the first start that streembit image prepared.`,
		Example: "  streembit image flash raspios.img.xz card.img --package FILE.deb --token enroll.toml && xz card.img\n" +
			"  streembit image manifest card.img.xz --url file:///srv/images/card.img.xz --board rpi4 >os_list.json",
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := need(cmd, "card.img.xz --url file:///srv/images/card.img.xz", "url"); err != nil {
				return err
			}
			for _, name := range names {
				b, err := findBoard(name)
				if err != nil {
					return err
				}
				tag := imagerTag(b.ID)
				if tag == "" {
					return cli.Try(cli.Usagef("--board %s: Raspberry Pi Imager knows Raspberry Pis only", name), "streembit image flash, for this board")
				}
				e.Devices = append(e.Devices, tag)
			}
			if err := e.measure(args[0]); err != nil {
				return err
			}
			return cli.PrintJSON(a.out, manifest{[]manifestEntry{e}})
		},
	}
	e.InitFormat = "none"
	fl := cmd.Flags()
	fl.StringVar(&e.URL, "url", "", "`address` from which Imager gets IMAGE: https://… or file:///…")
	fl.StringVar(&e.Name, "name", "Streembit gateway", "`name` in Imager's list")
	fl.StringVar(&e.Description, "description", "Sensor gateway that enrols by itself", "`text` below the name")
	fl.StringVar(&e.Icon, "icon", "", "`address` of a picture of 40 by 40 pixels")
	fl.StringSliceVar(&names, "board", nil, "`board` for which Imager offers it (may be repeated); none: for all")
	return cmd
}

// imagerTag is Imager's name of a board's kind; "" = it knows none. A Zero 2 counts as a Pi 3, whose processor it has.
func imagerTag(id string) string {
	return map[string]string{"rpi-1-rev1": "pi1-32bit", "rpi-1": "pi1-32bit", "rpi-1-plus": "pi1-32bit", "rpi-2": "pi2-32bit", "rpi-zero-2": "pi3-64bit",
		"rpi-3": "pi3-64bit", "rpi-4": "pi4-64bit", "rpi-5": "pi5-64bit"}[id]
}

// measure reads the image twice: as it is, and unpacked.
func (e *manifestEntry) measure(path string) (err error) {
	src, err := image.OpenSource(path)
	if err != nil {
		return cli.Try(cli.Usage(err), "an image that streembit image flash has made")
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	unpacked := sha256.New()
	if e.ExtractSize, err = io.Copy(unpacked, src); err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	defer f.Close()
	packed := sha256.New()
	if e.DownloadSize, err = io.Copy(packed, f); err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	e.ExtractSHA256, e.DownloadSHA256 = hex.EncodeToString(unpacked.Sum(nil)), hex.EncodeToString(packed.Sum(nil))
	e.ReleaseDate = info.ModTime().UTC().Format(time.DateOnly)
	if !strings.Contains(e.URL, "://") {
		return cli.Try(cli.Usagef("--url %q: want https:// or file://", e.URL), "--url file://%s", cli.Quote(absolute(path)))
	}
	return nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
