#!/bin/sh
# Installs what package-lock.json says, unless that has been done.
cd "$(dirname "$0")/.." || exit 1
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --prefer-offline --no-progress
