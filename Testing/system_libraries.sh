#!/usr/bin/env bash
# Qt and VTK draw off screen through a few system libraries that pip cannot bring; install them on Debian, else say which.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

declare -A package_of=(
    [libEGL.so.1]=libegl1 [libEGL_mesa.so.0]=libegl-mesa0 [libGL.so.1]=libgl1 [libfontconfig.so.1]=libfontconfig1
    [libxkbcommon.so.0]=libxkbcommon0 [libdbus-1.so.3]=libdbus-1-3 [libglib-2.0.so.0]=libglib2.0-0
    [libXrender.so.1]=libxrender1 [libX11.so.6]=libx11-6
)
known=$(/sbin/ldconfig -p 2>/dev/null || ldconfig -p)
missing=()
for library in "${!package_of[@]}"; do
    grep -qF "$library" <<<"$known" || missing+=("${package_of[$library]}")
done
find /usr/share/fonts /usr/local/share/fonts -name '*.ttf' 2>/dev/null | grep -q . || missing+=(fonts-dejavu-core)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "The demo and the tests draw off screen and need these packages first: ${missing[*]}" >&2
    exit 1
fi
