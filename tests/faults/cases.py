"""The commands that write, each with what it reads, what it replaces and what may differ."""
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from leftovers import is_leftover

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = str(ROOT / "configs/tiny.toml")
# A vocabulary of 300 tokens: 36,096 parameters, half a second.
SMALL = ["data.tokenizer=trained", "data.vocab_size=300", "model.n_embd=32", "model.context_length=32",
         "data.context=32"]


def settings(*more, own_tokenizer=True):
    small = SMALL if own_tokenizer else SMALL[2:]
    return [word for setting in [*small, *more] for word in ("--set", setting)]


@dataclass
class Case:
    """One command. Paths are relative to the working folder."""

    name: str
    command: list
    outputs: list  # files and folders that must be the old or the new one
    inputs: list = field(default_factory=list)  # of the fixture, copied before each run
    old: list = field(default_factory=list)  # commands that make the old outputs
    between: list = field(default_factory=list)  # (command, stdin) that give other whole outputs
    free: list = field(default_factory=list)  # patterns of what it may make or change besides
    varying: list = field(default_factory=list)  # patterns of files that differ from run to run
    again: list = None  # the second command, where it is not the same
    stdin: str = ""
    slow: bool = False  # takes more than a second
    faults: tuple = ("kill", "EIO", "ENOSPC")
    extra: object = staticmethod(lambda check, tree: ())

    def calls_of(self, most):
        return most if most is None or not self.slow else max(3, most // 2)


class Fixture:
    """What the cases read: a model that trains in half a second, and files made from it."""

    def __init__(self, runner, folder):
        self.runner, self.folder = runner, folder
        runner.work.mkdir(parents=True)
        (runner.work / "text.txt").write_text("The clock struck, and every effort moved the lamp a little. " * 60)
        (runner.work / "mine.txt").write_text("somebody's own file\n")
        self.made = {}
        for command in self.commands():
            self.do(command)
        shutil.copytree(runner.work, folder, symlinks=True)

    def do(self, command, stdin=""):
        code, errors, _ = self.runner.run(command, stdin=stdin)
        if code != 0:
            raise SystemExit(f"faults: {' '.join(command)}: {errors}")

    def commands(self):
        yield ["train", "--config", TINY, *settings("run.dir=run")]
        yield ["train", "--config", TINY, *settings("run.dir=lora", "train.init_from=run", "lora.rank=2",
                                                         own_tokenizer=False)]
        yield ["export", "--input", "run", "--output", "model.gguf"]
        yield ["quantize", "--input", "model.gguf", "--bits", "8", "--output", "q8.gguf"]
        yield ["fragment", "split", "--input", "q8.gguf", "--output", "pieces"]
        yield ["eval", "--checkpoint", self.checkpoint(), "--f32", "model.gguf", "--quantized", "q8.gguf", "--output", "judged.json"]
        yield ["bundle", "pack", "--variant", "Q8_0=pieces", "--tokenizer", self.tokenizer(), "--license", "MIT",
               "--no-app", "--release", "1", "--output", "packed"]
        yield ["bundle", "pack", "--variant", "Q8_0=pieces", "--tokenizer", self.tokenizer(), "--license", "MIT",
               "--output", "with-app"]
        yield ["bundle", "keygen", "--output", "key.pem"]
        yield ["bundle", "keygen", "--output", "next.pem"]

    def tokenizer(self):
        return self.checkpoint() + "/tokenizer.json"

    def adapter(self):
        return "lora/checkpoints/step-000012/adapter"

    def checkpoint(self):
        return "run/checkpoints/step-000012"

    def before(self, case):
        """The folder as a case finds it: its inputs, and old outputs where it replaces some."""
        folder = self.folder.parent / "before"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.runner.work, ignore_errors=True)
        self.runner.work.mkdir()
        for name in [*case.inputs, "mine.txt"]:
            source, target = self.folder / name, self.runner.work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
        for command in case.old:
            self.do(command)
        shutil.copytree(self.runner.work, folder, symlinks=True)
        return folder

    def cases(self):
        """Every command twice where it replaces: into new folders, and over an older output."""
        for case in self.replacing():
            yield Case(**{**vars(case), "old": []})
            yield Case(**{**vars(case), "name": case.name + ", over an old one"})
        yield from self.others()

    def replacing(self):
        encode = ["data", "encode", "text.txt", "--output", "new/tokens.bin"]
        yield Case("data encode", encode + ["--force"], ["new/tokens.bin"], ["text.txt"],
                   [["data", "encode", "mine.txt", "--output", "new/tokens.bin"]])
        train = lambda size: ["data", "train-tokenizer", "--input", "text.txt", "--vocab-size", size, "--output", "new/t.json"]
        yield Case("data train-tokenizer", train("280") + ["--force"], ["new/t.json"], ["text.txt"], [train("270")])
        gguf = ["export", "--input", "run", "--output", "new/m.gguf"]
        yield Case("export", gguf + ["--force"], ["new/m.gguf"], ["run"], [gguf + ["--type", "F16"]], free=["run/.lock"])
        folder = ["export", "--input", "run", "--to", "huggingface", "--output", "new/hf"]
        yield Case("export to a folder", folder + ["--force"], ["new/hf"], ["run"],
                   [["export", "--input", "run/checkpoints/step-000006", "--to", "huggingface", "--output", "new/hf"]],
                   free=["run/.lock"])
        merge = ["export", "--input", "run", "--merge-lora", self.adapter(), "--output", "new/m.gguf"]
        yield Case("export --merge-lora", merge + ["--force"], ["new/m.gguf"], ["run", "lora"], [gguf],
                   free=["run/.lock", "lora/.lock"])
        bits = lambda n: ["quantize", "--input", "model.gguf", "--bits", n, "--output", "new/q.gguf"]
        yield Case("quantize", bits("8") + ["--force"], ["new/q.gguf"], ["model.gguf"], [bits("4")])
        search = lambda n: ["quantize", "--input", "model.gguf", "--target-bits", n, "--calibration", "text.txt",
                            "--output", "new/q.gguf"]
        yield Case("quantize --target-bits", search("9") + ["--force"], ["new/q.gguf", "new/q.recipe.toml"],
                   ["model.gguf", "text.txt"], [search("9.5")])
        measure = lambda *more: ["quantize", "imatrix", "--input", "model.gguf", "--text", "text.txt", "--context", "32",
                                 "--output", "new/i.gguf", *more]
        yield Case("quantize imatrix", measure("--force"), ["new/i.gguf"], ["model.gguf", "text.txt"],
                   [measure("--tokens", "64")])
        split = lambda source: ["fragment", "split", "--input", source, "--output", "new/pieces", "--max-bytes", "20000"]
        yield Case("fragment split", split("q8.gguf") + ["--force"], ["new/pieces"], ["model.gguf", "q8.gguf"],
                   [split("model.gguf")])
        join = ["fragment", "join", "--input", "pieces", "--output", "new/j.gguf"]
        yield Case("fragment join", join + ["--force"], ["new/j.gguf"], ["pieces", "model.gguf"],
                   [["quantize", "--input", "model.gguf", "--bits", "4", "--output", "new/j.gguf"]])
        pack = lambda *more: ["bundle", "pack", "--variant", "Q8_0=pieces", "--tokenizer", self.tokenizer(), "--license",
                              "MIT", "--no-app", "--output", "new/pocket", *more]
        yield Case("bundle pack", pack("--force"), ["new/pocket"], ["pieces", self.tokenizer()], [pack("--name", "old")])
        yield Case("bundle pack --zip", pack("--zip", "--force"), ["new/pocket", "new/pocket.zip"],
                   ["pieces", self.tokenizer()], [pack("--zip", "--name", "old")])
        yield Case("bundle keygen", ["bundle", "keygen", "--output", "new/k.pem", "--force"], [], [],
                   [["bundle", "keygen", "--output", "new/k.pem"]], free=[r"new(/k\.pem(\.pub)?)?"], extra=self.keys)
        sign = ["bundle", "sign", "--input", "packed", "--key"]
        yield Case("bundle sign", [*sign, "key.pem", "--force"], ["packed/bundle.sig"], ["packed", "key.pem"],
                   [["bundle", "keygen", "--output", "other.pem"], [*sign, "other.pem"]])
        yield Case("bundle rotate-key", ["bundle", "rotate-key", "--key", "key.pem", "--new-key", "next.pem.pub",
                                         "--output", "new/rotated.json", "--force"], ["new/rotated.json"],
                   ["key.pem", "next.pem.pub"],
                   [["bundle", "keygen", "--output", "other.pem"],
                    ["bundle", "rotate-key", "--key", "key.pem", "--new-key", "other.pem.pub", "--output", "new/rotated.json"]])
        revoke = lambda key: ["bundle", "revoke-key", "--key", key, "--output", "new/revoked.json"]
        yield Case("bundle revoke-key", [*revoke("key.pem"), "--force"], ["new/revoked.json"], ["key.pem", "next.pem"],
                   [revoke("next.pem")])
        static = ["bundle", "export-static", "--input", "with-app", "--output", "new/site"]
        yield Case("bundle export-static", [*static, "--force"], ["new/site"], ["with-app"],
                   [static])
        judge = ["eval", "--checkpoint", self.checkpoint(), "--f32", "model.gguf", "--quantized", "q8.gguf", "--output", "new/report.json"]
        yield Case("eval", [*judge, "--force"], ["new/report.json"], ["run", "model.gguf", "q8.gguf"],
                   [["eval", "--checkpoint", self.checkpoint(), "--f32", "model.gguf", "--output", "new/report.json"]], free=["run/.lock"])
        sweep = ["eval", "sweep", "--base", "model.gguf", "--text", "text.txt", "--context", "32", "--tokens", "128",
                 "--no-speed", "--base-logits", "new/base.kld", "--output", "new/s.json", "--markdown", "new/s.md",
                 "--plot", "new/s.pdf", "q8.gguf"]
        yield Case("eval sweep", [*sweep, "--force"], ["new/base.kld", "new/s.json", "new/s.md", "new/s.pdf"],
                   ["model.gguf", "q8.gguf", "text.txt"], [[*sweep[:-1], "model.gguf"]],
                   free=[r"new/base\.kld\.part"], varying=[r"new/s\.json"])
        draw = lambda prompt: ["generate", "temperature-plot", "--model", "run", "--prompt", prompt, "--output", "new/t.pdf"]
        yield Case("generate temperature-plot", [*draw("The"), "--force"], ["new/t.pdf"], ["run"], [draw("A")],
                   free=["run/.lock"])
        chat = lambda *more: ["generate", "chat", "--model", "run", "--plain", "--greedy", "--max-tokens", "4", "--save",
                              "new/chat.json", *more]
        yield Case("generate chat", chat("--force"), ["new/chat.json"], ["run"], [chat()], stdin="The clock\nA lamp\n",
                   between=[(chat("--force"), "The clock\n")], free=["run/.lock"])

    def others(self):
        """Commands that continue what they find."""
        run = r"run(/.*)?"
        # On a disk that stays full, training waits for room, without an end.
        faults = ("kill", "EIO", "ENOSPC-once")
        train = ["train", "--config", TINY, *settings("run.dir=run")]
        yield Case("train", train, [], [], free=[run], extra=self.checkpoints, faults=faults)
        more = ["train", "--config", TINY, *settings("run.dir=run", "train.max_steps=18"), "--resume"]
        yield Case("train --resume", more, [], ["run"], free=[run], extra=self.checkpoints, faults=faults)
        yield Case("train --force", train + ["--force"], [], ["run"], free=[run], extra=self.checkpoints, faults=faults)
        whole = ["pocketgpt", "run", "--config", TINY, *settings("run.dir=run", "quantize.recipes=[\"Q8_0\"]")]
        yield Case("pocketgpt run", whole, [], [], free=[run], extra=self.checkpoints, faults=faults, slow=True)

    def checkpoints(self, check, tree):
        """Whatever bears a name in a run folder is whole: as in the undisturbed run or as before."""
        varying = ("trainer.json", "config.toml", "metrics.jsonl", "stages.json", ".lock", "bundle.json", "MODEL_CARD.md")
        for path, value in tree.items():
            name = Path(path).name
            if is_leftover(path) or name in varying or name in ("latest", "samples.txt", "loss.pdf", "report.json"):
                continue
            if value not in (check.new.get(path), check.old.get(path)):
                yield f"{path} is {'new' if path not in check.new else 'neither the old nor the new one'}"
        latest = self.runner.work / "run/latest"
        if latest.exists():
            step = f"run/checkpoints/{latest.read_text().strip()}"
            for name in ("config.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json", "trainer.json"):
                if f"{step}/{name}" not in tree:
                    yield f"latest names {step}, which has no {name}"
        elif "run/latest" in check.old and "--force" not in check.case.command:
            yield "latest was removed"

    def keys(self, check, tree):
        """A public half belongs to its secret; a secret can be read."""
        secret = self.runner.work / "new/k.pem"
        public = self.runner.work / "new/k.pem.pub"
        if public.exists() and not secret.exists():
            yield "a public key without its secret"
        if secret.exists():
            made = subprocess.run(["openssl", "pkey", "-in", secret, "-pubout"], capture_output=True)
            if made.returncode != 0:
                yield "the secret key cannot be read"
            elif public.exists() and made.stdout.split() != public.read_bytes().split():
                yield "the public key is of another secret"

