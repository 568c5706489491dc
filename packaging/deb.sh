#!/usr/bin/env bash
# Packs the built program as a Debian package: program, links of the stages, manual pages, completions.
#
# usage: packaging/deb.sh      writes dist/pocketgpt_VERSION_ARCHITECTURE.deb
set -euo pipefail
cd "$(dirname "$0")/.."
program=target/release/pocketgpt
version=$("$program" -V | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

install -D -m 755 -s "$program" "$tree/usr/bin/pocketgpt"
# Under names of their own `train`, `eval` or `data` would take the place of other programs' commands.
mkdir -p "$tree/usr/lib/pocketgpt"
"$program" links "$tree/usr/lib/pocketgpt"
for link in "$tree"/usr/lib/pocketgpt/*; do ln -sfn ../../bin/pocketgpt "$link"; done
"$program" man "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*.1
"$program" completions bash | install -D -m 644 /dev/stdin "$tree/usr/share/bash-completion/completions/pocketgpt"
"$program" completions zsh | install -D -m 644 /dev/stdin "$tree/usr/share/zsh/vendor-completions/_pocketgpt"
"$program" completions fish | install -D -m 644 /dev/stdin "$tree/usr/share/fish/vendor_completions.d/pocketgpt.fish"
for text in LICENSE-APACHE LICENSE-MIT THIRD_PARTY.md; do
    [ ! -f "$text" ] || install -D -m 644 "$text" "$tree/usr/share/doc/pocketgpt/$text"
done
# The libraries by what this system's packages call them, with the versions that were linked.
libc=$(dpkg-query -W -f '${Version}' libc6 | cut -d- -f1)
mkdir "$tree/DEBIAN"
cat > "$tree/DEBIAN/control" <<EOF
Package: pocketgpt
Version: $version
Architecture: $architecture
Maintainer: the pocketgpt authors <pocketgpt@users.noreply.github.com>
Installed-Size: $(du -sk "$tree/usr" | cut -f1)
Depends: libc6 (>= $libc), libgcc-s1, libstdc++6
Section: science
Priority: optional
Description: trains small GPT models and packs them for phones
 Trains GPT-2- and LLaMA-style models, exports them to GGUF, quantizes, compares
 every result with llama.cpp and packs a bundle with an offline web chat.
EOF
mkdir -p dist
dpkg-deb --root-owner-group --build "$tree" "dist/pocketgpt_${version}_$architecture.deb"
