// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/streembit/edge/cmd/streembitd/doctor"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// releasesRoot is where the updater keeps the programs.
const releasesRoot = "/opt/streembit"

// updateFindings says how the last update ended, by what the updater has told; nothing where there is no updater.
func updateFindings(root string) []doctor.Finding {
	if _, err := os.Stat(filepath.Join(root, "current")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p, err := slots.ReadOutcome(root)
	if err != nil {
		return []doctor.Finding{{Check: "updates", Level: doctor.Warning, What: err.Error(), Fix: "journalctl -u streembit-updater; the good program runs all the same"}}
	}
	return []doctor.Finding{updateFinding(p)}
}

func updateFinding(p ota.Progress) doctor.Finding {
	f := doctor.Finding{Check: "updates", Level: doctor.OK}
	switch p.Stage {
	case ota.RolledBack:
		f.Level, f.Fix = doctor.Warning, "journalctl -u streembit-updater -u streembitd; release it anew with what was wrong put right"
		f.What = fmt.Sprintf("%s did not stay (%s: %s); %s runs again", p.Wanted, p.Reason, p.Detail, p.Version)
	case ota.Refused:
		f.Level, f.Fix = doctor.Warning, "journalctl -u streembit-updater"
		f.What = fmt.Sprintf("%s was not installed (%s: %s)", p.Wanted, p.Reason, p.Detail)
	case ota.Trying:
		f.Level, f.What = doctor.Note, fmt.Sprintf("%s is on trial", p.Version)
	case ota.Committed:
		f.What = fmt.Sprintf("%s was installed by an update", p.Version)
	default:
		f.What = "none since the program was installed"
	}
	return f
}
