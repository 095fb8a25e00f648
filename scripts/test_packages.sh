#!/bin/sh
# Get what a few tests need that no Python package brings: a browser for the leaderboard's pages, and a set of real images.
# They are installed as root on Debian and its kin. Elsewhere, and where that fails, one line says which tests are skipped
# and how to get them; that is never an error.
set -u

data=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
packages="chromium dataset-fashion-mnist"
for browser in chromium chromium-browser google-chrome chrome; do
    command -v "$browser" >/dev/null && packages="dataset-fashion-mnist"
done
[ -d "$data" ] && packages=${packages%dataset-fashion-mnist}

if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing for the tests: $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >/dev/null 2>&1
    missing=""
    for package in $packages; do
        apt-get install -y -qq --no-install-recommends "$package" </dev/null >/dev/null 2>&1 || missing="$missing $package"
    done
    packages=$missing
fi

tests=""
for package in $packages; do
    case $package in
        chromium) tests="$tests tests/integration/test_cli_leaderboard.py (in part: no Chromium or Chrome)" ;;
        *) tests="$tests tests/real/test_fashion_mnist.py (no $data)" ;;
    esac
done
[ -z "$tests" ] || echo "Tests that are skipped here:$tests. To run them, on Debian: sudo apt-get install -y" $packages >&2
