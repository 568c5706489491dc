#!/usr/bin/env python3
"""`pocketgpt serve` beside what its interface promises: answers whole and in parts, stop texts, seeds, the
cache from turn to turn, cancelled streams, many clients at once, errors by name, a key, hostile bytes.

usage: tests/api.py PROGRAM MODEL.gguf [--openai]

MODEL has a chat template. With --openai the official Python client asks as well (pip install openai).
"""

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading

PROGRAM, MODEL = sys.argv[1:3]
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
GREEDY = {"temperature": 0, "max_tokens": 12}
checks = 0


def check(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"api: {what}")


class Server:
    def __init__(self, *flags, env=None):
        command = [PROGRAM, "serve", "--model", MODEL, "--port", "0", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        for line in self.process.stderr:
            if found := re.search(r"http://([\d.]+):(\d+)", line):
                self.host, self.port = found[1], int(found[2])
                break
        else:
            sys.exit("api: the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def ask(self, path, body=None, headers=None):
        connection = self.connect()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, data, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text.decode(errors="replace")

    def parts(self, path, body):
        status, text = self.ask(path, {**body, "stream": True})
        check(status == 200, f"a stream got {status}: {text}")
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        check(lines.pop() == "[DONE]", "a stream without its end")
        return [json.loads(line) for line in lines]

    def memory(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        check(self.process.wait(timeout=30) == 0, "Ctrl-C did not end the server with exit code 0")


def text_of(answer):
    choice = answer["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def answers(server):
    status, models = server.ask("/v1/models")
    name = models["data"][0]["id"]
    check(status == 200 and models["object"] == "list", f"models: {models}")
    check(server.ask(f"/v1/models/{name}")[0] == 200 and server.ask("/v1/models/other")[0] == 404, "a model by name")
    status, whole = server.ask("/v1/chat/completions", {"model": name, "messages": HELLO, **GREEDY})
    check(status == 200 and whole["object"] == "chat.completion", f"a chat: {status} {whole}")
    usage = whole["usage"]
    check(0 < usage["completion_tokens"] <= 12 and usage["total_tokens"] > usage["prompt_tokens"], f"usage: {usage}")
    parts = server.parts("/v1/chat/completions", {"messages": HELLO, **GREEDY, "stream_options": {"include_usage": True}})
    joined = "".join(choice["delta"].get("content", "") for part in parts for choice in part["choices"])
    check(joined == text_of(whole), f"parts {joined!r}, the whole {text_of(whole)!r}")
    check(parts[0]["choices"][0]["delta"]["role"] == "assistant", "the first part says who speaks")
    check(parts[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"], "why it ended")
    check(parts[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, "the prompt was read before")
    following = [*HELLO, {"role": "assistant", "content": text_of(whole)}, {"role": "user", "content": "And then?"}]
    cached = server.ask("/v1/chat/completions", {"messages": following, **GREEDY})[1]["usage"]
    cached = cached["prompt_tokens_details"]["cached_tokens"]
    check(cached >= usage["prompt_tokens"] - 8, f"{cached} tokens of the turn before were kept")
    text = server.ask("/v1/completions", {"prompt": "Once upon a time", **GREEDY})[1]
    check(text["object"] == "text_completion" and text_of(text) != "", f"a text: {text}")
    parts = server.parts("/v1/completions", {"prompt": "Once upon a time", **GREEDY})
    check("".join(part["choices"][0]["text"] for part in parts) == text_of(text), "a text in parts")
    stop = text_of(text)[3:6]
    ended = server.ask("/v1/completions", {"prompt": "Once upon a time", **GREEDY, "stop": [stop]})[1]
    check(text_of(ended) == text_of(text).split(stop)[0] and ended["choices"][0]["finish_reason"] == "stop",
          f"stop at {stop!r}: {text_of(ended)!r}")
    drawn = {"prompt": "Once", "max_tokens": 8, "temperature": 1.5}
    two = [text_of(server.ask("/v1/completions", {**drawn, "seed": 7})[1]) for _ in range(2)]
    check(two[0] == two[1], f"one seed gave {two}")
    check(server.ask("/health") == (200, {"status": "ok"}), "health")


def refusals(server):
    for path, body, status, param in [
        ("/v1/chat/completions", {"messages": HELLO, "n": 2}, 400, "n"),
        ("/v1/chat/completions", {"messages": HELLO, "tools": [{}]}, 400, "tools"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {"messages": HELLO, "temperature": -1}, 400, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 100_000}]}, 400, None),
        ("/v1/completions", {"prompt": ""}, 400, "prompt"),
        ("/v1/completions", b"{", 400, None),
        ("/v1/completions", b"\xff" * 100, 400, None),
        ("/v1/embeddings", {"input": "a"}, 404, None),
    ]:
        found, answer = server.ask(path, body)
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        check(found == status and error.get("param") == param and error.get("message"), f"{body!r:.80}: {found} {answer}")
    check(server.ask("/v1/completions", b" " * (17 << 20))[0] == 413, "a body of 17 MiB")
    check(server.ask("/v1/models", headers={"Host": "attacker.example"})[0] == 421, "another host's name")


def cancelled(server):
    """Whoever goes in the middle of an answer leaves the model to the next one."""
    for _ in range(20):
        connection = server.connect()
        body = {"prompt": "Once", "max_tokens": 100_000, "stream": True, "temperature": 1.0}
        connection.request("POST", "/v1/completions", json.dumps(body))
        connection.getresponse().read(10)
        connection.sock.close()
        connection.close()
    check(server.ask("/v1/completions", {"prompt": "Once", **GREEDY})[0] == 200, "an answer after cancelled ones")


def crowd(server, clients=50):
    """More than may wait: each gets an answer or is told to come again."""
    statuses = []
    ask = lambda: statuses.append(server.ask("/v1/completions", {"prompt": "Once", "max_tokens": 4, "temperature": 0})[0])
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    check(len(statuses) == clients and set(statuses) <= {200, 503} and 200 in statuses, f"a crowd: {statuses}")


def hostile(server, count):
    """Bytes that are nearly requests; the server answers or hangs up, and goes on."""
    rng = random.Random(5)
    valid = json.dumps({"messages": HELLO, **GREEDY, "max_tokens": 1}).encode()
    for _ in range(count):
        body = bytearray(valid)
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        status, _ = server.ask(rng.choice(["/v1/chat/completions", "/v1/completions"]), bytes(body))
        check(status in (200, 400, 503), f"{bytes(body)!r}: {status}")
    check(server.ask("/health")[0] == 200, "the server is gone")


def openai_client(server):
    import openai

    client = openai.OpenAI(base_url=f"http://{server.host}:{server.port}/v1", api_key="none")
    name = client.models.list().data[0].id
    answer = client.chat.completions.create(model=name, messages=HELLO, temperature=0, max_tokens=12)
    stream = client.chat.completions.create(model=name, messages=HELLO, temperature=0, max_tokens=12, stream=True)
    parts = "".join(part.choices[0].delta.content or "" for part in stream if part.choices)
    check(parts == answer.choices[0].message.content, f"openai: {parts!r} and {answer}")
    text = client.completions.create(model=name, prompt="Once upon", temperature=0, max_tokens=5)
    check(text.usage.completion_tokens <= 5, f"openai: {text}")
    try:
        client.chat.completions.create(model=name, messages=HELLO, n=3)
        sys.exit("api: openai: n = 3 was not refused")
    except openai.BadRequestError as error:
        check(error.param == "n", f"openai: {error}")


server = Server()
answers(server)
refusals(server)
before = server.memory()
cancelled(server)
crowd(server)
hostile(server, int(os.environ.get("REQUESTS", 300)))
grown = server.memory() - before
check(grown < 64 << 20, f"memory grew by {grown >> 20} MiB")
if "--openai" in sys.argv:
    openai_client(server)
server.stop()
server = Server(env={"POCKETGPT_API_KEY": "secret"})
for key, status in [(None, 401), ("wrong", 401), ("secret", 200)]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    check(server.ask("/v1/models", headers=headers)[0] == status, f"key {key}")
check(server.ask("/health")[0] == 200, "health needs no key")
server.stop()
print(f"api: {checks} checks, memory grew by {grown / 1e6:.1f} MB")
