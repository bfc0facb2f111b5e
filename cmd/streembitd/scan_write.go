// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/sensors"
	"github.com/streembit/edge/sensors/all"
)

// entries writes config entries for what the config does not have yet: ready ones for what is certain, commented ones for the rest. It adds none
// twice, because each comment says its place.
func (s *scanned) entries(cfg *config) string {
	var b strings.Builder
	taken := map[string]bool{}
	for _, c := range cfg.Sensors {
		taken[c.Name] = true
	}
	for _, c := range s.I2C {
		place := fmt.Sprintf("# %s address %s: ", c.key, c.Addr)
		head := place + c.words()
		if c.Configured != "" || len(c.Drivers) == 0 || strings.Contains(string(cfg.text), place) {
			continue
		}
		entry := entry(taken, c.Drivers[0], fmt.Sprintf("bus = %q\naddr = %s\n", c.key, c.Addr))
		if c.Verdict != verdictIs {
			head += ": make sure which, then remove the # below"
			entry = "# " + strings.ReplaceAll(strings.TrimSuffix(entry, "\n"), "\n", "\n# ") + "\n"
		}
		fmt.Fprintf(&b, "\n%s\n%s", head, entry)
	}
	for _, c := range s.OneWire {
		if c.Configured == "" && c.Driver != "" {
			fmt.Fprintf(&b, "\n# %s %s: is a %s\n%s", c.Master, c.ID, c.Driver,
				entry(taken, c.Driver, fmt.Sprintf("options = { %s = %q }\n", slaveOption, c.ID)))
		}
	}
	return b.String()
}

// usualInterval is what an entry gets, unless the chip is slower.
const usualInterval = 10 * time.Second

// entry writes one [[sensor]] with a name that nobody has.
func entry(taken map[string]bool, driver, place string) string {
	name := ""
	for n := 0; name == "" || taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", driver, n)
	}
	taken[name] = true
	every := usualInterval
	if i := slices.IndexFunc(all.Drivers(), func(d sensors.Driver) bool { return d.Name == driver }); i >= 0 {
		every = max(every, all.Drivers()[i].Fastest)
	}
	return fmt.Sprintf("[[sensor]]\nname = %q\ndriver = %q\n%sinterval = %q\n", name, driver, place, every)
}

// appendEntries puts entries at the end of the config file, whole or not at all; what is there stays as it is. The new file is tried before it takes the
// place of the old one, and keeps its mode and owner.
func appendEntries(path string, entries string) error {
	if entries == "" {
		return nil
	}
	path, err := filepath.EvalSymlinks(path) // a link stays a link
	if err != nil {
		return fmt.Errorf("writing config: %w", err)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("writing config: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("writing config: %w", err)
	}
	text := string(old)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if _, err := parseConfig(path, []byte(text+entries)); err != nil {
		return cli.Try(fmt.Errorf("nothing was written, because with the new entries the config would be wrong: %w", err),
			"add the entries that streembitd sensors scan prints by hand")
	}
	if err := fleet.WriteFile(path, []byte(text+entries), info.Mode().Perm()); err != nil {
		return cli.Try(errors.Join(errors.New("writing config"), err), "the same command as a user who may write there")
	}
	return keepOwner(path, info)
}

// keepOwner gives the new file to whom the old one belonged: root may scan, and the service must still read its config.
func keepOwner(path string, old fs.FileInfo) error {
	owner, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := os.Lchown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("writing config: giving it back to its owner: %w", err)
	}
	return nil
}
