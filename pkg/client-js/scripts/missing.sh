#!/bin/sh
# Prints what this machine lacks for "make js", in words; nothing where it has all.
if ! command -v node >/dev/null; then
  echo "node"
elif ! node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))'; then
  echo "node 20 or later, but $(node --version)"
elif ! command -v npm >/dev/null; then
  echo "npm"
elif [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
  echo "${CHROMIUM:-/usr/bin/chromium}"
elif ! command -v openssl >/dev/null; then
  echo "openssl"
fi
