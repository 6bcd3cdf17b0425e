"""The script costs a visitor on a slow phone little, although nobody minifies it."""

import gzip
from importlib import resources


def test_the_script_is_small_with_its_comments() -> None:
    script = resources.files("hitcounter.web").joinpath("static", "widget.js").read_bytes()
    assert len(gzip.compress(script)) <= 3000
