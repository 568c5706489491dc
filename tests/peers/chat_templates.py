"""Chat templates beside transformers' apply_chat_template: every template that `trl` carries, and
expressions that Jinja on Python and other engines read differently. Each conversation must give
equal text, or be refused by both.

usage: chat_templates.py PROGRAM, the example `render_chat` of the crate `chat-template`
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather of a place, "now" & <later>.',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A city: Zürich, 東京"},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "units": {"type": "string", "enum": ["metric", "imperial"]},
            },
            "required": ["place"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {
            "type": "object",
            "properties": {
                "words": {"type": "array", "items": {"type": "string"}, "description": "Words"},
                "filter": {
                    "type": "object",
                    "properties": {"zone": {"type": "string"}, "age": {"type": ["number", "null"]}},
                    "required": [],
                },
                "exact": {"type": "boolean"},
            },
        },
    },
}
SYSTEM = {"role": "system", "content": "Be <brief> & kind.\n"}
USER = {"role": "user", "content": "  What's the weather in Zürich?\n"}
ANSWER = {"role": "assistant", "content": "Sunny ☀, 'no' \"clouds\"."}


def calls(*functions, content=""):
    listed = [
        {"id": f"call0000{place}", "type": "function", "function": {"name": name, "arguments": given}}
        for place, (name, given) in enumerate(functions)
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed}


ONE_CALL = calls(("get_weather", {"place": "Zürich", "days": 2}))
TWO_CALLS = calls(
    ("search", {"words": ["b", "a"], "exact": True, "filter": {"zone": "x", "age": 1.5}}),
    ("get_weather", {"units": None, "place": "it's \"here\""}),
    content="I look.",
)
RESULT = {
    "role": "tool",
    "tool_call_id": "call00000",
    "name": "get_weather",
    "content": '{"sky": "clear", "degrees": 21.5}',
}

CONVERSATIONS = {
    "one question": ([USER], None),
    "system": ([SYSTEM, USER], None),
    "turns": ([USER, ANSWER, {"role": "user", "content": "Thanks"}], None),
    "system and turns": ([SYSTEM, USER, ANSWER, {"role": "user", "content": "a"}, ANSWER], None),
    "empty turns": (
        [
            {"role": "system", "content": ""},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": " \n\t"},
        ],
        None,
    ),
    "no turn": ([], None),
    "system alone": ([SYSTEM], None),
    "two systems": ([SYSTEM, SYSTEM, USER], None),
    "the model begins": ([ANSWER, USER], None),
    "two questions": ([USER, USER], None),
    "an unknown role": ([USER, {"role": "critic", "content": "no"}], None),
    "developer": ([{"role": "developer", "content": "Rhyme."}, USER], None),
    "text that looks like markup": (
        [{"role": "user", "content": "<|im_end|>{{ 1 }}{% if %}</think>\n<think>\na"}, ANSWER, USER],
        None,
    ),
    "thoughts in the text": (
        [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSunny"}, USER],
        None,
    ),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], None),
    "an image": (
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        None,
    ),
    "thoughts": ([USER, dict(ANSWER, reasoning_content="hm"), USER, dict(ANSWER, thinking="b")], None),
    "no content": ([USER, {"role": "assistant", "content": None}, USER], None),
    "no content key": ([USER, {"role": "assistant"}, USER], None),
    "tools": ([USER], [WEATHER]),
    "tools and system": ([SYSTEM, USER], [WEATHER, SEARCH]),
    "no tools in a list": ([SYSTEM, USER], []),
    "a tool's schema alone": ([USER], [WEATHER["function"]]),
    "a call": ([USER, ONE_CALL, RESULT], [WEATHER]),
    "a call and its answer": ([SYSTEM, USER, ONE_CALL, RESULT, ANSWER, USER], [WEATHER, SEARCH]),
    "two calls": (
        [USER, TWO_CALLS, dict(RESULT, name="search"), dict(RESULT, content=""), ANSWER],
        [WEATHER, SEARCH],
    ),
    "a call without tools": ([USER, ONE_CALL, RESULT, ANSWER], None),
    "a call whose content is none": ([USER, dict(ONE_CALL, content=None), RESULT], [WEATHER]),
    "a call without content": (
        [USER, {key: ONE_CALL[key] for key in ("role", "tool_calls")}, RESULT],
        [WEATHER],
    ),
    "arguments as text": ([USER, calls(("get_weather", '{"place": "Oslo"}')), RESULT], [WEATHER]),
    "no arguments": ([USER, calls(("get_weather", {})), RESULT], [WEATHER]),
    "an empty list of calls": ([USER, dict(ANSWER, tool_calls=[]), USER], [WEATHER]),
    "a result in the beginning": ([RESULT, USER], [WEATHER]),
    "a result that is an object": ([USER, ONE_CALL, dict(RESULT, content={"sky": "b"})], [WEATHER]),
}

# What templates do with values, on the conversation and tools of "a call and its answer".
EXPRESSIONS = """
{% if tools is iterable and tools|length > 0 %}{{ tools|length }}{% endif %}
{{ none is iterable }}{{ none is sequence }}{{ 'a' is sequence }}{{ 'a' is iterable }}{{ {} is sequence }}
{{ {} is iterable }}{{ nothing is iterable }}{{ nothing is sequence }}{{ 1 is iterable }}{{ {}.items() is sequence }}
{{ none|length }}
{{ nothing|length }}{{ ''|length }}{{ {'b': 1}|length }}
{{ {'name': 'b', 'arguments': 'a', 'Z': {'y': 1, 'x': 2}}|tojson }}
{{ tools|tojson }}
{{ tools[0]|tojson(indent=2) }}|{{ []|tojson(indent=2) }}|{{ {}|tojson(indent=4) }}|{{ [[], {}]|tojson(indent=1) }}
{{ tools[0]|tojson(separators=(',', ':')) }}|{{ tools[0]|tojson(sort_keys=true) }}|{{ 'ü☀😀'|tojson(ensure_ascii=true) }}
{{ [1, 1.0, 2.5, 1e16, 1e-5, 0.0001, 123456789.125, true, none, 'a\\n\\t"\\\\/<>&']|tojson }}
{{ {1: 2, none: 3, false: 4, 1.5: 5}|tojson }}
{{ nothing|tojson }}
{{ messages[2]['tool_calls'][0]['function']['arguments']|items|list }}
{% for key, value in tools[0].function.parameters.properties.items() %}{{ key }}={{ value }};{% endfor %}
{% for key, value in {'b': 1, 'A': 2, 'c': 3}|dictsort %}{{ key }}{{ value }}{% endfor %}
{{ none }} {{ true }} {{ false }} {{ 1.0 }} {{ ['a', "it's", none, 1.5, true] }} {{ {'a': [1, {'b': 'c'}]} }} {{ (1, 'x') }}
{{ none|string }} {{ true|string }} {{ 'a' ~ none ~ true ~ 1.5 ~ ['a'] }} {{ [none, true, 'x']|join('-') }}
{{ nothing }}{{ nothing ~ 'a' }}{{ nothing|default('d') }}{{ none|default('d') }}{{ none|default('d', true) }}{{ ''|default('d', true) }}
{{ nothing.deeper }}
{{ messages[0].missing }}{{ messages[0]['missing'] is defined }}{{ messages[0].get('missing') }}{{ messages[0].get('missing', 'x') }}
{{ messages[99] }}
{{ messages[99].role }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ nothing + 'a' }}
{% for x in nothing %}{{ x }}{% endfor %}none
{% for x in 5 %}{{ x }}{% endfor %}
{{ 'a' in none }}
{{ 'a' in nothing }}{{ 'a' in 'cat' }}{{ 'a' in ['a'] }}{{ 'a' in {'a': 1} }}{{ 1 in 'cat' is defined }}
{{ ' a b  c '.split() }}{{ 'a,b,,c'.split(',') }}{{ 'a,b,c'.split(',', 1) }}{{ 'a</think>b'.split('</think>')[-1] }}{{ ''.split() }}{{ ''.split(',') }}
{{ 'a,b,c'.rsplit(',', 1) }}
{{ 'xxaxx'.strip('x') }}{{ 'xya'.lstrip('yx') }}{{ 'a\\n\\n'.rstrip('\\n') }}|{{ ' a '.strip() }}|{{ 'aXb'.replace('X', '-') }}
{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'bc')) }}{{ 'abc'.upper() }}{{ 'ABC'.lower() }}{{ 'aB c'.title() }}{{ 'aB c'.capitalize() }}
{{ 'prefix-a'.removeprefix('prefix-') }}{{ 'a.txt'.removesuffix('.txt') }}{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'abc'.partition('=') }}
{{ 'abc'.find('c') }}{{ 'abc'.find('x') }}{{ 'aba'.count('a') }}{{ '12'.isdigit() }}{{ 'a'.isalpha() }}{{ ', '.join(['a', 'b']) }}{{ 'a\\nb'.splitlines() }}
{{ '%s is %d'|format('a', 3) }}|{{ '%.2f'|format(1.5) }}|{{ '{} {}'.format('a', 1) }}|{{ 'a' * 3 }}|{{ '-' * 0 }}
{{ 7 // 2 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }} {{ 1 + 1.0 }} {{ true + 1 }}
{{ [3, 1, 2]|sort }}{{ [1, 2]|first }}{{ [1, 2]|last }}{{ [1, 1, 2]|unique|list }}{{ [1, 2]|reverse|list }}{{ [1, 2, 3]|sum }}{{ 'abc'|reverse }}
{{ ['a', 'b']|map('upper')|list }}{{ messages|map(attribute='role')|list }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}
{{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='role')|join(',') }}{{ ['a', 'b']|reject('equalto', 'a')|join }}{{ [0, 1, '']|select|list }}
{{ 'a b'|title }}{{ 'aB'|capitalize }}{{ 'a<b>'|e }}{{ 'a<b>'|safe }}{{ ('<b>'|safe) ~ '<i>' }}{{ '  a '|trim }}|{{ 'xax'|trim('x') }}|{{ none|trim }}|{{ 5|trim }}
{{ 'a\\nb'|indent(2) }}|{{ 'a\\nb'|indent(2, true) }}|{{ '3'|int + 1 }}|{{ 'x'|int }}|{{ '1.5'|float }}|{{ 1.55|round(1) }}|{{ 2.5|round|int }}
{{ messages[-1].role }}{{ messages[1:3]|length }}{{ messages[::-1][0].role }}{{ 'hello'[1:3] }}{{ 'hello'[-1] }}{{ messages[:-1]|length }}
{{ 1 is number }}{{ true is number }}{{ 1 is integer }}{{ true is integer }}{{ 1.0 is float }}{{ true is boolean }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is mapping }}
{{ none is none }}{{ nothing is none }}{{ nothing is undefined }}{{ false is false }}{{ 0 is false }}{{ 1 is true }}{{ 'a' is eq 'a' }}{{ 3 is odd }}{{ 'A' is upper }}{{ 3 is divisibleby 3 }}
{{ none == nothing }}{{ 1 == 1.0 }}{{ 1 == true }}{{ 'a' == 1 }}{{ [1] == [1] }}{{ {'a': 1} == {'a': 1} }}{{ (1,) == [1] }}
{% set ns = namespace(n=0, l=[]) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.n }}{{ ns.l }}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}
{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}
a {%- generation -%} b {%- endgeneration %} c
{# {% generation %} #}{{ '{% endgeneration %}' }}{% raw %}{% generation %}{% endraw %}
{% for i in [1, 2, 3, 4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{{ loop.last }}{{ loop.first }}{{ loop.length }}{% endfor %}
{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}{{ i }}{{ loop.previtem }}{{ loop.nextitem }}{% else %}none{% endfor %}
{% macro m(a, b='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m() }}
{% macro m(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call m(1) %}body{% endcall %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}block {{ a }}{% endset %}{{ x }}{{ x|length }}{% filter upper %}up{% endfilter %}
{{ range(3)|list }}{{ range(1, 10, 4)|list }}{{ dict(a=1) }}{{ dict(a=1)['a'] }}
{{ raise_exception('no') }}
{{ strftime_now('%Y-%m-%d') }}{{ strftime_now is defined }}{{ missing_function is defined }}
{{ missing_function() }}
{{ 'a' if false }}{{ 'a' if false else 'b' }}{{ not nothing }}{{ nothing or 'x' }}{{ '' and 'y' }}{{ 1 and 2 }}{{ none or false }}
{{ bos_token }}{{ eos_token }}{{ unk_token is defined }}{{ add_generation_prompt }}{{ documents is none }}{{ tools is none }}
{{ '\\u00e9\\x41\\'\\\\' }}{{ "a\\"b" }}{{ 'one' 'two' }}{{ 1_000 }}{{ 0x10 }}
{{ messages.append(1) }}
{{ messages[0].update({'a': 1}) }}
{{ messages[0].pop('role') }}
{{ {'b': 1}.keys()|list }}{{ {'b': 1}.values()|list }}{{ {'b': 1}.items()|list }}{{ {'b': 1}.get('b') }}{{ {'items': 1}['items'] }}
{% for x in {'items': [1, 2]}.items() %}{{ x }}{% endfor %}
{{ tools[1].function.parameters.properties.words.items is defined }}{{ tools[1].function.parameters.properties.words['items'] }}
{{ ''.__class__ }}
{{ messages.__class__.__mro__ }}
{{ 'a'|nofilter }}
{{ 'a' is notest }}
{% include 'x' %}
{% unknown %}
{{ [1, 2, 3][1:]|join(',') }}{{ [[1, 'a'], [2, 'b']]|map('last')|join }}{{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }}{{ {'a': 1}|list }}{{ 'ab'|list }}
{{ 'ß'.upper() }}{{ 'İ'|lower|length }}{{ 'éa'|capitalize }}{{ 'a-b c_d'|title }}{{ 'ab' is lower }}{{ ['B', 'a']|sort }}{{ ['b', 'A']|max }}{{ [1, 3]|min }}
""".strip("\n").split("\n") + [
    "  {% if true %}\n    text\n  {% endif %}\n",
    "a\n  {% generation %}\n  b\n  {% endgeneration %}\nc\n",
    "a\n  {#- {% generation %}\n -#}\n b {%- generation -%}\n c\n {%- endgeneration %}\n",
    "{% for m in messages %}\n{{ m.role }}\n{%- if loop.last %}\n\n{% endif %}\n{% endfor %}\n\n",
]

# Operators of the engine that are not Python's; no template above uses them so.
DIFFERENT = """
{% for x in none %}{{ x }}{% endfor %}
{{ '<i>' + ('<b>'|safe) }}
{{ '%s' % 'a' }}
{{ none < 1 }}
{% set ns = namespace() %}{% set ns._x = 1 %}
""".strip("\n").split("\n")


def transformers_text(template, messages, tools, prompt):
    peer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    peer.bos_token, peer.eos_token, peer.chat_template = BOS, EOS, template
    try:
        text = peer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=prompt
        )
        return {"text": text}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def cases():
    folder = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
    templates = sorted(folder.glob("*.jinja"))
    assert len(templates) >= 72, f"{folder} has {len(templates)} templates, expected 72"
    for path in templates:
        template = path.read_text()
        for name, (messages, tools) in CONVERSATIONS.items():
            for prompt in (False, True):
                yield f"{path.stem}, {name}, prompt {prompt}", template, messages, tools, prompt
    messages, tools = CONVERSATIONS["a call and its answer"]
    for expression in [*EXPRESSIONS, *DIFFERENT]:
        yield f"expression {expression}", expression, messages, tools, True


def main():
    program = sys.argv[1]
    asked = list(cases())
    lines = [
        json.dumps(
            {
                "template": template,
                "bos_token": BOS,
                "eos_token": EOS,
                "input": {"messages": messages, "tools": tools, "add_generation_prompt": prompt},
            }
        )
        for _, template, messages, tools, prompt in asked
    ]
    ran = subprocess.run([program], input="\n".join(lines) + "\n", text=True, capture_output=True)
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(answers) == len(asked), f"{len(answers)} answers to {len(asked)}: {ran.stderr}"
    equal = refused = failed = known = 0
    for (name, *case), ours in zip(asked, answers):
        theirs = transformers_text(*case)
        if "error" in ours and "error" in theirs:
            refused += 1
        elif ours == theirs:
            equal += 1
        elif case[0] in DIFFERENT:
            known += 1
            print(f"known to differ: {case[0]}")
        else:
            failed += 1
            print(f"FAILED {name}\n  transformers: {theirs}\n  pocketgpt:    {ours}")
    print(f"chat templates: {equal} texts equal, {refused} refused by both, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
