"""Writes what transformers' apply_chat_template makes of the small templates of
tests/peers/chat_templates.py: expressions.json, {input, templates: [{template, text | null}]}.

    python make_expressions.py > expressions.json
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "peers"))
from chat_templates import CONVERSATIONS, EXPRESSIONS, transformers_text

messages, tools = CONVERSATIONS["a call and its answer"]
# Not what changes from day to day.
templates = [template for template in EXPRESSIONS if "strftime_now(" not in template]
texts = [transformers_text(template, messages, tools, True).get("text") for template in templates]
golden = {
    "input": {"messages": messages, "tools": tools, "add_generation_prompt": True},
    "templates": [
        {"template": template, "text": text} for template, text in zip(templates, texts)
    ],
}
print(json.dumps(golden, ensure_ascii=False, indent=1))
