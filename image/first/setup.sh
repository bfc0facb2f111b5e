#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First start of a board: installs what `streembit image` put beside this file, as root. What went wrong stands in setup.log here, which can be
# read on any computer that reads the card. Once all is done, everything but the log is removed. Run again, it begins again.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
exec >>"$here/setup.log" 2>&1

say() { echo "$(date -u '+%Y-%m-%d %H:%M:%S') $*"; }

arch=$(dpkg --print-architecture)
package=
for file in "$here"/*_"$arch".deb; do
	[ -f "$file" ] && package=$file
done
if [ -z "$package" ]; then
	say "no package for $arch here: write the card again with --package streembit_VERSION_$arch.deb"
	exit 1
fi

if [ -f "$here/streembitd.toml" ]; then
	mkdir -p /etc/streembit && cp "$here/streembitd.toml" /etc/streembit/streembitd.toml && chmod 0644 /etc/streembit/streembitd.toml || exit 1
fi

export DEBIAN_FRONTEND=noninteractive
try=1
until dpkg --install "$package"; do # the system's own first updates may hold dpkg's lock
	say "installing $package failed (try $try)"
	[ "$try" -ge 30 ] && exit 1
	try=$((try + 1))
	sleep 10
done
say "$(basename "$package") is installed"

rm -f "$here"/*.deb "$here/streembitd.toml" "$here/setup.sh"
systemctl disable streembit-setup.service 2>/dev/null
rm -f /etc/systemd/system/streembit-setup.service
sync
