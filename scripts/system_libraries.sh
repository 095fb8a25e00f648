#!/bin/sh
# Check the system libraries that the wheels of Open3D and OpenCV load. Where some are missing: install them as root on
# Debian and its kin, otherwise print the one command that does and exit with status 1.
set -eu

[ "$(uname -s)" = Linux ] || exit 0

# soname:Debian package
needed="libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libEGL.so.1:libegl1 libX11.so.6:libx11-6 libgomp.so.1:libgomp1
libglib-2.0.so.0:libglib2.0-0 libgthread-2.0.so.0:libglib2.0-0"

known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
libraries=""
packages=""
for pair in $needed; do
    library=${pair%%:*}
    case "$known" in
        *"$library "*) ;;
        *)
            libraries="$libraries $library"
            packages="$packages ${pair#*:}"
            ;;
    esac
done
[ -n "$packages" ] || exit 0
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries:$libraries"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $packages </dev/null
    exit 0
fi
if command -v apt-get >/dev/null; then
    command="sudo apt-get install -y $packages"
elif command -v dnf >/dev/null; then
    command="sudo dnf install -y libusb1 mesa-libGL mesa-libEGL libX11 libgomp glib2"
else
    command="(your package manager) install packages that hold$libraries"
fi
echo "Open3D and OpenCV need system libraries that are missing:$libraries. Install them with: $command" >&2
exit 1
