#!/bin/sh
# Installs what FOLDER/package.json names into FOLDER/node_modules: npm.sh FOLDER
# 3 is the exit code of what only needs something installed; the last line says what.
set -eu

for tool in node npm; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: install Node.js 20 or newer with npm" >&2
        exit 3
    fi
done
cd "$1"
# Nothing that is downloaded runs at installation.
exec npm install --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error >&2
