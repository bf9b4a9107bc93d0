# shellcheck shell=sh
# The default bundle, and the Python packages it is made with.

train() {
    need_rust
    need_fcam
    need_python
    [ -f "$DATA/dataset.json" ] || "$VENV/bin/fcam-tools" synth "$DATA"
    if [ -f out/default.run/snapshot.pt ]; then
        say "going on with the training that was stopped"
        "$VENV/bin/fcam-tools" train --resume out/default.run
    fi
    [ -f out/default.pt ] || "$VENV/bin/fcam-tools" train "$DATA" --recipe pasted --out out/default.pt "$@"
    "$VENV/bin/fcam-tools" evaluate out/default.pt --data "$DATA" --record
    "$VENV/bin/fcam-tools" export out/default.pt models/default --data "$DATA" --name synth-lite0 --version 3.0.0 --replace
    FCAM="$PWD/target/debug/fcam" "$VENV/bin/fcam-tools" verify models/default --checkpoint out/default.pt
}

lock() {
    need_python
    "$VENV/bin/python" -m pip install -q uv
    "$VENV/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate --upgrade tools/requirements.in -o tools/requirements.lock
    "$VENV/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate --upgrade -c tools/requirements.lock tools/peers.in -o tools/peers.lock
    "$VENV/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate --upgrade tools/cross.in -o tools/cross.lock
}
