# shellcheck shell=sh
# What real software of this field does where a good guess is another (findings/README.md).

# findings [NAME...]: each script from nothing, all of them unless some are named; what it printed is in a file each, and at the end a table.
findings() {
    for name in "$@"; do [ -f "findings/$name.sh" ] || die "no finding $name; findings/README.md lists them"; done
    # shellcheck disable=SC2046 # no name has a space
    [ $# != 0 ] || set -- $(for file in findings/*.sh; do basename "$file" .sh; done)
    need_rust
    need_python3
    # Some take Debian's packages apart without installing them.
    ! command -v apt-get >/dev/null || as_root apt-get update -qq || die "the package lists could not be read: see apt's message above"
    mkdir -p "$FINDINGS"
    : >"$FINDINGS/table"
    failed=
    for name in "$@"; do
        say "$name"
        began=$(date +%s)
        ok=yes
        sh "findings/$name.sh" >"$FINDINGS/$name" 2>&1 || ok=NO
        cat "$FINDINGS/$name"
        printf '%-28s %4s s  %s\n' "$name" $(($(date +%s) - began)) $ok >>"$FINDINGS/table"
        [ $ok = yes ] || failed="$failed $name"
    done
    say "findings: name, seconds, whether it is as it was"
    cat "$FINDINGS/table"
    [ -z "$failed" ] || die "not as it was:$failed. What each printed is in $FINDINGS"
}
