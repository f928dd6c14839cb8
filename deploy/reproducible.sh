#!/usr/bin/env bash
# Builds the release of this tree into DIST, as release.sh does, and another one of a copy in
# another folder, with another umask and time zone. Fails where their checksums differ.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
deploy/release.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard --deduplicate | tar -c --null --files-from=- | tar -x -C "$copy"
echo "once more, in another folder"
(
  umask 077
  cd "$copy"
  TZ=Asia/Tokyo DIST=dist deploy/release.sh
)
diff "$DIST/SHA256SUMS" "$copy/dist/SHA256SUMS" && echo "Both are the same."
