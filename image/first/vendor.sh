#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Started once by cloud-init, as the vendor's script of a new board.
for boot in /boot/firmware /boot; do
	if [ -f "$boot/streembit/setup.sh" ]; then
		/bin/sh "$boot/streembit/setup.sh"
		break
	fi
done
