"""What is printed as JSON reads back as the same data and steers no terminal."""

from __future__ import annotations

import json

import pytest

from tips_bench.cli.output import print_json


@pytest.mark.parametrize("text", ["abc\u202egpj.exe", "\x1b[2J", "\x9b1m", "half \ud83d", "a\u2028b", "sphère à 3 €"])
def test_it_is_the_same_data_and_prints(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({text: [text, "line\nbreak"]})
    said = capsys.readouterr().out
    assert json.loads(said) == {text: [text, "line\nbreak"]}
    assert said.replace("\n", "").isprintable()


def test_what_prints_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("sphère à 3 €")
    assert capsys.readouterr().out == '"sphère à 3 €"\n'
