// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/command"
)

// TestPushed_Check: what the device may not be told to become is refused, with the line of the new file; what is harmless is not.
func TestPushed_Check(t *testing.T) {
	const running = `state = "pi"
roles = ["device"]
listen = ["/ip4/127.0.0.1/tcp/0"]
[outbox]
quota = "1MiB"
receipts = "r"
[direct]
reboot = ["reboot"]
[[sensor]]
name = "air"
driver = "bme280"
bus = "i2c-1"
`
	change := func(old, to string) string {
		if !strings.Contains(running, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(running, old, to, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"the same", running, ""},
		{"another interval", running + "interval = \"5s\"\n", ""},
		{"a rule", running + "[[rule]]\nname = \"hot\"\ndo = \"when nothing/temperature > 30 then call nothing\"\n", "d.toml:15: "},
		{"not TOML", change("roles = [", "roles = "), "d.toml:2: "},
		{"unknown key", change("quota", "quotas"), "d.toml:5: "},
		{"wrong type", change(`["/ip4/127.0.0.1/tcp/0"]`, "3"), "d.toml:3: "},
		{"no size", change("1MiB", "much"), "d.toml:5: "},
		{"no durability", change("quota = \"1MiB\"", "durability = \"perhaps\""), "d.toml:5: outbox.durability"},
		{"unknown driver", change("bme280", "bme281"), "d.toml:11: "},
		{"sensor without a name", change("name = \"air\"\n", ""), "d.toml:9: "},
		{"state", change(`"pi"`, `"other"`), "d.toml:1: state: no push can change it"},
		{"roles", change(`["device"]`, `["device", "hub"]`), "d.toml:2: roles: no push"},
		{"tpm", "tpm = \"/dev/x\"\n" + running, "d.toml:1: tpm: no push"},
		{"enrolment", running + "[enroll]\ntoken = \"t\"\n", "d.toml:14: enroll: no push"},
		{"no commands any more", change("[direct]", "[direct]\noff = true"), "d.toml:8: direct.off: no push"},
		{"a program", change(`["reboot"]`, `["sh", "-c", "id"]`), "d.toml:8: direct.reboot: no push"},
		{"a program taken away", change("reboot = [\"reboot\"]\n", ""), "direct.reboot: no push"},
		{"a file", change(`"r"`, `"/etc/passwd"`), "d.toml:6: outbox.receipts: no push"},
		{"empty", "", "state"},
	} {
		err := checkPushed("d.toml", []byte(running), []byte(c.text))
		switch {
		case err == nil && c.want != "", err != nil && c.want == "":
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestPushed_Back: a device is back with a new config when what worked before works again, and no sooner.
func TestPushed_Back(t *testing.T) {
	fine, shut, broken := agent.Health{Sensor: "air", Open: true}, agent.Health{Sensor: "air"}, agent.Health{Sensor: "air", Open: true, Error: "no answer"}
	for _, c := range []struct {
		name        string
		before      command.Standing
		now         agent.Health
		hub, pusher bool
		want        string
	}{
		{"as before", command.Standing{Hub: true}, fine, true, false, ""},
		{"a hub that was not there before", command.Standing{}, fine, true, false, ""},
		{"no hub, as before, and the operator", command.Standing{}, fine, false, true, ""},
		{"no hub, as before, and nobody else", command.Standing{}, fine, false, false, "neither a hub nor anybody"},
		{"the hub is gone", command.Standing{Hub: true}, fine, false, true, "no hub is connected"},
		{"a sensor is not open", command.Standing{Hub: true}, shut, true, true, "sensor air does not work"},
		{"a sensor fails", command.Standing{Hub: true}, broken, true, true, "sensor air does not work: no answer"},
		{"a sensor that failed before, or may", command.Standing{Hub: true, Failing: []string{"air"}}, broken, true, true, ""},
		{"another one may", command.Standing{Hub: true, Failing: []string{"soil"}}, broken, true, true, "sensor air"},
	} {
		if got := missing(c.before, []agent.Health{c.now}, c.hub, c.pusher); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
