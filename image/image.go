// SPDX-License-Identifier: Apache-2.0

// Package image writes cards for boards: it decides from the kernel's own tables whether a disk may be written at all (Find, Disk.Refuse), writes a
// system image to it and reads it back (Source, Writer), and adds our packages, the config and a claim token, so that the board enrols by itself at its
// first start (Prepare).
//
// File systems are changed by mtools and debugfs, at an offset of the disk: that needs neither root on an image file nor a mount nor a loop device, and
// nothing of the disk's contents is parsed by this process but the partition table (docs/decisions/0044-writing-cards.md).
package image

import "fmt"

// Reason says in one word why a disk is not written.
type Reason string

// The reasons of a Refusal.
const (
	NoDisk    Reason = "no-disk"   // not a block device, or gone
	Partition Reason = "partition" // a part of a disk
	Mapped    Reason = "mapped"    // made by the kernel of others: device mapper, RAID, RAM
	NoMedium  Reason = "no-medium" // an empty card reader
	ReadOnly  Reason = "read-only" // the switch of the card, or of the reader
	System    Reason = "system"    // this machine runs from it
	Mounted   Reason = "mounted"   // a file system of it is in use
	Swap      Reason = "swap"      // this machine swaps to it
	Held      Reason = "held"      // LVM, RAID, encryption or a cache is built on it
	Fixed     Reason = "fixed"     // built in, by all that the kernel says
	Large     Reason = "large"     // larger than cards are
	Small     Reason = "small"     // smaller than the image
	Changed   Reason = "changed"   // another one than was shown
	InUse     Reason = "in-use"    // somebody else has opened it for themselves
)

// Refusal is why a disk is not written, and what to do about it.
type Refusal struct {
	Reason Reason
	Disk   string // its name, for example "sdb"
	Why    string
	Try    string // a command or a few words
}

func (r *Refusal) Error() string { return fmt.Sprintf("image: %s is not written: %s", r.Disk, r.Why) }
