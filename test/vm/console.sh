#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The console of a guest that systemd runs: carries out the lines that come, as init.sh does in the others.
export PATH=/usr/bin:/usr/sbin:/busybox HOME=/root
/bin/busybox mkdir -p /busybox
/bin/busybox --install -s /busybox
stty -echo
printf '\n@ready\n'
while read -r line; do
	eval "$line" </dev/null
	printf '\n@done %d\n' "$?"
done
