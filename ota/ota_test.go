// SPDX-License-Identifier: Apache-2.0

package ota_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/streembit/edge/ota"
)

func TestVersion(t *testing.T) {
	ordered := []ota.Version{"", "0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.2.0", "1.10.0"}
	for i, a := range ordered {
		if a != "" {
			if v, err := ota.ParseVersion(string(a)); err != nil || v != a {
				t.Errorf("%q: %q, %v", a, v, err)
			}
		}
		for j, b := range ordered {
			want := 0
			if i != j {
				want = map[bool]int{true: -1, false: 1}[i < j]
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%q against %q: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, bad := range []string{"", "1", "1.2", "v1.2.3", "1.2.3+build", "1.02.3", "../1.2.3", "1.2.3/x", "1.2.3-" + string(make([]byte, 70))} {
		if v, err := ota.ParseVersion(bad); err == nil {
			t.Errorf("%q was taken as %q", bad, v)
		}
	}
}

func TestArtifact_Fits(t *testing.T) {
	a := ota.Artifact{Path: "streembitd/1.0.0/linux-arm64", Arch: "arm64"}
	only := a
	only.Boards = []string{"rpi4", "rpi5"}
	for _, c := range []struct {
		a    ota.Artifact
		m    ota.Machine
		fits bool
	}{
		{a, ota.Machine{Arch: "arm64", Board: "rpi3"}, true}, {a, ota.Machine{Arch: "arm64"}, true}, {a, ota.Machine{Arch: "arm"}, false},
		{only, ota.Machine{Arch: "arm64", Board: "rpi4"}, true}, {only, ota.Machine{Arch: "arm64", Board: "rpi3"}, false},
		{only, ota.Machine{Arch: "arm64"}, false}, {only, ota.Machine{Arch: "arm", Board: "rpi4"}, false},
	} {
		if err := c.a.Fits(c.m); (err == nil) != c.fits || err != nil && !errors.Is(err, ota.ErrUnfit) {
			t.Errorf("%v on %v: %v", slices.Clone(c.a.Boards), c.m, err)
		}
	}
}
