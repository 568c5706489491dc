#!/usr/bin/env python3
"""Writes the licences of everything that is in the program and in the web chat.

usage: licenses/notices.py

THIRD_PARTY.md has both; bundle/app/public/THIRD_PARTY.txt, which the web chat hands out, has the
second. Of several licences at choice the one with the fewest words is taken: Apache-2.0, whose text
is the same for all, before MIT and others, whose texts name their authors.
"""

import itertools
import json
import pathlib
import re

from graph import APP, ROOT, crates, npm_packages

LEGAL = re.compile(r'^(licen[cs]e|copying|copyright|notice|unlicense|ofl|ufl|.*-license)', re.I)
# A choice that is not taken: zstd is under BSD or GPL, the rest names what the crate is not used for.
NOT_TAKEN = {('zstd-sys', 'zstd/COPYING'), ('llama-cpp-sys-2', 'llama.cpp/cmake/license.cmake')}
SHARED = 'Apache-2.0'
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN
NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def alternatives(expression):
    """The sets of licences that each satisfy an SPDX expression."""
    words = re.findall(r'\(|\)|[^\s()]+', expression)

    def either():
        found = both()
        while words and words[0] == 'OR':
            words.pop(0)
            found = found + both()
        return found

    def both():
        found = one()
        while words and words[0] == 'AND':
            words.pop(0)
            found = [a | b for a, b in itertools.product(found, one())]
        return found

    def one():
        word = words.pop(0)
        if word == '(':
            found = either()
            assert words.pop(0) == ')', expression
            return found
        if words and words[0] == 'WITH':
            word = ' '.join([word, words.pop(0), words.pop(0)])
        return [frozenset([word])]

    found = either()
    assert not words, expression
    return found


def taken(expression):
    rank = {SHARED: 0, 'MIT': 1}
    cost = lambda names: (sum(rank.get(name, 2) for name in names), sorted(names))
    return min(alternatives(expression), key=cost)


def legal_files(part):
    """Files of a package that state a licence: `(path in the package, text)`."""
    found = []
    for path in sorted(part.folder.rglob('*')):
        name = path.relative_to(part.folder).as_posix()
        is_text = path.suffix.lower() in ('', '.md', '.txt', '.mit', '.bsd-3-clause', '.bsd-2-clause')
        if 'node_modules' in name or not (path.is_file() and is_text and LEGAL.match(path.name)):
            continue
        if (part.name, name) not in NOT_TAKEN:
            found.append((name, path.read_text(errors='replace')))
    return found


def texts(part):
    """The texts that have to go along with a package, beside that of Apache-2.0."""
    names = taken(part.license)
    kept = []
    for name, text in legal_files(part):
        own = '/' not in name or name.startswith('licenses/')
        is_notice = pathlib.Path(name).name.lower().startswith('notice')
        # A choice that is not taken, and the shared text again.
        left = own and not is_notice and (names == {SHARED} or 'apache' in name.lower())
        if not left and 'Apache License' not in text[:300]:
            kept.append(text)
    if not kept and names - {SHARED}:
        assert names <= {SHARED, 'MIT'}, f'{part.name}: no text of {names}: add it to this program'
        authors = ', '.join(re.sub(r'\s*<.*>', '', author) for author in part.authors)
        kept.append(f'Copyright (c) {authors or f"the authors of {part.name}"}\n\n{MIT}')
    return kept


def unwrapped(text):
    """The words of a text, so that texts that differ in their line breaks are one."""
    return ' '.join(text.split())


def section(parts, title, intro, level='#'):
    """A table of packages, and then the texts, each once."""
    lines = [f'{level} {title}', '', intro, '', '| name | version | licence | taken | from |',
             '|---|---|---|---|---|']
    grouped = {}
    for part in parts:
        names = ' AND '.join(sorted(taken(part.license)))
        lines.append(f'| {part.name} | {part.version} | {part.license} | {names} | {part.repository} |')
        for text in texts(part):
            _, users = grouped.setdefault(unwrapped(text), (text, []))
            users.append(f'{part.name} {part.version}')
    lines.append('')
    for text, users in sorted(grouped.values(), key=lambda entry: entry[1]):
        tidy = '\n'.join(line.rstrip() for line in text.strip('\n').expandtabs().splitlines())
        lines += [f'{level}# {", ".join(dict.fromkeys(users))}', '', '```text', tidy, '```', '']
    return lines


def web_chat(engine, level):
    parts = npm_packages()
    for part in parts:
        if not part.folder.is_dir():
            raise SystemExit(f'{part.folder} is missing: run `npm ci` in {APP} first')
    lines = section(parts, 'The web chat', 'Packages that are in the files of the web chat. wllama '
                    'is llama.cpp compiled to WebAssembly by Emscripten.', level)
    lines += [f'{level}# llama.cpp and ggml, in wllama', '', '```text', engine.strip(), '```', '']
    lines += [f'{level}# Emscripten and musl, in wllama', '', '```text',
              'Emscripten: Copyright (c) 2010-2014 Emscripten authors, see its AUTHORS file.',
              'musl: Copyright (c) 2005-2020 Rich Felker, et al.', '', MIT, '```', '',
              'libc++ and compiler-rt, in the same files, are of the LLVM project, under Apache-2.0 '
              'WITH LLVM-exception, which asks for no notice in what is compiled with them.', '']
    return lines


def apache(level):
    text = (ROOT / 'LICENSE-APACHE').read_text().strip('\n')
    return [f'{level} Apache License 2.0', '', '```text', text, '```', '']


def main():
    program = [crate for crate in crates() if not crate.is_ours]
    sys_crate = next(crate for crate in program if crate.name == 'llama-cpp-sys-2')
    engine = (sys_crate.folder / 'llama.cpp/LICENSE').read_text()
    head = ['# Third-party software', '',
            'Made by `make notices` from `Cargo.lock` and `bundle/app/package-lock.json`. pocketgpt '
            'itself is licensed under MIT or Apache-2.0 at the choice of the user (`LICENSE-MIT`, '
            '`LICENSE-APACHE`).', '']
    intro = ('Crates that are in the program, on any platform, and what others wrote inside of them: '
             'llama.cpp and ggml in llama-cpp-sys-2, zstd in zstd-sys, fonts in '
             'epaint_default_fonts. The Rust standard library is in it too, under MIT OR Apache-2.0.')
    lines = head + section(program, 'The program', intro, '##') + web_chat(engine, '##') + apache('##')
    (ROOT / 'THIRD_PARTY.md').write_text('\n'.join(lines))
    note = ['# Third-party software in the web chat', '']
    (APP / 'public/THIRD_PARTY.txt').write_text('\n'.join(note + web_chat(engine, '##')))
    for path in [ROOT / 'THIRD_PARTY.md', APP / 'public/THIRD_PARTY.txt']:
        print(f'{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB')


main()
