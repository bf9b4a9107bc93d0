#!/bin/sh
# fresh.sh RELEASE HOST_CONFIG TRIAL...: what `./dev fresh` does, as root and in namespaces of its own. Out: a row a trial in
# target/fresh/RELEASE.md, its log beside it, and an exit code: 0 only if each trial ended well or with a line that says what to do, as it must.
set -eu
cd "$(dirname "$0")/.."
release=$1 host_config=$2
shift 2
case $release in
    12) name=bookworm clang_cpp=libclang-cpp14 ;;
    13) name=trixie clang_cpp=libclang-cpp19 ;;
esac
place=$PWD/target/fresh
base=$place/$release.tar
root=$place/root
mkdir -p "$place"
# What is mounted for a trial ends with this namespace.
mount --make-rprivate /

fail() {
    echo "fresh: $*" >&2
    exit 1
}

debian() {
    [ -f "$base" ] && return
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)
    [ -n "$mirror" ] || fail "no package lists: \"apt-get update\", then this again"
    echo "Debian $release in $base (minutes, once)"
    mmdebstrap --quiet --format=tar --variant=minbase --include=ca-certificates,git --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        "$name" "$base.new" "$mirror"
    mv "$base.new" "$base"
}

# A root with a clone of what is committed, for `root` or for a user; both homes are empty.
unpack() {
    rm -rf --one-file-system "$root" "$place/changes" "$place/work"
    mkdir -p "$root"
    tar -C "$root" -xf "$base"
    for folder in dev sys; do mount --rbind "/$folder" "$root/$folder"; done
    mount -t proc proc "$root/proc" # this namespace's processes: the machine's own would have other numbers
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    chroot "$root" useradd -m -s /bin/sh somebody
    git clone -q --no-local . "$root/srv/fcam"
    chown -R "$(stat -c %u:%g "$root/home/somebody")" "$root/srv/fcam"
    [ "$host_config" = no ] || configure
}

pack() {
    for folder in opt/rustup dev proc sys; do
        ! mountpoint -q "$root/$folder" || umount -l "$root/$folder"
    done
    rm -rf --one-file-system "$root" "$place/changes" "$place/work"
}

# This machine's way to package registries, and its Rust toolchain.
configure() {
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    grep -l '^Acquire' /etc/apt/apt.conf.d/* | while read -r file; do cp "$file" "$root/etc/apt/apt.conf.d/"; done
    for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
        if [ -f "$file" ]; then cp "$file" "$root/etc/pip.conf"; fi
    done
    for home in root home/somebody; do
        mkdir -p "$root/$home/.cargo/bin"
        for program in rustup cargo rustc rustdoc cargo-fmt cargo-clippy rustfmt clippy-driver; do
            [ ! -e "$CARGO_HOME/bin/rustup" ] || cp "$CARGO_HOME/bin/rustup" "$root/$home/.cargo/bin/$program"
        done
        [ ! -f "$CARGO_HOME/config.toml" ] || cp "$CARGO_HOME/config.toml" "$root/$home/.cargo/"
        chown -R "$(stat -c %u:%g "$root/$home")" "$root/$home/.cargo"
    done
    lend_rust
}

# The toolchains lie under the trial's own changes, which are thrown away. Links between them must not lead out of the root.
lend_rust() {
    [ -d "$RUSTUP_HOME/toolchains" ] || return 0
    mkdir "$root/opt/rustup" "$place/changes" "$place/work"
    mount -t overlay -o "lowerdir=$RUSTUP_HOME,upperdir=$place/changes,workdir=$place/work" overlay "$root/opt/rustup"
    for toolchain in "$root"/opt/rustup/toolchains/*; do
        [ ! -h "$toolchain" ] || ln -sfn "$(basename "$(readlink "$toolchain")")" "$toolchain"
    done
    chmod -R a+rwX "$root/opt/rustup/tmp" 2>/dev/null || true
    chmod a+rwx "$root/opt/rustup"
}

# What of this machine's environment says how to reach registries.
lent() {
    [ "$host_config" = yes ] || return 0
    env | grep -E '^([a-z]+_proxy|[A-Z]+_PROXY|PIP_[A-Z_]+|SSL_CERT_[A-Z]+|[A-Z]+_CA_BUNDLE|CARGO_(HTTP|NET|REGISTR)[A-Z_]*)=' || true
    echo RUSTUP_HOME=/opt/rustup
}

# as USER COMMAND: in the clone, with nothing of this machine's environment but what is lent.
as() {
    who=$1 home=/root
    [ "$who" = root ] || home=/home/$who
    # shellcheck disable=SC2046
    chroot --userspec="$who" "$root" env -i HOME="$home" USER="$who" LANG=C.UTF-8 $(lent) \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /srv/fcam && $2"
}

install() { as root "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $*" >/dev/null; }

sudoer() {
    install sudo
    who=somebody
    echo 'somebody ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/somebody"
}

old_python() {
    install python3
    printf '%s\n' '#!/bin/sh' 'case $1 in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac' >"$root/usr/local/bin/python3"
    chmod +x "$root/usr/local/bin/python3"
}

# Sets what gets in the way, then who does what in `who` and `does`, and whether that ends well, with a line, or either.
prepare() {
    who=root must=well
    case $1 in
        demo | test) does="./dev $1" ;;
        demo-sudo | test-sudo)
            sudoer
            does="./dev ${1%-sudo}"
            ;;
        libclang-cpp)
            install "$clang_cpp"
            does="./dev ready docs && PATH=\$HOME/.cargo/bin:\$PATH cargo build --locked -p v4l2-sys-mit"
            ;;
        old-rustc)
            install rustc cargo
            must=either does="./dev ready docs"
            ;;
        old-python)
            old_python
            must=line does="./dev ready py"
            ;;
        no-sudo) who=somebody must=line does="./dev ready unit" ;;
        # Debian 12's apt checks no signature without it.
        no-find)
            rm "$root/usr/bin/find"
            must=either does="./dev ready docs"
            ;;
        closed-home)
            sudoer
            chown -R root:root "$root/home/somebody"
            chmod 755 "$root/home/somebody"
            must=line does="./dev ready docs"
            ;;
        *) fail "no trial $1: \"./dev fresh --help\"" ;;
    esac
}

# trial NAME: its row; `wrong` has those that did not end as they must.
trial() {
    log=$place/$release-$1.log
    unpack
    prepare "$1"
    began=$(date +%s)
    code=0
    as "$who" "{ $does; }; code=\$?; times >/tmp/times; exit \$code" >"$log" 2>&1 </dev/null || code=$?
    took=$(($(date +%s) - began))
    cpu=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, part, "m"); sum += 60 * part[1] + part[2] } printf "%.0f", sum }' "$root/tmp/times" 2>/dev/null || true)
    line=$(sed -n '/^dev: /p' "$log" | tail -n 1)
    if [ $code = 0 ]; then
        ended=well told=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep '^== ' | tail -n 1 | cut -c4-)
    elif [ -n "$line" ] && [ "$(grep -c '^dev: ' "$log")" = 1 ]; then
        ended=line told=$line
    else
        ended=badly told="exit code $code: $(tail -n 1 "$log")"
    fi
    pack
    echo "| $1 | $who | \`$does\` | $ended | $took | ${cpu:--} | $told |" | tee -a "$table"
    if [ $ended != "$must" ] && { [ $must != either ] || [ $ended = badly ]; }; then wrong="$wrong $1"; fi
}

debian
table=$place/$release.md
printf '%s\n' "| trial | who | command | ends | wall s | CPU s | its last word |" "|---|---|---|---|---|---|---|" >"$table"
wrong=
for each in "$@"; do
    trial "$each"
done
echo "the rows are in $table, the logs beside it"
[ -z "$wrong" ] || fail "did not end as they must:$wrong"
