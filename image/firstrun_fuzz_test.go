// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzFirstRun: whatever stands on a card, the command line stays one line that begins as it did, the script keeps its lines in their order, and doing it
// again changes nothing more.
func FuzzFirstRun(f *testing.F) {
	f.Add("#!/bin/bash\nset +e\nrm -f /boot/firstrun.sh\n", "console=tty1 rootwait systemd.run=/boot/firstrun.sh\n")
	f.Add("", "console=tty1 root=PARTUUID=1-02 rootwait\r\n")
	f.Add("echo no shebang", "systemd.run=\"/boot/firmware/firstrun.sh\"")
	f.Fuzz(func(t *testing.T, script, cmdline string) {
		run, line := firstRun([]byte(script), []byte(cmdline))
		if line == nil {
			return
		}
		was, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(cmdline), "\r", "\n"), "\n")
		if !bytes.HasPrefix(line, []byte(strings.TrimSpace(was))) || bytes.Count(line, []byte("\n")) != 1 || !bytes.Contains(line, []byte("systemd.run=")) {
			t.Errorf("command line %q became %q", cmdline, line)
		}
		if !bytes.Contains(run, []byte("/streembit/setup.sh")) {
			t.Errorf("script %q became %q", script, run)
		}
		if strings.Contains(string(line), strings.TrimSpace(was)+runArgument) {
			return // the script is ours
		}
		if got := strings.Replace(string(run), setupLine, "", 1); got != script && strings.TrimSuffix(got, "\n") != script && !strings.Contains(script, "/streembit/setup.sh") {
			t.Errorf("script %q became %q", script, run)
		}
		if again, _ := firstRun(run, line); !bytes.Equal(again, run) {
			t.Errorf("the second time %q became %q", run, again)
		}
	})
}
