// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// MaxCard is the size above which a disk is taken for somebody's data rather than for a card, in bytes.
const MaxCard = 256 << 30

// Allow is what a person has said to be meant although it is unusual.
type Allow struct {
	Fixed bool // a disk that is built in, or a loop device
	Large bool // more than MaxCard
}

// virtualDisk matches what no image belongs on, by the kernel's names; hardware matches the parts of an eMMC that are no disks.
var (
	virtualDisk = regexp.MustCompile(`^(dm-|md|ram|zram|sr|fd|nbd|drbd|rbd|bcache|zd)[0-9]`)
	emmcArea    = regexp.MustCompile(`^mmcblk[0-9]+(boot|gp|rpmb)`)
)

// Refuse returns why the disk must not be written with an image of need bytes (0 = not known yet), as a *Refusal, or nil. Nothing that this machine
// uses is ever allowed, whatever allow says.
func (d Disk) Refuse(need int64, allow Allow) error {
	refuse := func(r Reason, try, format string, args ...any) error {
		return &Refusal{r, d.Name, fmt.Sprintf(format, args...), try}
	}
	switch {
	case !d.Whole:
		return refuse(Partition, "the whole disk: lsblk shows its name", "it is a partition, not a disk")
	case virtualDisk.MatchString(d.Name) || emmcArea.MatchString(d.Name) || d.Bus == "virtual":
		return refuse(Mapped, "lsblk -d -o NAME,MODEL,SIZE,TRAN shows the disks that can be meant", "it is no disk that a board could start from")
	}
	if err := d.refuseUsed(refuse); err != nil {
		return err
	}
	switch {
	case d.Size == 0:
		return refuse(NoMedium, "insert a card", "there is no card in it")
	case d.ReadOnly:
		return refuse(ReadOnly, "move the lock switch of the card or its adapter", "it is write protected")
	case !d.portable() && !allow.Fixed:
		return refuse(Fixed, "the name of a USB disk or card; if this one is meant all the same: --allow-fixed", "it is built in (neither USB nor a card)")
	case d.Size > MaxCard && !allow.Large:
		return refuse(Large, "the name of a card; if this one is meant all the same: --allow-large", "it holds %s, more than a card usually does", Bytes(d.Size))
	case need > d.Size:
		return refuse(Small, "a larger card", "the image has %s, the disk only %s", Bytes(need), Bytes(d.Size))
	}
	return nil
}

// refuseUsed says what of the disk is in use.
func (d Disk) refuseUsed(refuse func(Reason, string, string, ...any) error) error {
	for _, p := range d.Parts {
		if i := slices.IndexFunc(p.Mounts, ofSystem); i >= 0 {
			return refuse(System, "another disk", "this machine runs from it: %s is mounted on %s", p.Name, p.Mounts[i])
		}
	}
	for _, p := range d.Parts {
		switch {
		case p.Swap:
			return refuse(Swap, "another disk", "this machine swaps to %s", p.Name)
		case len(p.Holders) > 0:
			return refuse(Held, "another disk; lsblk shows what is built on this one", "%s is built on %s", strings.Join(p.Holders, ", "), p.Name)
		case len(p.Mounts) > 0:
			return refuse(Mounted, "umount "+p.Mounts[0], "%s is mounted on %s", p.Name, strings.Join(p.Mounts, ", "))
		}
	}
	return nil
}

// ofSystem reports whether a mount point belongs to the running system.
func ofSystem(at string) bool {
	for _, dir := range []string{"/boot", "/usr", "/home", "/var", "/etc", "/opt", "/root", "/srv", "/nix"} {
		if at == dir || strings.HasPrefix(at, dir+"/") {
			return true
		}
	}
	return at == "/"
}

// portable reports whether a person can take the disk out: USB, a card, or what the kernel calls removable.
func (d Disk) portable() bool {
	return d.Bus == "usb" || d.Bus == "sd" || d.Bus == "other" && d.Removable
}

// Same returns a *Refusal unless other is the disk that was shown to a person: same name and number, model, serial, size, and the same medium in it.
func (d Disk) Same(other Disk) error {
	for _, f := range [...]struct{ what, was, is string }{
		{"name", d.Name, other.Name}, {"number", d.Number, other.Number}, {"model", d.Model, other.Model}, {"serial", d.Serial, other.Serial},
		{"size", Bytes(d.Size), Bytes(other.Size)}, {"medium", d.Sequence, other.Sequence},
	} {
		if f.was != f.is {
			return &Refusal{Changed, path.Base(d.Name), fmt.Sprintf("it was changed since it was shown: %s %q is now %q", f.what, f.was, f.is), "the same command again"}
		}
	}
	if d.Size != other.Size {
		return &Refusal{Changed, d.Name, "it was changed since it was shown", "the same command again"}
	}
	return nil
}

// Bytes writes a size as makers of cards count: 1 GB = 10^9 bytes.
func Bytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}
