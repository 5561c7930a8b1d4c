#!/bin/sh
# Installs what `make web-test` drives: MediaPipe's runtime from npm, and a Chromium.
set -e
cd "$(dirname "$0")"

# Succeeds if one of the programs is there, installs Debian's package of the first if not.
need() {
    for program; do
        if command -v "$program" > /dev/null; then return; fi
    done
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    if ! { $sudo apt-get update -qq && $sudo apt-get install -qq -y "$1" > /dev/null; }; then
        echo "make web-test needs $1, which apt-get could not install:" \
            "install it by hand and try again." >&2
        exit 1
    fi
}

need npm
need chromium chromium-browser google-chrome
npm ci
