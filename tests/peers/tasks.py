"""`eval tasks` against lm-evaluation-harness: the same prompts, tokens, log-likelihoods, metrics and
standard errors, with the harness's own task files and its Hugging Face model in f32.

usage: tasks.py EVAL EXPORT MODEL_FOLDER   compares on a real model
       tasks.py --golden                   writes what eval's unit tests expect, into
                                           eval/tests/golden/tasks
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import lm_eval
import yaml
from lm_eval.tasks import TaskManager

here = os.path.dirname(os.path.abspath(__file__))
questions = os.path.join(here, "..", "..", "eval", "tests", "golden", "tasks")
theirs = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")

# Largest difference of a choice's log-likelihood, in nats.
TOLERANCE = 1e-3

GENERAL = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{query}}",
    "doc_to_choice": "choices",
    "doc_to_target": "{{gold}}",
}
LENGTHS = [
    {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_norm", "acc_bytes")
]
SUBJECTS = ["elementary_mathematics", "world_geography", "basic_biology"]


def description(subject):
    """The words of the harness's files for MMLU, with another subject's name."""
    with open(os.path.join(theirs, "mmlu/default/mmlu_abstract_algebra.yaml")) as file:
        text = yaml.safe_load(file)["description"]
    return text.replace("abstract algebra", subject.replace("_", " "))


def task(name, include, data, **more):
    """A task of the harness on a local file: its test split is `data`, its examples' `more`."""
    shots_from = more.pop("shots_from", data)
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": data, "dev": shots_from}},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "test" if shots_from == data else "dev",
        "fewshot_config": {"sampler": "first_n"},
    } | more
    if include:
        config["include"] = os.path.join(theirs, include)
    return config


def tasks(folder):
    """Our arguments and the harness's task for each comparison."""
    path = lambda name: os.path.join(questions, name)
    lengths = {"metric_list": LENGTHS}
    found = []
    for shots in (0, 3):
        arguments = ["--shots", str(shots)]
        for ours, include in (
            ("hellaswag", "hellaswag/hellaswag.yaml"),
            ("arc", "arc/arc_easy.yaml"),
            ("piqa", "piqa/piqa.yaml"),
            ("multiple-choice", None),
        ):
            general = {} if include else GENERAL
            config = task(f"{ours}-{shots}", include, path(f"{ours}.jsonl"), **lengths, **general)
            found.append((path(f"{ours}.jsonl"), arguments, [config | {"num_fewshot": shots}]))
    # One file of the harness for each subject.
    for shots in (0, 2):
        configs = []
        for subject in SUBJECTS:
            parts = []
            for part in ("mmlu", "mmlu-dev"):
                parts.append(os.path.join(folder, f"{part}-{subject}.jsonl"))
                with open(path(f"{part}.jsonl")) as whole, open(parts[-1], "w") as out:
                    out.writelines(line for line in whole if json.loads(line)["subject"] == subject)
            configs.append(
                task(
                    f"mmlu-{subject}-{shots}",
                    "mmlu/default/_default_template_yaml",
                    parts[0],
                    shots_from=parts[1],
                    description=description(subject),
                    num_fewshot=shots,
                )
            )
        arguments = ["--shots", str(shots), "--shots-from", path("mmlu-dev.jsonl")]
        found.append((path("mmlu.jsonl"), arguments, configs))
    # A chat, and a context that is too short for the examples.
    chat = task("arc-chat", "arc/arc_easy.yaml", path("arc.jsonl"), num_fewshot=1, **lengths)
    found.append((path("arc.jsonl"), ["--shots", "1", "--chat"], [chat]))
    short = task("piqa-short", "piqa/piqa.yaml", path("piqa.jsonl"), num_fewshot=3, **lengths)
    found.append((path("piqa.jsonl"), ["--shots", "3", "--context", "40"], [short]))
    # Generated answers.
    kwargs = {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "temperature": 0.0}
    gsm8k = task(
        "gsm8k-2",
        "gsm8k/gsm8k.yaml",
        path("gsm8k.jsonl"),
        num_fewshot=2,
        generation_kwargs=kwargs | {"max_gen_toks": 80},
    )
    found.append((path("gsm8k.jsonl"), ["--shots", "2", "--max-tokens", "80"], [gsm8k]))
    with open(path("generate.jsonl")) as file:
        patterns = {}
        for line in file:
            patterns.setdefault(json.loads(line)["pattern"], []).append(line)
    configs = []
    for index, (pattern, lines) in enumerate(patterns.items()):
        part = os.path.join(folder, f"generate-{index}.jsonl")
        with open(part, "w") as out:
            out.writelines(lines)
        regex = {"function": "regex", "regex_pattern": pattern}
        configs.append(
            task(
                f"generate-{index}",
                None,
                part,
                output_type="generate_until",
                doc_to_text="{{prompt}}",
                doc_to_target="{{answer}}",
                generation_kwargs={"until": ["\n\n"], "do_sample": False, "max_gen_toks": 16},
                filter_list=[{"name": "regex", "filter": [regex, {"function": "take_first"}]}],
                metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
                num_fewshot=0,
            )
        )
    found.append((path("generate.jsonl"), ["--max-tokens", "16"], configs))
    return found


def harness(model, configs, folder, chat=False):
    """The harness's results and samples of some tasks, joined in the order of their questions."""
    for config in configs:
        with open(os.path.join(folder, f"{config['task']}.yaml"), "w") as file:
            yaml.safe_dump(config, file)
    manager = TaskManager(include_path=folder, include_defaults=False)
    return lm_eval.simple_evaluate(
        model=model,
        tasks=[config["task"] for config in configs],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=1,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        confirm_run_unsafe_code=True,
    )


def is_of(sample, doc):
    """Whether a sample is of our record: the harness adds fields, and makes numbers of labels."""
    return all(str(sample["doc"].get(name)) == str(value) for name, value in doc.items())


def spread(right):
    """Mean and standard error of a list of 0 and 1."""
    n, mean = len(right), sum(right) / len(right)
    return mean, math.sqrt(sum((x - mean) ** 2 for x in right) / (n - 1)) / math.sqrt(n)


def compare(ours, report, found, label):
    """Refuses any difference; returns the largest of the log-likelihoods."""
    samples = [sample for part in found["samples"].values() for sample in part]
    filters = {sample["filter"] for sample in samples}
    largest, same_text, texts = 0.0, 0, 0
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    for place in sorted(filters):
        chosen = [sample for sample in samples if sample["filter"] == place]
        rights = {}
        with open(ours["file"]) as file:
            docs = [json.loads(line) for line in file]
        assert len(ours["samples"]) == len(docs), f"{label}: {len(ours['samples'])} samples"
        for doc, mine in zip(docs, ours["samples"]):
            sample = next(sample for sample in chosen if is_of(sample, doc))
            context = sample["arguments"][0][0]
            assert mine["context"] == context, f"{label}: {mine['context']!r}, lm-eval {context!r}"
            if "log_likelihoods" in mine:
                answers, greedy = map(list, zip(*sample["filtered_resps"]))
                assert len(answers) == len(mine["log_likelihoods"]), label
                for a, b in zip(answers, mine["log_likelihoods"]):
                    assert abs(a - b) <= TOLERANCE, f"{label}: {mine['context']!r}: {b}, lm-eval {a}"
                    largest = max(largest, abs(a - b))
                assert greedy == mine["is_greedy"], f"{label}: {mine['context']!r}: greedy"
                for name in ("acc", "acc_norm", "acc_bytes"):
                    if name in sample:
                        rights.setdefault(name, []).append(sample[name])
            else:
                texts += 1
                same_text += mine["generated"] == sample["resps"][0][0]
                rights.setdefault(f"exact_match,{place}", []).append(sample["exact_match"])
        for name, right in rights.items():
            value, error = spread(right)
            got = metrics[name]
            assert got["value"] == value, f"{label}: {name} {got['value']}, lm-eval {value}"
            assert abs(got["standard_error"] - error) < 1e-12, f"{label}: {name}'s error"
        # The harness's own figures, where its tasks are not parts of our file.
        if len(found["results"]) == 1:
            result = next(iter(found["results"].values()))
            for name, got in metrics.items():
                key = name if "," in name else f"{name},none"
                if key in result:
                    assert abs(result[key] - got["value"]) < 1e-12, f"{label}: {key}"
                    plain, _, rest = key.partition(",")
                    error = result[f"{plain}_stderr,{rest}"]
                    assert abs(error - got["standard_error"]) < 1e-12, f"{label}: {key}'s error"
    assert same_text == texts, f"{label}: {texts - same_text} of {texts} generated texts differ"
    return largest


def run_ours(program, model, file, arguments, folder):
    log, report = (os.path.join(folder, name) for name in ("log.jsonl", "report.json"))
    command = [*program, "tasks", "--model", model, *arguments, file, "--force"]
    subprocess.run(
        [*command, "--log-samples", log, "--report", report],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    with open(log) as lines:
        samples = [json.loads(line) for line in lines]
    with open(report) as text:
        return {"file": file, "samples": samples}, json.load(text)["results"][0]


def write_tokenizer(path):
    """A small byte-level BPE that puts `<s>` before a text, learnt from the questions."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    files = sorted(name for name in os.listdir(questions) if name.endswith(".jsonl"))
    tokenizer.train([os.path.join(questions, name) for name in files], trainer)
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", begin)]
    )
    tokenizer.save(path)


def golden():
    """Prompts and tokens of some questions, for eval/src/tasks/encode_tests.rs."""
    from lm_eval.models.huggingface import HFLM
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    length = 48
    tokenizer_file = os.path.join(questions, "tokenizer.json")
    write_tokenizer(tokenizer_file)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=tokenizer_file, bos_token="<s>", eos_token="</s>"
        )
        sizes = {"n_positions": length, "n_embd": 8, "n_layer": 1, "n_head": 1}
        network = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes))
        model = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=1)
        written = []
        for file, arguments, configs in tasks(folder):
            if configs[0].get("output_type") == "generate_until" or "gsm8k" in file:
                continue
            if "--chat" in arguments or "--context" in arguments:
                continue
            found = harness(model, configs, folder)
            with open(file) as lines:
                docs = [json.loads(line) for line in lines]
            kept = []
            for part in found["samples"].values():
                # Every third, so that the file stays small.
                for sample in part[::3]:
                    number = 1 + next(i for i, doc in enumerate(docs) if is_of(sample, doc))
                    pairs = [tuple(pair) for pair in sample["arguments"]]
                    choices = []
                    for context, continuation in pairs:
                        if context:
                            before, own = model._encode_pair(context, continuation)
                        else:
                            own = model.tok_encode(continuation, add_special_tokens=False)
                            before = [model.prefix_token_id]
                        read = (before + own)[-(length + 1) :][:-1]
                        choices.append({"context": before, "continuation": own, "read": read})
                    kept.append({"number": number, "context": pairs[0][0], "choices": choices})
            task = {"file": os.path.basename(file), "shots": int(arguments[1])}
            if "--shots-from" in arguments:
                task["shots_from"] = os.path.basename(arguments[3])
            written.append(task | {"questions": kept})
    with open(os.path.join(questions, "golden.json"), "w") as out:
        json.dump({"context_length": length, "tasks": written}, out, ensure_ascii=False)
        out.write("\n")


def main(program, export, model_folder):
    import torch
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory() as folder:
        gguf = os.path.join(folder, "model-F32.gguf")
        subprocess.run(
            [export, "--input", model_folder, "--type", "F32", "--output", gguf],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        passed = 0
        for file, arguments, configs in tasks(folder):
            length = {"max_length": 40} if "--context" in arguments else {}
            # Padding changes nothing in f32, but generated texts are made one by one.
            batch = 1 if "--max-tokens" in arguments else 8
            model = HFLM(
                pretrained=model_folder, dtype=torch.float32, device="cpu", batch_size=batch, **length
            )
            before = time.time()
            found = harness(model, configs, folder, "--chat" in arguments)
            seconds = time.time() - before
            name = " ".join([os.path.basename(file), *arguments])
            for path, engine in ((model_folder, "reference"), (gguf, "llama")):
                ours, report = run_ours([program], path, file, [*arguments, "--engine", engine], folder)
                largest = compare(ours, report, found, f"{name} {engine}")
                figures = ", ".join(f"{m['name']} {m['value']:.4f}" for m in report["metrics"])
                print(
                    f"{name} {engine}: {figures}; log-likelihoods within {largest:.1e}; "
                    f"{report['seconds']:.1f} s, lm-eval {seconds:.1f} s"
                )
                passed += 1
        print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    if sys.argv[1] == "--golden":
        golden()
    else:
        main(*sys.argv[1:4])
