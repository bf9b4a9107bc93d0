# shellcheck shell=sh
# shellcheck disable=SC2154 # place is the script's that sources this
# For findings on Debian 12's packages, which need not be installed: sourced by scripts that have a temporary folder in $place.

# debian PACKAGE...: unpacks them, and what they need and this machine lacks, under $place, and has their programs found before the machine's own.
debian() {
    missing=$(apt-get -s install --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    mkdir -p "$place/packages"
    # shellcheck disable=SC2086
    (cd "$place/packages" && apt-get download -q "$@" $missing >/dev/null 2>"$place/packages/errors") ||
        { cat "$place/packages/errors" >&2 && echo "not downloaded: $*. Is this Debian 12, and has apt-get update been run?" >&2 && exit 1; }
    for package in "$place"/packages/*.deb; do dpkg-deb -x "$package" "$place/debian"; done
    libraries=$place/debian/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo x86_64-linux-gnu)
    export PATH="$place/debian/usr/bin:$place/debian/usr/sbin:$PATH"
    export LD_LIBRARY_PATH="$libraries:$place/debian/lib/${libraries##*/}"
    # GStreamer's elements, in addition to those that the machine has.
    export GST_PLUGIN_PATH="$libraries/gstreamer-1.0" GST_REGISTRY="$place/registry"
}

# version PACKAGE VERSION: ends the script where Debian serves another one.
version() {
    case $(dpkg-deb -f "$place/packages/$1"_*.deb Version) in
        "$2" | "$2"[-+.]*) ;;
        *) echo "$1 is not $2 but $(dpkg-deb -f "$place/packages/$1"_*.deb Version)" >&2 && exit 1 ;;
    esac
}
