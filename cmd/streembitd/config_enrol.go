// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// enrollConfig is where a device without a fleet looks for one.
type enrollConfig struct {
	Token string   `toml:"token"` // file of a claim token; default: enroll.toml in the state folder and on the boot partition
	Hubs  []string `toml:"hubs"`  // multiaddrs with /p2p/ID of hubs at which approvals may lie
}

// tokenName is the file of a claim token.
const tokenName = "enroll.toml"

// bootPartition lists where card images let people put files before the first start.
func bootPartition() []string {
	return []string{"/boot/firmware/streembit/" + tokenName, "/boot/streembit/" + tokenName}
}

// tokens lists the files in which a claim token may lie, the likeliest first.
func (c *config) tokens() []string {
	if c.Enroll.Token != "" {
		return []string{c.Enroll.Token}
	}
	return append([]string{c.file(tokenName)}, bootPartition()...)
}

// defaultListen is where a hub or a device without a fleet listens if the config does not say.
func defaultListen() []string {
	return []string{"/ip4/0.0.0.0/tcp/32321", "/ip4/0.0.0.0/udp/32321/quic-v1"}
}

func (c *config) checkEnroll() error {
	_, err := parseHubs(c.Enroll.Hubs)
	if err != nil {
		return fmt.Errorf("enroll.hubs: %w", err)
	}
	return nil
}

// parseHubs reads multiaddrs that end in /p2p/ID, several of one hub as one.
func parseHubs(texts []string) ([]fleet.Bootstrap, error) {
	var out []fleet.Bootstrap
	for _, text := range texts {
		addr, name, ok := strings.Cut(text, "/p2p/")
		id, err := edge.ParseID(name)
		if !ok || err != nil || !strings.HasPrefix(addr, "/") {
			return nil, fmt.Errorf("hub %q: want for example /ip4/192.0.2.7/tcp/32321/p2p/12D3KooW…", text)
		}
		hub := fleet.Bootstrap{ID: id, Addrs: []string{addr}}
		if err := hub.Check(); err != nil {
			return nil, fmt.Errorf("hub %q: %w", text, err)
		}
		out = mergeHubs(out, []fleet.Bootstrap{hub})
	}
	return out, nil
}

// mergeHubs adds hubs to others; of one that is in both all addresses count.
func mergeHubs(all, more []fleet.Bootstrap) []fleet.Bootstrap {
	for _, h := range more {
		known := false
		for i := range all {
			if all[i].ID == h.ID {
				all[i].Addrs = append(slices.Clip(all[i].Addrs), h.Addrs...)
				known = true
			}
		}
		if !known {
			all = append(all, h)
		}
	}
	return all
}
