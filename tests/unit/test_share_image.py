"""The share image: its size, that it is the same for the same records, and that pages name it by a whole address only."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.leaderboard.share_image import SIZE, share_image
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.standing import Rank

RANKS = [Rank(f"model {number}", "m", number + 1.0, (number + 0.5, number + 2.0), (number, number + 1)) for number in range(9)]


@pytest.mark.parametrize("title", ["Ours", "W" * 500, "", "two\nlines \u202e $x$"])
@pytest.mark.parametrize("ranks", [[], RANKS[:1], RANKS])
def test_any_title_and_any_number_of_models_make_a_picture_of_the_size_that_readers_expect(title: str, ranks: list[Rank]) -> None:
    picture = share_image(title, "9 vision encoders on 5 tasks", ranks)
    assert Image.open(io.BytesIO(picture)).size == SIZE
    assert picture == share_image(title, "9 vision encoders on 5 tasks", ranks)


def test_a_model_without_an_interval_is_drawn_too() -> None:
    share_image("t", "", [Rank("only", "only", 1.0, (1.0, 1.0), (1, 1))])


def test_a_long_name_stays_left_of_the_intervals() -> None:
    def pixels(label: str) -> bytes:
        picture = share_image("t", "", [Rank(label, "m", 1.0, (1.0, 2.0), (1, 1))])
        return Image.open(io.BytesIO(picture)).crop((490, 200, 1200, 630)).tobytes()

    assert pixels("a" * 300) == pixels("b")


def test_pages_name_the_image_by_the_address_of_the_site_if_it_is_known(tmp_path: Path) -> None:
    write_record(tmp_path / "r", "pixels", 0.5)
    build([tmp_path / "r"], tmp_path / "site")
    assert "og:image" not in (tmp_path / "site" / "index.html").read_text()
    build([tmp_path / "r"], tmp_path / "site", address="https://example.org/board")
    for page in ("index.html", "models/pixels.html"):
        text = (tmp_path / "site" / page).read_text()
        assert '<meta property="og:image" content="https://example.org/board/share.png">' in text
        assert f'<meta property="og:url" content="https://example.org/board/{page}">' in text


def test_every_page_links_to_where_a_result_is_submitted_if_that_is_told(tmp_path: Path) -> None:
    write_record(tmp_path / "r", "pixels", 0.5)
    build([tmp_path / "r"], tmp_path / "site")
    assert "Submit" not in (tmp_path / "site" / "index.html").read_text()
    build([tmp_path / "r"], tmp_path / "site", submit="https://example.org/new?to=board&kind=result")
    for page in ("index.html", "models/pixels.html"):
        link = '<a href="https://example.org/new?to=board&amp;kind=result">Submit</a>'
        assert link in (tmp_path / "site" / page).read_text()
    with pytest.raises(UserError, match="--submit: 'javascript:alert\\(1\\)' is not an http or https address"):
        build([tmp_path / "r"], tmp_path / "site", submit="javascript:alert(1)")


@pytest.mark.parametrize("address", ["example.org", "javascript:alert(1)", 'https://x/"><script>', "https://x/?a=1"])
def test_what_is_no_address_is_refused_before_anything_is_written(address: str, tmp_path: Path) -> None:
    write_record(tmp_path / "r", "pixels", 0.5)
    with pytest.raises(UserError, match="not the address of a site"):
        build([tmp_path / "r"], tmp_path / "site", address=address)
    assert not (tmp_path / "site").exists()
