"""Attacks `bundle serve` and counts: is anything leaked, are others served, does Ctrl-C end it?

usage: serve_attack.py BUNDLE_COMMAND BUNDLE_FOLDER      (Linux; Python's standard library only)

Prints a line for each attack and ends with 1 where something does not hold.
"""

import hashlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUESTS = 10_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGE = "tokenizer.json"
HELD_GET = f"GET /{LARGE} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
# SETTINGS that close the window of every stream, and a request (HPACK, RFC 7541).
BLOCK = b"\x82\x86\x04\x0f/" + LARGE.encode() + b"\x01\x09localhost"
NO_WINDOW = (
    PREFACE + bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
    + bytes([0, 0, len(BLOCK), 1, 5, 0, 0, 0, 1]) + BLOCK
)
failures = []


class Server:
    """`bundle serve` with a limit of open files."""

    def __init__(self, command, folder, files, *arguments):
        self.process = subprocess.Popen(
            ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(files), command, "serve",
             "--port", "0", "--input", folder, *arguments],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.said = ""
        while not (found := re.search(r"at https?://([\d.]+):(\d+)/", self.said)):
            line = self.process.stderr.readline()
            assert line, f"the server did not start: {self.said}"
            self.said += line
        self.address = ("127.0.0.1", int(found[2]))

    def connect(self, first=b"", source=None):
        """A connection that has sent `first`."""
        stream = socket.socket()
        stream.settimeout(30)
        if source:
            stream.bind((source, 0))
        stream.connect(self.address)
        try:
            stream.sendall(first)
        except OSError:
            pass
        return stream

    def exchange(self, request):
        """Everything that comes until the server closes; what is not a whole request is hung up on."""
        answer = b""
        with self.connect(request) as stream:
            try:
                if not request.endswith(b"connection: close\r\n\r\n") or b"length" in request or b"encoding" in request:
                    stream.shutdown(socket.SHUT_WR)
                while data := stream.recv(65536):
                    answer += data
            except OSError:
                pass
        return answer

    def is_served(self, source=None):
        request = b"GET /bundle.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        try:
            with self.connect(request, source) as stream:
                return stream.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False

    def wait_until_served(self, source=None):
        """Seconds until a new client gets an answer."""
        start = time.monotonic()
        while not self.is_served(source):
            if time.monotonic() - start > 90:
                failures.append("nobody is let in")
                break
            time.sleep(0.05)
        return time.monotonic() - start

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Anonymous memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1000

    def stop(self):
        """Seconds that Ctrl-C takes."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            failures.append("Ctrl-C does not end the server")
            self.process.kill()
            self.process.communicate()
        if self.process.returncode not in (0, -9):
            failures.append(f"the server ended with {self.process.returncode}")
        return time.monotonic() - start


def hostile(rng):
    """A request as nobody's browser makes it, or noise."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(2000))
    if kind == 1:
        return PREFACE + rng.randbytes(rng.randrange(400))
    if kind == 2:
        return NO_WINDOW + bytes([0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]) * rng.randrange(200)
    parts = ["..", "%2e%2e", "%00", "model", "private", LARGE, "bundle.json", "a/" * 3000, "\\"]
    path = "/" + "/".join(rng.choices(parts, k=rng.randrange(5)))
    host = rng.choice(["localhost", "localhost", "attacker.example", "127.1", "[::1]:x", "", "a b"])
    ranges = ["bytes=0-", "bytes=5-2", "bytes=18446744073709551615-", "bytes=" + "0-1," * 900, "x"]
    method = rng.choice(["GET", "GET", "HEAD", "POST", "CONNECT", "TRACE", "get"])
    extra = rng.choice(["", "content-length: 99\r\n", "transfer-encoding: chunked\r\n", "x: y\r\n" * 300])
    version = rng.choice(["1.1", "1.1", "1.0", "2.0"])
    return (
        f"{method} {path} HTTP/{version}\r\nhost: {host}\r\nrange: {rng.choice(ranges)}\r\n"
        f"{extra}connection: close\r\n\r\n"
    ).encode()


def report(name, **values):
    print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items()), flush=True)


def requests(command, folder):
    server = Server(command, folder, 256)
    rng = random.Random(1)
    statuses, leaked, memory = {}, 0, 0
    start = time.monotonic()
    for number in range(REQUESTS):
        answer = server.exchange(hostile(rng))
        leaked += b"secret of this machine" in answer
        found = re.match(rb"HTTP/1.. (\d+)", answer)
        status = found[1].decode() if found else "other"
        statuses[status] = statuses.get(status, 0) + 1
        if number == REQUESTS // 4:
            memory = server.memory()
    if leaked:
        failures.append(f"{leaked} answers leak a file")
    growth = server.memory() - memory
    report(f"{REQUESTS} hostile requests", leaked=leaked, answers=dict(sorted(statuses.items())),
           memory_grown=f"{growth:.1f} MB", seconds=f"{time.monotonic() - start:.0f}",
           files_after=server.files(), others_wait=f"{server.wait_until_served():.2f} s",
           Ctrl_C=f"{server.stop():.1f} s")
    if growth > 16:
        failures.append(f"memory grew by {growth} MB")


def crowd(command, folder, name, first, count, files):
    server = Server(command, folder, files)
    held, most = [], 0
    for _ in range(count):
        held.append(server.connect(first))
        most = max(most, server.files())
    if most >= files:
        failures.append(f"{name}: all {files} files are open")
    same, other = server.wait_until_served(), server.wait_until_served("127.0.0.9")
    report(f"{count} {name}, {files} files allowed", most_open=most,
           memory=f"{server.memory():.1f} MB", same_address_waits=f"{same:.2f} s",
           another_waits=f"{other:.2f} s", Ctrl_C=f"{server.stop():.1f} s")
    for stream in held:
        stream.close()


def let_go(command, folder):
    """How long the server waits for clients, all of them at once."""
    server = Server(command, folder, 1024)
    beginnings = {"silent": b"", "one byte": b"G", "HTTP/2 preface": PREFACE, "stopped reading": HELD_GET,
                  "HTTP/2 without a window": NO_WINDOW}
    start = time.monotonic()
    streams = {name: server.connect(first) for name, first in beginnings.items()}
    seconds = {}
    while len(seconds) < len(streams) and time.monotonic() - start < 120:
        time.sleep(0.5)
        local = {stream.getsockname()[1]: name for name, stream in streams.items() if name not in seconds}
        # State 1 is ESTABLISHED; the server's side of a connection that it ended is not.
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        port = f":{server.address[1]:04X}"
        alive = {int(row[2].split(":")[1], 16) for row in table if row[1].endswith(port) and row[3] == "01"}
        for own, name in local.items():
            if own not in alive:
                seconds[name] = round(time.monotonic() - start)
    for name in streams:
        if name not in seconds:
            failures.append(f"{name} is never let go")
    report("let go after seconds", **{name.replace(" ", "_"): value for name, value in seconds.items()},
           Ctrl_C=f"{server.stop():.1f} s")


def certificate(command, folder):
    """The fingerprint that is shown is that of the certificate that comes, twice the same."""
    with tempfile.TemporaryDirectory() as kept:
        seen = set()
        for _ in range(2):
            server = Server(command, folder, 256, "--lan", "--certificate-folder", kept)
            pem = ssl.get_server_certificate(server.address)
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
            server.process.send_signal(signal.SIGINT)
            said = server.process.stderr.read()
            server.process.wait(timeout=30)
            lines = re.findall(r"^  ((?:[0-9A-F]{2}:?){16})$", said, re.M)
            shown = "".join(lines).replace(":", "")
            if shown != digest:
                failures.append(f"shown {shown}, computed {digest}")
            seen.add(digest)
        if len(seen) != 1:
            failures.append("the certificate changes")
        report("certificate", fingerprint_as_Python_computes_it=shown == digest, kept=len(seen) == 1)


def main():
    command, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        copy = f"{scratch}/bundle"
        subprocess.run(["cp", "-r", folder, copy], check=True)
        Path(scratch, "private").write_text("secret of this machine")
        with open(f"{copy}/{LARGE}", "wb") as file:
            file.truncate(64 << 20)
        certificate(command, copy)
        requests(command, copy)
        for files in (64, 256, 1024):
            for name, first in (("silent clients", b""), ("clients of one byte", b"G"),
                                ("HTTP/2 prefaces", PREFACE), ("slow readers", HELD_GET),
                                ("HTTP/2 streams without a window", NO_WINDOW)):
                crowd(command, copy, name, first, 80 if files == 64 else 300, files)
        crowd(command, copy, "connections at once", b"", 5000, 1024)
        let_go(command, copy)
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
