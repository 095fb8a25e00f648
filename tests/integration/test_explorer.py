"""The explorer's session and server, as its page and as strangers meet them."""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.kept_heads import fitted, images
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.explorer import session as sessions
from tips_bench.explorer.heads import encoders_of, records_with_heads
from tips_bench.explorer.server import Answers, ExplorerServer
from tips_bench.explorer.session import Session, View, always
from tips_bench.explorer.turns import MOST_PAGES, Superseded, Turns
from tips_bench.pictures.dense import normal_colors
from tips_bench.results.kept_head import head_file
from tips_bench.results.predictions import load_predictions
from tips_bench.results.record import Record

VIEW = {"model": "tips-nano", "layer": 2, "side": 112}


def picture(seed: int, height: int = 60, width: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def session() -> Session:
    found = Session(["tips-nano"])
    for seed in (0, 1):
        found.add(f"{seed}.png", picture(seed))
    return found


@pytest.fixture
def server(session: Session) -> Iterator[ExplorerServer]:
    with ExplorerServer(session, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def port(server: ExplorerServer) -> int:
    return server.server_address[1]


def ask(port: int, kind: str, body: Any, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", f"/api/{kind}", data, {"Origin": f"http://127.0.0.1:{port}"} | headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, json.loads(content) if reply.headers["Content-Type"] == "application/json" else content


def test_features_are_made_once_for_a_photo_a_layer_and_a_side(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    view = View("tips-nano", 2, 112)
    first_hwD = session.features(0, view)
    assert first_hwD.shape == (5, 8, 256)
    with monkeypatch.context() as patch:
        patch.setattr(session, "_encoded", None)
        assert session.features(0, view) is first_hwD
    assert session.features(0, View("tips-nano", 1, 112)).shape == (5, 8, 256)
    assert session.features(0, View("tips-nano", "values", 224)).shape == (11, 16, 256)


def test_what_was_used_longest_ago_is_let_go(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_BYTES", 2 * 5 * 8 * 256 * 4)
    found = [session.features(photo, View("tips-nano", layer, 112)) for photo in (0, 1) for layer in (0, 1)]
    assert len(session._kept) == 2
    assert session.features(1, View("tips-nano", 1, 112)) is found[3]
    assert session.features(0, View("tips-nano", 0, 112)) is not found[0]


def test_a_photo_that_is_removed_takes_its_features_along(session: Session) -> None:
    session.features(0, View("tips-nano", 2, 112))
    session.remove(0)
    assert not session._kept
    with pytest.raises(UserError, match="no longer there"):
        session.features(0, View("tips-nano", 2, 112))


@pytest.mark.parametrize("models", [[], ["tips-nano"] * 2, ["tips-nano", "pixels", "tips-nano-random"]])
def test_one_encoder_is_shown_or_two(models: list[str]) -> None:
    with pytest.raises(UserError, match="one encoder, or 2 side by side"):
        Session(models)


def test_one_model_is_shown_with_two_weights(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(["tips-nano", "tips-nano"], weights=[None, "random:1"], dtype="bf16")
    assert list(session.encoders) == ["tips-nano", "tips-nano, random:1"] and "loading tips-nano, random:1" in capsys.readouterr().err
    assert [encoder.spec.weights_sha256.startswith("random") for encoder in session.encoders.values()] == [False, True]


def test_the_server_answers_what_the_page_asks(port: int, session: Session) -> None:
    status, state = ask(port, "state", {})
    assert status == 200 and [photo["name"] for photo in state["photos"]] == ["0.png", "1.png"]
    assert state["models"] == [{"name": "tips-nano", "layers": 3, "text": True}] and state["heads"] == []
    status, found = ask(port, "features", VIEW | {"photos": [0, 1]})
    assert status == 200 and [(one["rows"], one["columns"], one["dim"]) for one in found["photos"]] == [(5, 8, 256)] * 2
    status, found = ask(port, "matches", VIEW | {"photos": [0, 1]})
    assert status == 200 and found["total"] >= len(found["matches"]) > 0
    body = {"model": "tips-nano", "side": 112, "photos": [0], "names": ["wall", "bed"], "template": "a {}"}
    status, found = ask(port, "classes", body)
    assert status == 200 and found["names"] == ["wall", "bed"] and (found["photos"][0]["rows"], found["photos"][0]["columns"]) == (20, 32)
    status, added = ask(port, "photos?name=new%20one.png", picture(2))
    assert (status, session.photos[added["photo"]].name) == (200, "new one.png")
    assert ask(port, "remove", {"photo": added["photo"]}) == (200, {})


def test_a_saved_page_holds_the_answers(session: Session) -> None:
    answers = Answers(session)
    question = f"features {json.dumps(VIEW | {'photos': [0, 1]})}"
    page = answers.answer(
        "page", json.dumps({"questions": ["state {}", question, "remove", 'remove {"photo": 0}'], "settings": {"side": 112}})
    )["page"]
    saved = json.loads(page.partition('id="saved">')[2].partition("</script>")[0])
    assert list(saved["answers"]) == ["state {}", question] and len(session.photos) == 2
    assert saved["answers"][question] == answers.answer(*question.split(" ", 1))


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("features", VIEW | {"photos": []}, "there are no photos"),
        ("features", VIEW | {"photos": [9]}, "no longer there"),
        ("features", VIEW | {"photos": [0], "layer": 3}, "has 3 blocks"),
        ("features", VIEW | {"photos": [0], "side": 5000}, "a longer side of 5000 pixels"),
        ("features", VIEW | {"photos": [0], "model": "pixels"}, "not started with the encoder 'pixels'"),
        ("features", VIEW | {"photos": "0"}, "features: photos: Input should be a valid"),
        ("matches", VIEW | {"photos": [0]}, "matches need two photos"),
        ("classes", {"model": "tips-nano", "side": 112, "photos": [0], "names": [], "template": "{}"}, "0 class names"),
        ("classes", {"model": "tips-nano", "side": 112, "photos": [0], "names": ["bed"], "template": "a"}, "no place for the name"),
        ("nothing", {}, "cannot ask for 'nothing'"),
        ("photos?name=a.png", b"no image", "a.png: not a JPEG or PNG image"),
        ("photos?name=a.png", picture(0)[:-100], "Choose another JPEG or PNG file"),
    ],
)
def test_an_error_is_a_sentence(port: int, kind: str, body: Any, said: str) -> None:
    status, answer = ask(port, kind, body)
    assert status == 400 and said in answer["error"]


def test_an_encoder_without_texts_says_so() -> None:
    session = Session(["pixels"])
    session.add("0.png", picture(0))
    with pytest.raises(UserError, match="no text tower"):
        Answers(session).answer("classes", json.dumps({"model": "pixels", "side": 112, "photos": [0], "names": ["bed"], "template": "{}"}))


def test_pages_of_others_and_other_names_are_not_answered(port: int, session: Session) -> None:
    assert ask(port, "state", {}, Origin="http://example.org")[0] == 403
    assert ask(port, "remove", {"photo": 0}, Origin="null")[0] == 403
    assert ask(port, "state", {}, Host="example.org")[0] == 421
    assert ask(port, "state", {}, Host="192.168.0.7:80", Origin="http://192.168.0.7:80")[0] == 421
    assert len(session.photos) == 2


def test_another_address_is_listened_on_only_where_asked_and_then_by_numbers(session: Session) -> None:
    with ExplorerServer(session, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
    with ExplorerServer(session, 0, address="0.0.0.0") as server:
        assert server.hosts.fullmatch("192.168.0.7:80") and not server.hosts.fullmatch("example.org")
    with pytest.raises(UserError, match=r"--host: 'no such name\.invalid' is not an address"):
        ExplorerServer(session, 0, address="no such name.invalid")
    with pytest.raises(UserError, match=r"--host: '192\.0\.2\.1' is not an address of this machine"):
        ExplorerServer(session, 0, address="192.0.2.1")


def test_no_more_photos_than_a_page_shows(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_PHOTOS", 2)
    with pytest.raises(UserError, match="there are 2 photos already"):
        session.add("3.png", picture(3))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root."""
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(scope="module")
def heads(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Of one encoder for classes, depth and normals, and of another one for depth."""
    out = tmp_path_factory.mktemp("results")
    runs = [("rooms-seg", "tips-nano"), ("rooms-depth", "tips-nano"), ("rooms-normals", "tips-nano"), ("rooms-depth", "tips-nano-random")]
    return [fitted(task, model, data, out) for task, model in runs]


def decoded(packed: dict[str, Any], name: str, *channels: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed[name]), np.uint8).reshape(packed["rows"], packed["columns"], *channels)


def test_a_head_of_a_run_shows_what_the_run_predicted(heads: list[Record], data: Path) -> None:
    session = Session(["tips-nano", "tips-nano-random"], heads=heads)
    id, image_HW3 = next(iter(images(data).items()))
    photo, answers = session.add_image("room", image_HW3).id, Answers(session)
    state = answers.answer("state", "{}")
    assert [(head["model"], head["view"], head["kind"]) for head in state["heads"]] == [
        ("tips-nano", "rooms-seg", "segmentation"),
        ("tips-nano", "rooms-depth", "depth"),
        ("tips-nano", "rooms-normals", "normals"),
        ("tips-nano-random", "rooms-depth", "depth"),
    ]
    assert state["heads"][0]["classes"] == heads[0].dataset.classes and "mIoU" in state["heads"][0]["said"]
    seg, depth, normals, other = (answers.answer("head", json.dumps({"head": head, "photos": [photo]}))["photos"][0] for head in range(4))
    kept = [load_predictions(record)[id] for record in heads]
    np.testing.assert_array_equal(decoded(seg, "labels"), kept[0])
    np.testing.assert_array_equal(decoded(normals, "colors", 3), normal_colors(np.moveaxis(kept[2], 0, -1)))
    for packed, kept_1HW in ((depth, kept[1]), (other, kept[3])):
        span = packed["high"] - packed["low"]
        np.testing.assert_allclose(packed["low"] + decoded(packed, "values") / 255 * span, kept_1HW[0], atol=span / 500)
    assert session.map_of(0, photo) is session.map_of(0, photo)
    session.remove(photo)
    with pytest.raises(UserError, match="no longer there"):
        session.map_of(0, photo)
    with pytest.raises(UserError, match="not started with this head"):
        answers.answer("head", json.dumps({"head": 4, "photos": [photo]}))


def test_the_records_say_which_encoders_to_show(heads: list[Record], tmp_path: Path) -> None:
    folder = heads[0].file.parents[2]
    found = records_with_heads([folder, heads[0].file])
    assert {record.file.resolve() for record in found} == {record.file.resolve() for record in heads}
    assert [(card.name, weights) for card, weights in encoders_of(heads, None)] == [("tips-nano", None), ("tips-nano-random", None)]
    with pytest.raises(UserError, match="made with the weights of the card"):
        encoders_of(heads, "mine.pt")
    of_a_file = [heads[0].model_copy(update={"weights": "mine.pt"}), heads[3]]
    with pytest.raises(UserError, match=r"the weight file 'mine\.pt'\. Give it: --weights FILE"):
        encoders_of(of_a_file, None)
    assert [weights for _, weights in encoders_of(of_a_file, "mine.pt")] == ["mine.pt", None]
    session = Session([card for card, _ in encoders_of(heads, None)], heads=heads)
    assert list(session.encoders) == ["tips-nano", "tips-nano-random"]
    (tmp_path / "empty").mkdir()
    for record in heads:
        data = record.model_copy(update={"head_sha256": None})
        data.save(tmp_path / "none" / record.file.name)
    with pytest.raises(UserError, match="no record there has a fitted head"):
        records_with_heads([tmp_path / "none"])
    with pytest.raises(UserError, match=r"no fitted head was kept of this record\. Make it: tips-bench run"):
        records_with_heads([next((tmp_path / "none").iterdir())])
    with pytest.raises(UserError, match="no records there"):
        records_with_heads([tmp_path / "empty"])


def test_a_head_that_cannot_be_shown_is_one_sentence(heads: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features of tips-nano, and the page shows tips-nano-random\. Add --model tips-nano, or leave"):
        Session(["tips-nano-random"], heads=heads[:1])
    with pytest.raises(UserError, match="2 heads for rooms-seg on features of tips-nano"):
        Session(["tips-nano"], heads=[heads[0], heads[0]])
    protocol = heads[0].cards["protocol"]
    cropped = protocol | {"image": protocol["image"] | {"shape": "center-crop"}}
    record = heads[0].model_copy(update={"cards": heads[0].cards | {"protocol": cropped}})
    record.save(tmp_path / heads[0].file.name)
    shutil.copy(head_file(heads[0].file), tmp_path)
    with pytest.raises(UserError, match=r"the head of segmentation under .* makes no map of a whole image"):
        Session(["tips-nano"], heads=[record])
    done = CliRunner().invoke(app, ["explore", "--head", str(record.file), "--device", "cpu"])
    assert done.exit_code == 2 and "makes no map" in done.stderr and len(done.stderr.splitlines()) == 2, done.stderr  # after "loading"


def test_a_question_that_was_overtaken_stops_before_its_next_photo(
    server: ExplorerServer, port: int, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, began, go, encoded = session._encoded, threading.Event(), threading.Event(), []

    def slow(image_HW3: np.ndarray, view: View) -> np.ndarray:
        encoded.append(view.layer)
        began.set()
        assert go.wait(30)
        return encode(image_HW3, view)

    monkeypatch.setattr(session, "_encoded", slow)
    replies: dict[int, tuple[int, Any]] = {}

    def question(layer: int) -> threading.Thread:
        def send() -> None:
            replies[layer] = ask(port, "features", VIEW | {"layer": layer, "photos": [0, 1]}, **{"X-Turn": f"page-{layer}"})

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    threads = [question(0)]
    assert began.wait(30)
    threads += [question(layer) for layer in (1, 2)]
    while server.turns.latest("page") < 2:
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join(30)
    assert replies[2][0] == 200 and replies[0][0] == replies[1][0] == 409 and "something else since" in replies[0][1]["error"]
    assert encoded == [0, 2, 2]


def test_pages_do_not_overtake_each_other_and_few_are_remembered() -> None:
    turns = Turns()
    first, second, other = turns.begin("a-1"), turns.begin("a-2"), turns.begin("b-1")
    with pytest.raises(Superseded):
        first()
    second(), other()
    assert {turns.begin(said) for said in (None, "", "a", "a-", "A-1", "a-1-1", "a" * 40 + "-1")} == {always}
    for page in range(MOST_PAGES):
        turns.begin(f"c{page}-5")
    assert turns.latest("a") == 0 and turns.latest("c0") == 5
    second()
