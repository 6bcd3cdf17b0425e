"""How large the code is: lines that hold code, without comments, docstrings and blank lines.

`make lines` tells it of every room of the package.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

import hitcounter

PACKAGE = Path(hitcounter.__file__).parent
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_WITH_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def by_room() -> Counter[str]:
    """Count the lines of code of each room, and of the modules without one."""
    lines: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parent.name or "(no room)"
        lines[room] += _n_lines(path.read_text("utf-8"))
    return lines


def _n_lines(source: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = [token for token in tokens if token.type not in _NO_CODE]
    lines = {n for token in code for n in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines -= {*range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)}
    return len(lines)


if __name__ == "__main__":
    rooms = by_room()
    rows = [f"{n:6,}  {room}" for room, n in rooms.most_common()]
    sys.stdout.write("\n".join([*rows, f"{rooms.total():6,}  in all", ""]))
