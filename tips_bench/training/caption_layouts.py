"""Where the captions of a sample stand: the layouts of webdataset, img2dataset, DataComp and Hugging Face, read as they are.

.json with "web" or "synthetic"   a string or a list of strings each; a .txt beside it does not count
.json with "caption"              the web caption, as img2dataset, DataComp and Hugging Face have it; where a .txt is there, all of it
.txt                              the web caption in the first line, synthetic ones in the others
"""

from __future__ import annotations

import json
from typing import Any

from tips_bench.training.shards import SampleFault

KINDS = ("web", "synthetic")


def stated(about: bytes | None, text: bytes | None) -> dict[str, Any]:
    """What the .json and the .txt beside an image say, with its captions under "web" and "synthetic". None: the file is not there.

    Errors: SampleFault where one of them cannot be read.
    """
    try:
        said = {} if about is None else json.loads(about)
        lines = "" if text is None else text.decode("utf-8").removesuffix("\n")
    except (ValueError, RecursionError) as error:
        raise SampleFault("broken captions") from error
    if not isinstance(said, dict):
        raise SampleFault("broken captions")
    if {*KINDS} & {*said}:
        return said
    if "caption" in said:  # the alt-text of a web page, which may have several lines
        caption = said["caption"] if text is None else lines
        return said if caption is None else said | {"web": caption}
    if text is None:
        return said
    web, *synthetic = lines.split("\n")
    return said | {"web": web} | ({"synthetic": synthetic} if synthetic else {})
