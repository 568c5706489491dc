"""Makes data/tests/golden/records: files of records and what Python reads from them.

    python make_records.py FOLDER

Needs pyarrow. The readers are Python's json and csv, and pyarrow.parquet; expected.json holds what they
return.
"""

import csv
import gzip
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [
    {
        "text": text,
        "id": index,
        "score": index / 4,
        "good": index % 2 == 0,
        "label": ["a", "b"][index % 2],
        "maybe": None if index % 3 == 0 else f"value {index}",
        "messages": [
            {"role": "user", "content": f"question {index}"},
            {"role": "assistant", "content": text},
        ][: index % 3],
        "meta": {"source": "made", "tags": ["x"] * (index % 4)},
    }
    for index, text in enumerate(
        [
            "The sea, the sea.",
            "Gr\u00fc\u00dfe aus K\u00f6ln \u4e2d\u6587 \U0001f600",
            'a "quoted" word, and a comma\nand a second line\r\n',
            "",
            "tabs\tand\u2028separators \x00 and a NUL",
            "\ufefftext with a mark inside",
            "back\\slash",
        ]
    )
]

FLAT = ["text", "id", "label"]


def parquet(folder, name, rows, **options):
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("id", pa.int64()),
            ("score", pa.float64()),
            ("good", pa.bool_()),
            ("label", pa.string()),
            ("maybe", pa.string()),
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            ("meta", pa.struct([("source", pa.string()), ("tags", pa.list_(pa.string()))])),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / name, **options)
    return pq.read_table(folder / name).to_pylist()


def main(folder):
    expected = {}
    lines = [json.dumps(row, ensure_ascii=index % 2 == 0) for index, row in enumerate(ROWS)]
    # A byte-order mark, both kinds of line ends, empty lines.
    text = "\ufeff" + lines[0] + "\r\n\n" + "\n  \n".join(lines[1:])
    (folder / "lines.jsonl").write_bytes(text.encode())
    read = [json.loads(line) for line in text.lstrip("\ufeff").split("\n") if line.strip()]
    expected["lines.jsonl"] = read
    # Two members in one file.
    both = [gzip.compress((line + "\n").encode(), mtime=0) for line in lines[:2]]
    (folder / "members.jsonl.gz").write_bytes(b"".join(both))
    expected["members.jsonl.gz"] = read[:2]

    with pa.output_stream(str(folder / "frame.jsonl.zst"), compression="zstd") as file:
        file.write(text.encode())
    expected["frame.jsonl.zst"] = read

    (folder / "array.json").write_text(json.dumps(ROWS, indent=2))
    expected["array.json"] = json.loads((folder / "array.json").read_text())
    document = {"version": "1.0 [{", "about": {"n": [1, {"a": "]"}]}, "data": ROWS, "end": None}
    (folder / "object.json").write_text(json.dumps(document))
    expected["object.json"] = json.loads((folder / "object.json").read_text())["data"]
    (folder / "lines.json").write_text("\n".join(lines) + "\n")
    expected["lines.json"] = read

    for name, dialect in [("table.csv", "excel"), ("table.tsv", "excel-tab")]:
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, FLAT, dialect=dialect)
            writer.writeheader()
            # csv.reader refuses NUL before Python 3.11.
            writer.writerows({key: row[key] for key in FLAT} for row in ROWS)
        with open(folder / name, newline="") as file:
            expected[name] = list(csv.DictReader(file, dialect=dialect))

    for codec in ["none", "snappy", "gzip", "zstd", "lz4"]:
        name = f"{codec}.parquet"
        expected[name] = parquet(
            folder, name, ROWS, compression=codec, row_group_size=3, use_dictionary=False
        )
    name = "dictionary-v2.parquet"
    expected[name] = parquet(
        folder, name, ROWS * 3, compression="snappy", use_dictionary=True, data_page_version="2.0"
    )
    table = pa.table({"text": pa.array([b"as bytes", b"\xff\xfe"], pa.binary()), "large": pa.array(
        ["a", "b"], pa.large_string())})
    pq.write_table(table, folder / "binary.parquet")
    pq.write_table(pa.table({"text": [1, 2, 3]}), folder / "numbers.parquet")
    with open(folder / "expected.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")


main(pathlib.Path(sys.argv[1]))
