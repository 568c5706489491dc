"""The names of output that is being written, and of a folder that is being replaced."""
import re
from pathlib import Path

MARK = re.compile(r"\.(?P<name>.+)\.(pocketgpt-tmp-\d+-[A-Za-z0-9]{6}|replaced-by-pocketgpt)$")


def is_leftover(path):
    return any(MARK.match(name) for name in Path(path).parts)
