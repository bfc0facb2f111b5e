#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Started once, with the kernel's command line of the first start (systemd.run=), which it takes back; then the board starts again.
sed -i 's| systemd\.[^ ]*||g' /boot/firmware/cmdline.txt
rm -f /boot/firmware/firstrun.sh
/bin/sh /boot/firmware/streembit/setup.sh
sync
exit 0
