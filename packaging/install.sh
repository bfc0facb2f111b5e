#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs streembitd from the tar file of a release, on a system with systemd and without dpkg; run as root in the folder that was unpacked. Run again with
# a newer one it upgrades. sh install.sh --remove takes the programs away, and leaves /etc/streembit and /var/lib/streembit.
set -eu
cd "$(dirname "$0")"
units="streembitd.service streembit-updater.service streembit-updater.path streembit-claim.service"

[ "$(id -u)" = 0 ] || { echo "install.sh: root is needed: sudo sh install.sh" >&2; exit 1; }
if command -v dpkg >/dev/null; then
	echo "install.sh: this system has dpkg: install the package streembitd_VERSION_ARCH.deb instead" >&2
	exit 1
fi

if [ "${1:-}" = --remove ]; then
	systemctl disable --now $units || true
	for file in $(cd root && find . -type f -o -type l); do rm -f "/$file"; done
	rm -rf /usr/lib/systemd/system/streembitd.service.d /opt/streembit/releases /opt/streembit/current /opt/streembit/good
	systemctl daemon-reload
	exit
fi

cp -R --no-preserve=ownership root/. /
systemd-sysusers streembit.conf
install -d -m 0700 -o streembit -g streembit /var/lib/streembit
install -d -m 0750 -o streembit -g streembit /etc/streembit
[ -e /etc/streembit/streembitd.toml ] || install -m 0640 -o streembit -g streembit /usr/share/streembit/streembitd.toml /etc/streembit/streembitd.toml
status=0
/usr/lib/streembit/streembit-updater upgrade "$(cat version)" /usr/lib/streembit/streembitd || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status" # 3: a newer one is in place, and stays
systemctl daemon-reload
systemctl enable $units
systemctl start streembit-updater.path
systemctl restart streembitd.service
echo "streembitd is ready: streembitd status, streembitd doctor"
