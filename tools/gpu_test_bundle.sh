#!/bin/sh
# tools/gpu_test_bundle.sh STAGE FOLDER: collect in FOLDER the wheels that a stage of make gpu-test needs on a machine
# that has Python, pip and torch, and can download nothing:
#
#     tools/gpu_test_bundle.sh 1 wheels
#     make gpu-test STAGE=1 WHEELS=wheels          # there, in a copy of this repository
#
# They come from the index that pip is configured for, in the versions that are installed beside PYTHON (.venv), packed
# anew with LZMA. At most LIMIT_MIB: what a stage would need beyond that is left out, or the stage is refused.
#
#     PYTHON=.venv/bin/python  the interpreter whose versions are collected
#     TARGET_PYTHON=3.12       version of the machine's Python, where it is another one
#     TORCHVISION=0.29.1       the release that goes with the machine's torch, where that is another one
set -eu
LIMIT_MIB=60
stage=${1:-} folder=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
list=$here/tests/gpu/packages/stage-$stage.txt
PYTHON=${PYTHON:-$here/.venv/bin/python}
[ -n "$folder" ] || { echo "usage: tools/gpu_test_bundle.sh STAGE FOLDER" >&2; exit 2; }
[ -f "$list" ] || { echo "error: there is no stage $stage: tests/gpu/packages has" "$(cd "$here/tests/gpu/packages" && echo *)" >&2; exit 2; }
"$PYTHON" -m pip --version >/dev/null || { echo "error: $PYTHON has no pip: name an interpreter with PYTHON=" >&2; exit 2; }
[ -z "$(ls -A "$folder" 2>/dev/null)" ] || { echo "error: $folder is not empty: name a new folder" >&2; exit 2; }
mkdir -p "$folder"

# Names with the versions that are installed; those that are not (TensorRT, vLLM) in their newest.
wanted=$("$PYTHON" - "$list" <<'EOF'
import importlib.metadata, os, sys
for line in open(sys.argv[1], encoding="utf-8"):
    if name := line.partition("#")[0].strip():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        version = os.environ.get("TORCHVISION", version) if name == "torchvision" else version
        print(f"{name}=={version}" if version else name)
EOF
)
platform=""
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010; do
    platform="$platform --platform ${tag}_x86_64"
done
# shellcheck disable=SC2086  # both are lists of words
"$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
    ${TARGET_PYTHON:+--python-version "$TARGET_PYTHON" --implementation cp $platform} $wanted || {
    rm -rf "$folder"
    echo "error: stage $stage cannot be bundled, not all of its packages come as wheels (above): install them there" >&2
    exit 2
}

"$PYTHON" - "$folder" "$LIMIT_MIB" "$stage" "$list" <<'EOF'
import pathlib, shutil, sys, zipfile
folder, limit, stage, listed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
wheels = sorted(folder.glob("*.whl"))
mib = lambda files: sum(file.stat().st_size for file in files) / 2**20
if mib(wheels) < 2 * limit:  # more cannot become small enough
    for wheel in wheels:
        packed = wheel.with_suffix(".part")
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as new:
            for entry in old.infolist():
                content = old.read(entry)
                entry.compress_type = zipfile.ZIP_LZMA
                new.writestr(entry, content)
        packed.replace(wheel)
size = mib(wheels)
if size > limit:
    largest = sorted(wheels, key=lambda wheel: -wheel.stat().st_size)[:4]
    shutil.rmtree(folder)
    print(f"error: stage {stage} needs {size:.0f} MiB of wheels, and at most {limit} are allowed; the largest: "
          + ", ".join(f"{w.name.split('-')[0]}" for w in largest)
          + ". Install them on the machine itself, and run make gpu-test there without WHEELS", file=sys.stderr)
    sys.exit(1)
print(f"stage {stage}: {len(wheels)} wheels, {size:.1f} of {limit} MiB in {folder}")
for line in open(listed, encoding="utf-8"):
    if line.startswith("# left out:"):
        print(line[2:].strip())
EOF
