#!/usr/bin/env python3
"""Kills every command that writes, and lets its system calls fail, one call at a time.

usage: tests/faults/faults.py FOLDER_OF_BINARIES [--calls N] [--case NAME]... [--list] [--keep]

Each case of cases.py runs once undisturbed: that gives the new output and the number of system calls
that change files. Then it runs again and again, with a fault at one call each: a kill, an input/output
error, a full disk. Afterwards each output is the old one or the new one, byte for byte, nothing else
has changed, an error is one line that names a file, and the same command once more brings the new
output and removes what the first left behind. --calls takes N calls of each case and fault, evenly
spaced, where the full form takes every one.
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from leftovers import is_leftover, target

HERE = Path(__file__).resolve().parent
KILLED = 137
# In place of an exit code, where a command has not ended after LONGEST seconds.
HANGS = "none, it hangs"
LONGEST = 120
REMOVALS = {"unlink", "unlinkat", "rmdir"}


@dataclass(frozen=True)
class Call:
    """A system call that changed files: its name and its paths, relative to the working folder."""

    name: str
    paths: tuple


def digest(path):
    if path.is_symlink():
        return "link to " + os.readlink(path)
    if path.is_dir():
        return "folder"
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def state(folder):
    """Every path below `folder` with what it holds."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*"))}


def is_part(path, of):
    return path == of or path.startswith(of + "/")


def part(tree, of):
    return {path: value for path, value in tree.items() if is_part(path, of)}


class Runner:
    """Runs commands in one working folder, under the injector."""

    def __init__(self, bin_folder, scratch):
        self.bin = bin_folder
        self.scratch = scratch
        self.work = scratch / "work"
        self.log = scratch / "calls"
        self.inject = scratch / "inject"
        subprocess.run(["cc", "-O1", "-Wall", "-o", self.inject, HERE / "inject.c"], check=True)

    def fill(self, source):
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(source, self.work, symlinks=True)

    def run(self, command, fault="none", at=0, stdin=""):
        """Exit code, lines of standard error, calls."""
        program, *arguments = command
        environment = dict(os.environ, HOME=str(self.work), RUST_BACKTRACE="0", NO_COLOR="1")
        environment.pop("XDG_CACHE_HOME", None)
        injector = [self.inject, self.work, self.log, fault, str(at), self.bin / program]
        try:
            done = subprocess.run(injector + arguments, cwd=self.work, env=environment, input=stdin,
                                  capture_output=True, text=True, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            return HANGS, [], self.calls()
        if done.returncode == 126:
            sys.exit(f"faults: the injector failed: {done.stderr}")
        return done.returncode, done.stderr.splitlines(), self.calls()

    def calls(self):
        calls = []
        for line in self.log.read_text().splitlines():
            number, name, *paths = line.split("\t")
            if number == "0":
                sys.exit(f"faults: {name} was called, whose writes cannot be counted")
            paths = [os.path.normpath(path) for path in paths if path]
            calls.append(Call(name, tuple(os.path.relpath(path, self.work) for path in paths)))
        return calls


class Check:
    """What must hold of one case; every fault found is kept as a line."""

    def __init__(self, runner, case, before):
        self.runner, self.case, self.before = runner, case, before
        self.old = state(before)
        self.runs = 0
        self.found = []

    def prepare(self):
        """The undisturbed run, and what it may write on the way."""
        self.runner.fill(self.before)
        code, errors, self.undisturbed = self.runner.run(self.case.command, stdin=self.case.stdin)
        self.new = state(self.runner.work)
        if code != 0:
            sys.exit(f"faults: {self.case.name} fails undisturbed: {errors}")
        self.allowed = {unit: [part(self.old, unit), part(self.new, unit)] for unit in self.case.outputs}
        for command, stdin in self.case.between:
            self.runner.fill(self.before)
            self.runner.run(command, stdin=stdin)
            for unit in self.case.outputs:
                self.allowed[unit].append(part(state(self.runner.work), unit))
        self.found += [f"undisturbed: {line}" for line in power_cut(self.undisturbed, self.old, self.new)]

    def owned(self, path):
        return any(is_part(path, unit) for unit in self.case.outputs) or \
            any(re.fullmatch(pattern, path) for pattern in self.case.free)

    def is_whole(self, unit, tree):
        mine = {p: v for p, v in part(tree, unit).items() if not is_leftover(p)}
        return mine in self.allowed[unit] or any(self.same(mine, one) for one in self.allowed[unit])

    def same(self, one, other):
        """Equal but for files whose content differs from run to run."""
        varies = lambda path: any(re.fullmatch(pattern, path) for pattern in self.case.varying)
        return {p: v for p, v in one.items() if not varies(p)} == {p: v for p, v in other.items() if not varies(p)} \
            and one.keys() == other.keys()

    def folder(self, tree):
        """What is wrong in the folder, whatever happened."""
        for unit in self.case.outputs:
            if not self.is_whole(unit, tree):
                yield f"{unit} is neither the old nor the new one"
        yield from self.case.extra(self, tree)
        for path in self.old.keys() | tree.keys():
            if self.owned(path) or is_leftover(path):
                continue
            if self.old.get(path) != tree.get(path):
                # Parents of outputs may be new.
                if path not in self.old and tree[path] == "folder" and any(is_part(u, path) for u in self.case.outputs):
                    continue
                yield f"{path} was {'removed' if path not in tree else 'made' if path not in self.old else 'changed'}"

    def is_new(self, tree):
        return all(self.same(part(tree, unit), part(self.new, unit)) for unit in self.case.outputs)

    def fault(self, fault, at):
        """One run with a fault at one call, and another without."""
        self.runs += 1
        self.runner.fill(self.before)
        code, errors, calls = self.runner.run(self.case.command, fault, at, self.case.stdin)
        if len(calls) < at:
            return False
        call = calls[at - 1]
        tree = state(self.runner.work)
        wrong = list(self.folder(tree))
        leftovers = [path for path in tree if is_leftover(path)]
        if fault == "kill":
            if code != KILLED:
                wrong.append(f"exit code {code} after a kill")
        else:
            wrong += self.error(code, errors, call, tree)
            if leftovers and call.name not in REMOVALS:
                wrong.append(f"{leftovers[0]} stays after an error")
        again, said, _ = self.runner.run(self.case.again or self.case.command, stdin=self.case.stdin)
        tree = state(self.runner.work)
        if again != 0:
            wrong.append(f"the second run ends with {again}: {said[-1:]}")
        elif not self.is_new(tree):
            wrong.append("the second run gives another output")
        wrong += [f"second run: {line}" for line in self.folder(tree)]
        wrong += [f"second run: {path} stays" for path in tree if is_leftover(path)]
        where = f"{fault} at call {at} ({call.name} {' '.join(call.paths)})"
        self.found += [f"{where}: {line}" + (f"\n      {errors[-1:]}" if fault != 'kill' else '') for line in wrong]
        return True

    def error(self, code, errors, call, tree):
        """What is wrong with how an error was reported."""
        if code == 0:
            if not self.is_new(tree):
                yield "exit code 0 without the new output"
            return
        said = [line for line in errors if line.startswith("error")]
        if code not in (1, 2):
            yield f"exit code {code}"
        elif len(said) != 1 or errors[-1] != said[0]:
            yield f"{len(said)} error lines"
        elif re.search(r"(cannot write \S+): \1", said[0]):
            yield "the error says it twice"
        elif not any(name in said[0] for name in self.names(call)):
            yield "the error names no file"

    def names(self, call):
        """Names of which an error must mention one: of the call's files, and of the outputs."""
        names = set()
        for path in [*call.paths, *self.case.outputs, *self.case.command]:
            for name in Path(path).parts:
                names.add(target(name))
        return names - {"", "."}


def power_cut(calls, old, new):
    """What would not survive a power cut after the last call: files that are not synced when they get
    their name, and names in folders that are not synced afterwards."""
    there, dirty, names = set(old), {}, {}

    def forget(gone):
        for known in (dirty, names):
            for path in [path for path in known if is_part(path, gone)]:
                del known[path]

    def appear(path):
        if path not in there:
            there.add(path)
            names[path] = os.path.dirname(path) or "."

    for call in calls:
        path = call.paths[-1]
        if call.name in ("fsync", "fdatasync"):
            dirty.pop(path, None)
            names = {name: parent for name, parent in names.items() if parent != path}
        elif call.name.startswith("rename"):
            source = call.paths[0]
            for file in [file for file in dirty if is_part(file, source)]:
                yield f"{file} becomes {path} before it is synced"
            forget(source)
            there -= {name for name in there if is_part(name, source)}
            there.discard(path)
            appear(path)
        elif call.name in REMOVALS:
            forget(path)
            there.discard(path)
        elif call.name.startswith(("mkdir", "link", "open", "creat")):
            appear(path)
        elif not call.name.startswith(("chmod", "fchmod")):
            dirty[path] = call.name
    for name, parent in names.items():
        if name in new and not is_leftover(name):
            yield f"{name} is new in {parent}, which is not synced afterwards"
    for file, how in dirty.items():
        if os.path.basename(file) == ".lock":
            continue  # says who is at work now
        if new.get(file, "folder") != "folder":
            yield f"{file} is not synced after {how}"


def evenly(count, most):
    """Numbers from 1 to `count`, at most `most` of them."""
    if most is None or count <= most:
        return range(1, count + 1)
    return sorted({1 + round(i * (count - 1) / max(most - 1, 1)) for i in range(most)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin", type=Path)
    parser.add_argument("--calls", type=int, help="calls of each case and fault [default: every one]")
    parser.add_argument("--case", action="append", help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the cases and their calls, inject nothing")
    options = parser.parse_args()
    # In memory, since every call that syncs is waited for.
    memory = Path("/dev/shm")
    parent = memory if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) else None
    scratch = Path(tempfile.mkdtemp(prefix="pocketgpt-faults-", dir=parent))
    try:
        sys.exit(run(options, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(options, scratch):
    import cases
    runner = Runner(options.bin.resolve(), scratch)
    fixture = cases.Fixture(runner, scratch / "fixture")
    chosen = [case for case in fixture.cases() if not options.case or case.name in options.case]
    if not chosen:
        sys.exit("faults: no such case")
    runs = injected = failed = 0
    for case in chosen:
        began = time.monotonic()
        check = Check(runner, case, fixture.before(case))
        check.prepare()
        count = len(check.undisturbed)
        if not options.list:
            for fault in case.faults:
                for at in evenly(count, case.calls_of(options.calls)):
                    check.fault(fault, at)
        runs, injected, failed = runs + 1, injected + check.runs, failed + len(check.found)
        print(f"{case.name:28} {count:5} calls {check.runs:6} faults {len(check.found):4} found "
              f"{time.monotonic() - began:7.1f} s", flush=True)
        for line in check.found:
            print(f"    {line}", flush=True)
    print(f"faults: {runs} cases, {injected} kills and errors, {failed} found")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
