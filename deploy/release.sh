#!/usr/bin/env bash
# Builds a release into the directory DIST, which is made anew:
#
#     linux_amd64/presenced …                both commands for each platform, static
#     presence_VERSION_linux_amd64.tar.gz    the same with what is needed to run them
#     presenced_VERSION_linux_amd64.cdx.json what is inside, as CycloneDX: one for each command
#     SHA256SUMS                             of the archives and the bills of materials
#
# From the environment: VERSION, PLATFORMS (pairs such as linux/arm64), DIST, GO, CYCLONEDX.
#
# The same commit gives the same bytes on any machine with GNU tar. Nothing of the machine gets in:
# no paths, no names, no times but that of the commit (SOURCE_DATE_EPOCH, in seconds since 1970).
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VERSION:?}" "${PLATFORMS:?}" "${DIST:?}" "${GO:?}" "${CYCLONEDX:?}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export LC_ALL=C TZ=UTC
if [[ ! $VERSION =~ ^[0-9A-Za-z][0-9A-Za-z.+-]*$ ]]; then
  echo "make release: VERSION is \"$VERSION\": it goes into file names, so give letters, digits, dots, + and -" >&2
  exit 2
fi
if ! tar --version 2>/dev/null | grep -q 'GNU tar'; then
  echo "make release: this tar is not GNU tar, which writes the same archive each time: install it and put it first in PATH" >&2
  exit 2
fi
# Whatever whoever builds has set for himself.
export GOFLAGS="-trimpath -buildvcs=false" GOEXPERIMENT="" GOAMD64=v1 GOARM64=v8.0

known=$("$GO" tool dist list)
for platform in $PLATFORMS; do
  if ! grep -qx "$platform" <<<"$known"; then
    echo "make release: there is no platform \"$platform\": give pairs such as linux/amd64 (go tool dist list)" >&2
    exit 2
  fi
done
# Only what an earlier release made is removed.
if [ -n "$(ls -A "$DIST" 2>/dev/null)" ] && [ ! -e "$DIST/.release" ]; then
  echo "make release: DIST is \"$DIST\", which has other files: name a folder that is empty, or not there" >&2
  exit 2
fi
rm -rf "$DIST"
mkdir -p "$DIST"
touch "$DIST/.release"
for platform in $PLATFORMS; do
  os=${platform%/*} arch=${platform#*/}
  name=presence_${VERSION}_${os}_$arch
  folder=$DIST/${os}_$arch
  echo "$name"
  mkdir "$folder"
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch "$GO" build \
    -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$folder/" ./cmd/...
  for command in presenced presencectl; do
    # -notimestamp, -noserial: both would be others each time.
    "$GO" run "$CYCLONEDX" bin -json -std -notimestamp -noserial -version "$VERSION" \
      -output "$DIST/${command}_${VERSION}_${os}_$arch.cdx.json" "$folder/$command"
  done

  packed=$DIST/$name
  mkdir "$packed"
  cp "$folder"/* README.md CHANGELOG.md cmd/presenced/example/cluster.conf "$packed"
  [ "$os" != linux ] || cp deploy/systemd/presenced.service "$packed"
  tar --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    -C "$DIST" -c "$name" | gzip -n9 >"$DIST/$name.tar.gz"
  rm -r "$packed"
done
(cd "$DIST" && sha256sum ./*.tar.gz ./*.cdx.json | sed 's,\./,,' >SHA256SUMS)
