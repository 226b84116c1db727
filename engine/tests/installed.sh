#!/usr/bin/env bash
# Builds, installs and uses libfte with the very lines of docs/engine.md, in an empty folder.
#
#   installed.sh FOLDER SHARED [WHERE_TO_LEAVE_WAV [BUILD]]     SHARED: ON or OFF
#
# With BUILD, a folder in which it was built already (as SHARED says), it is only installed from there.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1 shared=$2 sounds=${3:-$1} built=${4:-}
mkdir -p "$folder"
cd "$folder"

# Block number $2 in language $1 of the document's part on building.
lines() {
  awk -v language="$1" -v number="$2" '/^## / {part = $0 == "## Building and finding it"}
    part && $0 == "```" language && ++count == number {inside = 1; next}
    inside && /^```$/ {exit} inside' "$source/docs/engine.md"
}
build=$(lines bash 1) cmake=$(lines cmake 1) pkgconfig=$(lines bash 2)
[ -n "$build" ] && [ -n "$cmake" ] && [ -n "$pkgconfig" ] || { echo "docs/engine.md lacks its blocks" >&2; exit 1; }
quietly() {
  "$@" > log 2>&1 || { cat log; exit 1; }
}

seconds=$SECONDS
ln -sfn "$source" here
if [ -n "$built" ]; then
  quietly cmake --install "$built" --prefix somewhere
else
  quietly bash -euo pipefail -c "${build/-S ./-S here -DBUILD_SHARED_LIBS=$shared}"
fi
echo "the library, shared $shared: $((SECONDS - seconds)) s"
if [ "$shared" = ON ]; then
  export LD_LIBRARY_PATH=$folder/somewhere/lib
  others=$(nm -D --defined-only somewhere/lib/libfte.so | awk '$3 !~ /^fte_/ {print $3}')
  [ -z "$others" ] || { echo "libfte.so exports more than fte_*: $others" >&2; exit 1; }
  readelf -d somewhere/lib/libfte.so | grep -q 'SONAME.*\[libfte\.so\.[0-9.]*\]' || { echo "no soname" >&2; exit 1; }
fi

speaks() {
  "$@" "$source/engine/tests/data/voice" "$sounds/$name.wav" 1 5 2 11 0 7 3 > /dev/null
  test -s "$sounds/$name.wav"
}
for language in C CXX; do
  name=cmake-$language-$shared
  mkdir -p "$name"
  extension=$([ "$language" = C ] && echo c || echo cpp)
  cp "$source/engine/examples/speak.c" "$name/my_product.$extension"
  sed "s/LANGUAGES C)/LANGUAGES $language)/; s/my_product\.c/my_product.$extension/" <<< "$cmake" > "$name/CMakeLists.txt"
  quietly cmake -S "$name" -B "$name/build" -DCMAKE_PREFIX_PATH="$folder/somewhere"
  quietly cmake --build "$name/build"
  speaks "$name/build/my_product"
done

quietly cmake -S "$source/engine/examples" -B example -DCMAKE_PREFIX_PATH="$folder/somewhere"
quietly cmake --build example

name=pkg-config-$shared
cp "$source/engine/examples/speak.c" my_product.c
bash -euo pipefail -c "$pkgconfig"
speaks ./my_product
if [ "$shared" = ON ]; then # a shared libfte needs nothing beside it
  bash -euo pipefail -c "${pkgconfig/--static /}"
  speaks ./my_product
fi
echo "found by CMake from C and C++, and by pkg-config: shared $shared"
