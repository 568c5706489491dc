#!/usr/bin/env python3
"""Writes what is in the program and in the web chat as software bills of materials (CycloneDX 1.6).

usage: licenses/sbom.py FOLDER

Two files: pocketgpt.cdx.json and web-chat.cdx.json. The same Cargo.lock and package-lock.json give
the same bytes: there is no time and no random number in them.
"""

import base64
import json
import pathlib
import sys
import tomllib

from graph import ROOT, crates, npm_packages

def component(part, hashes):
    return {'type': 'library', 'bom-ref': part.purl, 'name': part.name, 'version': part.version,
            'purl': part.purl, 'licenses': [{'expression': part.license}],
            **({'hashes': hashes} if hashes else {}),
            'externalReferences': [{'type': 'website', 'url': part.repository}]}


def document(of, components, dependencies):
    return {'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'version': 1,
            'metadata': {'component': of}, 'components': components,
            'dependencies': [{'ref': ref, 'dependsOn': uses} for ref, uses in dependencies]}


def application(name, version):
    return {'type': 'application', 'bom-ref': name, 'name': name, 'version': version,
            'licenses': [{'expression': 'MIT OR Apache-2.0'}]}


def program(version):
    parts = crates()
    own = next(part for part in parts if part.name == 'pocketgpt' and part.is_ours)
    components = [component(part, part.checksum and [{'alg': 'SHA-256', 'content': part.checksum}])
                  for part in parts if part is not own]
    dependencies = [('pocketgpt', own.dependencies)]
    dependencies += [(part.purl, part.dependencies) for part in parts if part is not own]
    return document(application('pocketgpt', version), components, dependencies)


def web_chat(version):
    parts = npm_packages()
    purls = {part.name: part.purl for part in parts}
    def hashes(part):
        algorithm, digest = part.integrity.split('-', 1)
        names = {'sha512': 'SHA-512', 'sha384': 'SHA-384', 'sha256': 'SHA-256'}
        return [{'alg': names[algorithm], 'content': base64.b64decode(digest).hex()}]
    components = [component(part, hashes(part)) for part in parts]
    needed = {name for part in parts for name in part.requires}
    top = [part.purl for part in parts if part.name not in needed]
    dependencies = [('pocketgpt web chat', top)]
    dependencies += [(part.purl, [purls[name] for name in part.requires]) for part in parts]
    return document(application('pocketgpt web chat', version), components, dependencies)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((ROOT / 'Cargo.toml').read_text())['workspace']['package']['version']
    for name, made in [('pocketgpt', program(version)), ('web-chat', web_chat(version))]:
        path = folder / f'{name}.cdx.json'
        path.write_text(json.dumps(made, indent=1) + '\n')
        print(f"{path}: {len(made['components'])} components")


main()
