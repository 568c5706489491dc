"""What is in the program and in the web chat: crates from Cargo, packages from npm's lock file."""

import hashlib
import json
import pathlib
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
APP = ROOT / 'bundle/app'
# What crates are under whose manifest names a file instead of an expression.
STATED = {'cfg_block': 'Apache-2.0'}


class Crate:
    """A crate of the program, on any platform, with the default features."""

    def __init__(self, package, dependencies, checksum):
        self.name, self.version = package['name'], package['version']
        self.license = expression(package['license'] or STATED.get(self.name), f'crate {self.name}')
        self.repository = package.get('repository') or f'https://crates.io/crates/{self.name}'
        self.authors = package.get('authors') or []
        self.folder = pathlib.Path(package['manifest_path']).parent
        self.is_ours = package['source'] is None
        self.purl = f'pkg:cargo/{self.name}@{self.version}'
        self.dependencies, self.checksum = dependencies, checksum


class Package:
    """An npm package of the web chat."""

    def __init__(self, path, locked):
        self.name, self.version = path.rsplit('node_modules/', 1)[1], locked['version']
        self.license = expression(locked.get('license'), f'npm package {self.name}')
        self.folder = APP / path
        self.authors = []
        self.purl = f'pkg:npm/{self.name.replace("@", "%40")}@{self.version}'
        self.integrity = locked['integrity']
        self.requires = list(locked.get('dependencies', {}))
        self.repository = f'https://www.npmjs.com/package/{self.name}'


def expression(license, whose):
    """An SPDX expression; old manifests write / for OR."""
    if not license:
        raise SystemExit(f'{whose} states no licence: add what its repository says')
    return ' OR '.join(part.strip() for part in license.split('/'))


def crates():
    """Our own crates and all that they use when they run, sorted, by what Cargo resolved."""
    metadata = json.loads(cargo('metadata', '--format-version', '1'))
    packages = {package['id']: package for package in metadata['packages']}
    nodes = {node['id']: node for node in metadata['resolve']['nodes']}
    lock = tomllib.loads((ROOT / 'Cargo.lock').read_text())
    checksums = {(p['name'], p['version']): p.get('checksum') for p in lock['package']}
    # Metadata has every feature of every member; the tree has what one program is built with.
    tree = cargo('tree', '--package', 'pocketgpt', '--edges', 'normal', '--target', 'all',
                 '--prefix', 'none', '--format', '{p}')
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}

    def key(package):
        return package['name'], 'v' + package['version']

    def purl(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def crate(id):
        deps = [dep['pkg'] for dep in nodes[id]['deps']
                if any(kind['kind'] is None for kind in dep['dep_kinds'])]
        uses = {purl(packages[dep]) for dep in deps if key(packages[dep]) in used}
        package = packages[id]
        return Crate(package, sorted(uses), checksums[package['name'], package['version']])

    found = [crate(id) for id, package in packages.items() if key(package) in used]
    assert len(found) == len(used), 'two sources of one crate'
    return sorted(found, key=lambda crate: (crate.name, crate.version))


def cargo(command, *arguments):
    command = ['cargo', command, '--locked', *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def npm_packages():
    """The packages that the web chat is built from, not those that build and test it."""
    lock = json.loads((APP / 'package-lock.json').read_text())
    production = [(path, locked) for path, locked in lock['packages'].items()
                  if path and not locked.get('dev')]
    return sorted((Package(path, locked) for path, locked in production), key=lambda p: p.name)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
