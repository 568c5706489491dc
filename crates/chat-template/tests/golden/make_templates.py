"""Writes the chat templates of four families and what transformers' apply_chat_template makes of
them: templates.json, a list of {name, template, bos_token, eos_token, messages, rendered | error}.

    python make_templates.py > templates.json
"""

import json

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

TEMPLATES = {
    "zephyr (TinyLlama)": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
        "{% endfor %}",
        "<s>",
        "</s>",
    ),
    "chatml (Qwen2)": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        None,
        "<|im_end|>",
    ),
    "llama-3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
        "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
        "{% endif %}",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
        "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
        "{% endfor %}",
        "<s>",
        "</s>",
    ),
    "python methods": (
        "{%- if messages[0].role == 'system' %}\n    {{- messages[0].content.strip().upper() }}\n"
        "    {%- set messages = messages[1:] %}\n{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- set parts = message['content'].split(' ') %}\n"
        "    {{- loop.index0 ~ ':' ~ parts | length ~ ' ' ~ message | tojson }}\n"
        "    {%- if message.content.startswith('a') %}\n        {{- ' starts' }}\n    {%- endif %}\n"
        "    {%- generation %}\n    {%- endgeneration %}\n"
        "{%- endfor %}\n"
        "{%- if tools is not none %}tools{% endif %}\n"
        "  {% if add_generation_prompt %}\n  go\n  {% endif %}\n",
        "<s>",
        "</s>",
    ),
}

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "Be <brief> & kind.\n"), ("user", "  Hi  "), ("assistant", "Hello!"), ("user", "a b")],
    [("user", "déjà vu 日本 \"x\""), ("assistant", "🦀"), ("user", "a")],
]


def cases():
    for name, (template, bos, eos) in TEMPLATES.items():
        peer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
        peer.bos_token, peer.eos_token, peer.chat_template = bos, eos, template
        for conversation in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in conversation]
            case = {"name": name, "template": template, "bos_token": bos, "eos_token": eos}
            case["messages"] = messages
            try:
                case["rendered"] = peer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            except Exception as error:
                case["error"] = str(error)
            yield case


print(json.dumps(list(cases()), ensure_ascii=False, indent=1))
