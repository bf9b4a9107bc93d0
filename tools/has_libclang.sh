#!/bin/sh
# True if bindgen finds a libclang in one of the FOLDERs (the system's library folders unless given). LLVM's C++ library, libclang-cpp.so, is none.
set -eu
[ $# -gt 0 ] || set -- /usr/lib /usr/lib64 /usr/local/lib
found=$(find "$@" -maxdepth 4 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null | head -n 1) || true
[ -n "$found" ]
