"""Names of what is being written or removed: whoever runs next removes it."""
import re
from pathlib import Path

# Output that is being written, and a folder that is being replaced.
MARK = re.compile(r"\.(?P<name>.+)\.(pocketgpt-tmp-\d+-[A-Za-z0-9]{6}|replaced-by-pocketgpt)$")
# In a run folder, which only training writes into.
OF_RUN = re.compile(r"\.rehearsal-[A-Za-z0-9]{6}$|\.removed-[a-z0-9-]+$|\.(?P<name>tokens\.bin)\.new$")


def target(name):
    """The name that an output is to get, from the one that it has while it is written."""
    mark = MARK.match(name) or OF_RUN.match(name)
    return mark["name"] or name if mark else name


def is_leftover(path):
    return any(MARK.match(name) or OF_RUN.match(name) for name in Path(path).parts)
