#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process of a guest: loads the modules, then carries out the lines that come on the console, one after another, and
# ends the output of each with "@done STATUS".
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
stty -echo
while read -r module; do insmod "/modules/$module" || echo "@module $module"; done </modules/order
printf '\n@ready\n'
while read -r line; do
	eval "$line" </dev/null
	printf '\n@done %d\n' "$?"
done
