#!/usr/bin/env bash
# Packs the built program with its manual pages, completions and licences for a release.
#
# usage: packaging/archive.sh NAME      writes dist/pocketgpt-VERSION-NAME.tar.gz, or .zip on Windows
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: packaging/archive.sh NAME}
program=target/release/pocketgpt
[ -f "$program.exe" ] && program=$program.exe
version=$("$program" -V | cut -d' ' -f2)
folder=pocketgpt-$version-$name

rm -rf "dist/$folder"
mkdir -p "dist/$folder/completions"
cp "$program" README.md LICENSE-APACHE LICENSE-MIT "dist/$folder/"
[ -f THIRD_PARTY.md ] && cp THIRD_PARTY.md "dist/$folder/"
case $program in *.exe) ;; *) strip "dist/$folder/pocketgpt" ;; esac
"$program" man "dist/$folder/man"
for shell in bash zsh fish powershell; do
    "$program" completions "$shell" > "dist/$folder/completions/pocketgpt.$shell"
done
cd dist
case $program in
    *.exe) 7z a -bso0 "$folder.zip" "$folder" ;;
    *) tar czf "$folder.tar.gz" "$folder" ;;
esac
rm -rf "$folder"
