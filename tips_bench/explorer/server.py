"""The explorer's server: one page, and answers to its questions as JSON.

A question is POSTed to /api/KIND with its body as JSON; a photo to /api/photos as the bytes of its file. An error that the user can fix is
an answer with one sentence. Pages of other sites cannot ask: their browser names an Origin that is not this server's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tips_bench.errors import UserError
from tips_bench.explorer import document, maps, packing
from tips_bench.explorer.session import Session, View, Wanted, always
from tips_bench.explorer.turns import HEADER, Superseded, Turns
from tips_bench.loopback import ADDRESS, LocalHandler, LocalServer
from tips_bench.terminal import printable

MAX_BODY = 64 << 20  # bytes of a request
MOST_MATCHES = 200
NAME = 80  # characters of a photo's name
# What a head predicts of a photo, by its task family, as the page reads it.
PACK: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {
    "segmentation": packing.packed_labels,
    "depth": lambda values_1HW: packing.packed_depth(values_1HW[0]),
    "normals": lambda values_3HW: packing.packed_normals(np.moveaxis(values_3HW, 0, -1)),
}


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Nothing(_Question):
    pass


class _Photo(_Question):
    photo: int


class _Features(_Question):
    model: str
    layer: int
    side: int
    photos: list[int]


class _Head(_Question):
    head: int
    photos: list[int]


class _Surfaces(_Features):
    kind: Literal["depth", "normals"]


class _Classes(_Question):
    model: str
    side: int
    photos: list[int]
    names: list[str]
    template: str


class _Page(_Question):
    questions: list[str]
    settings: dict[str, Any]


class Answers:
    """What the page may ask of a session. Each answer is plain data. Errors: as a UserError.

    Each takes a question and what tells whether its answer still is wanted.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._kinds: dict[str, tuple[type[Any], Callable[[Any, Wanted], dict[str, Any]]]] = {
            "state": (_Nothing, self._state),
            "remove": (_Photo, self._remove),
            "features": (_Features, self._features),
            "matches": (_Features, self._matches),
            "classes": (_Classes, self._classes),
            "surfaces": (_Surfaces, self._surfaces),
            "head": (_Head, self._head),
            "page": (_Page, self._page),
        }

    def answer(self, kind: str, body: str | bytes, wanted: Wanted = always) -> dict[str, Any]:
        """The answer to a question. Errors: an unknown kind, a body that is not such a question's; that of `wanted`."""
        if kind not in self._kinds:
            raise UserError(f"the page cannot ask for {kind!r}")
        question, answer = self._kinds[kind]
        try:
            asked = question.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise UserError(f"{kind}: {'.'.join(map(str, first['loc']))}: {first['msg']}", fix="Load the page again.") from error
        return answer(asked, wanted)

    def add(self, name: str, data: bytes) -> dict[str, Any]:
        """Take in a photo. Errors: those of `Session.add`."""
        return {"photo": self.session.add(printable(name)[:NAME] or "photo", data).id}

    def _state(self, asked: _Nothing, wanted: Wanted) -> dict[str, Any]:
        encoders = self.session.encoders.items()
        models = [{"name": name, "layers": encoder.spec.depth, "text": encoder.spec.has_text} for name, encoder in encoders]
        photos = [{"id": one.id, "name": one.name, "url": packing.photo_url(one.image_HW3)} for one in self.session.photos.values()]
        return {"models": models, "photos": photos, "heads": [head.described() for head in self.session.heads]}

    def _remove(self, asked: _Photo, wanted: Wanted) -> dict[str, Any]:
        self.session.remove(asked.photo)
        return {}

    def _features(self, asked: _Features, wanted: Wanted) -> dict[str, Any]:
        found = self._found(asked, wanted)
        return {"photos": [packing.packed_features(*pair) for pair in zip(found, maps.shared_colors(found), strict=True)]}

    def _matches(self, asked: _Features, wanted: Wanted) -> dict[str, Any]:
        if len(asked.photos) != 2:
            raise UserError("matches need two photos", fix="Drop another one.")
        first_hwD, second_hwD = found = self._found(asked, wanted)
        matches = maps.patch_matches(first_hwD, second_hwD)
        grids = [{"rows": one_hwD.shape[0], "columns": one_hwD.shape[1]} for one_hwD in found]
        return {"grids": grids, "total": len(matches.first_M), "matches": packing.packed_matches(matches, MOST_MATCHES)}

    def _found(self, asked: _Features, wanted: Wanted) -> list[Any]:
        if not asked.photos:
            raise UserError("there are no photos", fix="Drop some.")
        view = View(asked.model, asked.layer, asked.side)
        return [self.session.features(photo, view, wanted) for photo in asked.photos]

    def _classes(self, asked: _Classes, wanted: Wanted) -> dict[str, Any]:
        encoder = self.session.encoder(asked.model)
        texts_CD = maps.class_embeddings(encoder, asked.names, asked.template)
        view = View(asked.model, "values" if encoder.has_values else encoder.spec.depth - 1, asked.side)
        found = [maps.class_map(self.session.features(photo, view, wanted), texts_CD) for photo in asked.photos]
        return {"names": asked.names, "photos": [packing.packed_classes(one) for one in found]}

    def _surfaces(self, asked: _Surfaces, wanted: Wanted) -> dict[str, Any]:
        head = self.session.surfaces(View(asked.model, asked.layer, asked.side), wanted)
        found = [head(features_hwD) for features_hwD in self._found(asked, wanted)]
        packed = [
            packing.packed_depth(depth_hw) if asked.kind == "depth" else packing.packed_normals(own_hw3) for depth_hw, own_hw3 in found
        ]
        return {"photos": packed, "depth_error": head.depth_error}

    def _head(self, asked: _Head, wanted: Wanted) -> dict[str, Any]:
        found = [self.session.map_of(asked.head, photo, wanted) for photo in asked.photos]
        pack = PACK[self.session.heads[asked.head].head.record.family]
        return {"photos": [pack(one) for one in found]}

    def _page(self, asked: _Page, wanted: Wanted) -> dict[str, Any]:
        """A page that needs no server: with the answers to all the questions in it."""
        asked_before = [(key, *key.partition(" ")[::2]) for key in asked.questions]
        answers = {key: self.answer(kind, body) for key, kind, body in asked_before if kind not in ("page", "remove")}
        return {"page": document.page({"answers": answers, "settings": asked.settings})}


class ExplorerServer(LocalServer):
    """Serves the explorer of a session. turns: its pages' latest questions. Errors: an address or a port that cannot be taken."""

    seconds = 600.0  # a large encoder on a few cores takes its time

    def __init__(self, session: Session, port: int, *, address: str = ADDRESS) -> None:
        self.turns = Turns()
        super().__init__(partial(_Handler, Answers(session), self.turns), port, address=address)


class _Handler(LocalHandler):
    policy = f"{document.policy(live=True)}; frame-ancestors 'none'"

    def __init__(self, answers: Answers, turns: Turns, *arguments: Any) -> None:
        self.answers, self.turns = answers, turns
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if not self.is_called_by_own_name():
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND, "the explorer has one page, at /")
            return
        content = document.page().encode()
        self.send_head(content, "text/html; charset=utf-8")
        self.wfile.write(content)

    def do_POST(self) -> None:
        if not self.is_called_by_own_name():
            return
        if self.headers.get("Origin", "") != f"http://{self.headers['Host'].strip()}":
            self.send_error(HTTPStatus.FORBIDDEN, "only the explorer's own page may ask")
            return
        try:
            content, status = self._answer(), HTTPStatus.OK
        except UserError as error:
            content, status = {"error": printable(str(error))}, HTTPStatus.BAD_REQUEST
        except Superseded:
            content, status = {"error": "The page has asked for something else since."}, HTTPStatus.CONFLICT
        data = json.dumps(content, allow_nan=False).encode()
        self.send_head(data, "application/json", status)
        self.wfile.write(data)

    def _answer(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 12:
            raise UserError("a request without its length")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise UserError(f"more than {MAX_BODY >> 20} MB", fix="Choose a smaller file.")
        body, parts = self.rfile.read(int(length)), urlsplit(self.path)
        if parts.path == "/api/photos":
            return self.answers.add(parse_qs(parts.query).get("name", [""])[0], body)
        return self.answers.answer(parts.path.removeprefix("/api/"), body, self.turns.begin(self.headers.get(HEADER)))
