#!/bin/sh
# Unpacks Debian packages, and what they need beyond what is installed, into FOLDER/root:
#     debian.sh FOLDER PACKAGE...
# Nothing is installed and no service is started, so root is not needed either.
# 3 is the exit code of what only needs something installed; the last line says what.
set -eu

folder=$1
shift
for tool in apt-get dpkg-deb; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: this needs Debian or Ubuntu" >&2
        exit 3
    fi
done
if ! plan=$(LC_ALL=C apt-get install --simulate --no-install-recommends "$@" 2>&1); then
    echo "no such packages here, try apt-get update: $*" >&2
    exit 3
fi
wanted=$(echo "$plan" | awk '$1 == "Inst" { print $2 }')

rm -rf "$folder/packages" "$folder/root"
mkdir -p "$folder/packages" "$folder/root"
cd "$folder/packages"
if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086 # a word each
    apt-get download --quiet=2 $wanted >&2
    for package in *.deb; do
        dpkg-deb --extract "$package" ../root
    done
fi
