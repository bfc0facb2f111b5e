// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"errors"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/streembit/edge/image"
)

// machine is /sys and /proc of a PC with a built-in disk (sda: /boot on sda1, LVM on sda2 with root, swap on sda3), a USB stick (sdb), a card (mmcblk0) and more.
func machine() fstest.MapFS {
	const host = "devices/pci0000:00"
	m := fstest.MapFS{
		"proc/self/mountinfo": file("22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n" +
			"30 22 8:1 / /boot rw - ext4 /dev/sda1 rw\n31 22 0:5 / /proc rw - proc proc rw\n"),
		"proc/swaps": file("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda3                               partition\t999\t0\t-2\n"),
	}
	disk(m, "sda", "8:0", host+"/ata1/host0/target0:0:0/0:0:0:0/block/sda", 1000215216, map[string]string{"device/model": "Samsung SSD 860", "removable": "0"})
	partition(m, host+"/ata1/host0/target0:0:0/0:0:0:0/block/sda", "sda1", "8:1")
	partition(m, host+"/ata1/host0/target0:0:0/0:0:0:0/block/sda", "sda2", "8:2")
	m["sys/"+host+"/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda2/holders/dm-0"] = file("")
	partition(m, host+"/ata1/host0/target0:0:0/0:0:0:0/block/sda", "sda3", "8:3")
	const stick = host + "/0000:00:14.0/usb2/2-1/2-1:1.0/host4/target4:0:0/4:0:0:0/block/sdb"
	disk(m, "sdb", "8:16", stick, 62333952, map[string]string{"device/vendor": "SanDisk ", "device/model": "Ultra\x1b[31m  ", "removable": "1", "diskseq": "9"})
	m["sys/"+host+"/0000:00:14.0/usb2/2-1/serial"] = file("4C53000123\n")
	partition(m, stick, "sdb1", "8:17")
	disk(m, "mmcblk0", "179:0", host+"/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", 62333952, map[string]string{"device/type": "SD", "device/name": "SC32G", "device/serial": "0x1234"})
	disk(m, "mmcblk1", "179:8", host+"/mmc_host/mmc1/mmc1:0001/block/mmcblk1", 30535680, map[string]string{"device/type": "MMC", "device/name": "BJTD4R"})
	disk(m, "mmcblk1boot0", "179:16", host+"/mmc_host/mmc1/mmc1:0001/block/mmcblk1/mmcblk1boot0", 8192, map[string]string{"device/type": "MMC"})
	disk(m, "dm-0", "254:0", "devices/virtual/block/dm-0", 900000000, nil)
	disk(m, "md0", "9:0", "devices/virtual/block/md0", 900000000, nil)
	disk(m, "loop0", "7:0", "devices/virtual/block/loop0", 131072, nil)
	disk(m, "nvme0n1", "259:0", host+"/nvme/nvme0/nvme0n1", 1000215216, nil)
	disk(m, "sdc", "8:32", host+"/0000:00:14.0/usb2/2-2/2-2:1.0/host5/block/sdc", 0, map[string]string{"removable": "1"})
	disk(m, "sdd", "8:48", host+"/0000:00:14.0/usb2/2-3/2-3:1.0/host6/block/sdd", 3907029168, nil)
	return m
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o444} }

// disk adds a whole disk of so many sectors of 512 bytes at a place below /sys.
func disk(m fstest.MapFS, name, number, place string, sectors int64, attributes map[string]string) {
	m["sys/dev/block/"+number] = link("../../" + place)
	m["sys/class/block/"+name] = link("../../" + place)
	m["sys/"+place+"/dev"] = file(number + "\n")
	m["sys/"+place+"/size"] = file(strconv.FormatInt(sectors, 10) + "\n")
	for key, value := range attributes {
		m["sys/"+place+"/"+key] = file(value + "\n")
	}
}

func partition(m fstest.MapFS, place, name, number string) {
	m["sys/dev/block/"+number] = link("../../" + place + "/" + name)
	m["sys/class/block/"+name] = link("../../" + place + "/" + name)
	m["sys/"+place+"/"+name+"/partition"] = file("1\n")
	m["sys/"+place+"/"+name+"/dev"] = file(number + "\n")
	m["sys/"+place+"/"+name+"/size"] = file("2048\n")
}

func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

// Each refusal, by what the kernel says; and what a person can allow.
func TestRefuse(t *testing.T) {
	all := image.Allow{Fixed: true, Large: true}
	for name, c := range map[string]struct {
		change       func(fstest.MapFS)
		major, minor uint32
		need         int64
		allow        image.Allow
		want         image.Reason
		says         string
	}{
		"usb stick":               {nil, 8, 16, 4e9, image.Allow{}, "", ""},
		"card":                    {nil, 179, 0, 4e9, image.Allow{}, "", ""},
		"no such disk":            {nil, 9, 99, 0, all, image.NoDisk, "no such disk"},
		"partition":               {nil, 8, 17, 0, all, image.Partition, "a partition"},
		"mapped":                  {nil, 254, 0, 0, all, image.Mapped, "no disk"},
		"raid":                    {nil, 9, 0, 0, all, image.Mapped, "no disk"},
		"area of an emmc":         {nil, 179, 16, 0, all, image.Mapped, "no disk"},
		"empty reader":            {nil, 8, 32, 0, all, image.NoMedium, "no card"},
		"write protected":         {set("mmcblk0", "ro", "1"), 179, 0, 0, all, image.ReadOnly, "write protected"},
		"emmc":                    {nil, 179, 8, 0, image.Allow{}, image.Fixed, "built in"},
		"emmc that is meant":      {nil, 179, 8, 0, image.Allow{Fixed: true}, "", ""},
		"loop device":             {nil, 7, 0, 0, image.Allow{}, image.Fixed, "built in"},
		"nvme":                    {nil, 259, 0, 0, image.Allow{}, image.Fixed, "built in"},
		"nvme that is meant":      {nil, 259, 0, 0, image.Allow{Fixed: true}, image.Large, "512.1 GB"},
		"usb disk of 2 TB":        {nil, 8, 48, 0, image.Allow{}, image.Large, "2000.4 GB, more than a card"},
		"it is meant":             {nil, 8, 48, 0, image.Allow{Large: true}, "", ""},
		"image too large":         {nil, 8, 16, 32e9, all, image.Small, "the image has 32.0 GB, the disk only 31.9 GB"},
		"mounted /boot":           {nil, 8, 0, 0, all, image.System, "sda1 is mounted on /boot"},
		"mounted stick":           {mount("8:17", "/media/me/my\\040stick", "/dev/sdb1"), 8, 16, 0, all, image.Mounted, "sdb1 is mounted on /media/me/my stick"},
		"mounted whole":           {mount("8:16", "/mnt", "/dev/sdb"), 8, 16, 0, all, image.Mounted, "sdb is mounted on /mnt"},
		"mounted as the system":   {mount("179:0", "/", "/dev/root"), 179, 0, 0, all, image.System, "runs from it"},
		"mounted btrfs":           {mount("0:44", "/home", "/dev/sdb1"), 8, 16, 0, all, image.System, "sdb1 is mounted on /home"},
		"swap":                    {swap("/dev/sdb1"), 8, 16, 0, all, image.Swap, "swaps to sdb1"},
		"lvm, raid or encryption": {hold, 8, 16, 0, all, image.Held, "dm-7 is built on sdb1"},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			if c.change != nil {
				c.change(m)
			}
			d, err := image.Find(m, c.major, c.minor)
			if err == nil {
				err = d.Refuse(c.need, c.allow)
			}
			r, ok := errors.AsType[*image.Refusal](err)
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("got %v, want no refusal", err)
			case c.want != "" && (!ok || r.Reason != c.want || !strings.Contains(r.Error(), c.says) || r.Try == ""):
				t.Fatalf("got %v (%+v), want %s with %q and what to try", err, r, c.want, c.says)
			}
		})
	}
}

func set(disk, attribute, value string) func(fstest.MapFS) {
	return func(m fstest.MapFS) {
		place := strings.TrimPrefix(string(m["sys/class/block/"+disk].Data), "../../")
		m["sys/"+place+"/"+attribute] = file(value + "\n")
	}
}

func mount(number, at, source string) func(fstest.MapFS) {
	return func(m fstest.MapFS) {
		f := m["proc/self/mountinfo"]
		f.Data = append(f.Data, "40 22 "+number+" /sub "+at+" rw shared:4 master:1 - vfat "+source+" rw\n"...)
	}
}

func swap(path string) func(fstest.MapFS) {
	return func(m fstest.MapFS) {
		f := m["proc/swaps"]
		f.Data = append(f.Data, path+" partition 1 0 -3\n"...)
	}
}

func hold(m fstest.MapFS) {
	place := strings.TrimPrefix(string(m["sys/class/block/sdb1"].Data), "../../")
	m["sys/"+place+"/holders/dm-7"] = file("")
}

// What cannot be read is not written: a table that is missing or makes no sense refuses everything.
func TestFind_UnreadableTablesAreErrors(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"no mounts":   func(m fstest.MapFS) { delete(m, "proc/self/mountinfo") },
		"no swaps":    func(m fstest.MapFS) { delete(m, "proc/swaps") },
		"odd mounts":  func(m fstest.MapFS) { m["proc/self/mountinfo"] = file("1 2 3\n") },
		"long mounts": func(m fstest.MapFS) { m["proc/self/mountinfo"] = file(strings.Repeat("x", 5<<20)) },
	} {
		m := machine()
		change(m)
		if d, err := image.Find(m, 8, 16); err == nil {
			t.Errorf("%s: found %+v", name, d)
		}
	}
}

func TestFind_ShowsWhatAPersonNeeds(t *testing.T) {
	d, err := image.Find(machine(), 8, 16)
	if err != nil {
		t.Fatal(err)
	}
	want := image.Disk{Name: "sdb", Number: "8:16", Model: "SanDisk Ultra[31m", Serial: "4C53000123", Bus: "usb", Size: 62333952 * 512, Whole: true, Removable: true,
		Sequence: "9", Parts: []image.Part{{Name: "sdb", Number: "8:16", Size: 62333952 * 512}, {Name: "sdb1", Number: "8:17", Size: 1 << 20}}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got\n%+v\nwant\n%+v", d, want)
	}
}

// A disk that was swapped for another while the person typed is refused.
func TestSame(t *testing.T) {
	d, err := image.Find(machine(), 8, 16)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Same(d); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*image.Disk){
		"name": func(d *image.Disk) { d.Name = "sdc" }, "number": func(d *image.Disk) { d.Number = "8:32" }, "model": func(d *image.Disk) { d.Model = "other" },
		"serial": func(d *image.Disk) { d.Serial = "other" }, "size": func(d *image.Disk) { d.Size++ }, "medium": func(d *image.Disk) { d.Sequence = "10" },
	} {
		other := d
		change(&other)
		r, ok := errors.AsType[*image.Refusal](d.Same(other))
		if !ok || r.Reason != image.Changed {
			t.Errorf("%s: got %v, want a refusal", name, r)
		}
	}
}

// FuzzFind: whatever a device calls itself and the tables say, a disk that is mounted by its number is never allowed.
func FuzzFind(f *testing.F) {
	f.Add("Model", "22 1 8:17 / /mnt rw - vfat /dev/sdb1 rw\n", "/dev/sda3 partition\n")
	f.Fuzz(func(t *testing.T, model, mounts, swaps string) {
		m := machine()
		set("sdb", "device/model", model)(m)
		m["proc/self/mountinfo"].Data = append(m["proc/self/mountinfo"].Data, mounts...)
		m["proc/swaps"].Data = append(m["proc/swaps"].Data, swaps...)
		d, err := image.Find(m, 8, 16)
		if err != nil {
			return
		}
		if strings.ContainsFunc(d.Model, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("model %q", d.Model)
		}
		if strings.HasPrefix(mounts, "22 1 8:17 / /mnt ") && d.Refuse(0, image.Allow{Fixed: true, Large: true}) == nil {
			t.Errorf("mounted, and allowed: %q", mounts)
		}
	})
}
