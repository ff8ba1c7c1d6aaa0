#!/bin/sh
# Unpacks nginx and nchan into FOLDER/root: nginx.sh FOLDER
set -eu

"$(dirname "$0")/debian.sh" "$1" nginx libnginx-mod-nchan
# The one place outside: nchan 1.3.6 makes /var/lib/nginx/body whatever it is told, for it takes
# every nchan_message_temp_path for a duplicate.
if ! mkdir -p /var/lib/nginx 2>/dev/null; then
    echo "nchan needs the folder /var/lib/nginx: as root, mkdir /var/lib/nginx" >&2
    exit 3
fi
