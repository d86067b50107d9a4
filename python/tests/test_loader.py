"""What is imported for a commit, and what travels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from thyme.definitions import build_definitions
from thyme.errors import NotFoundError, ThymeDefinitionError
from thyme.impurity import find_impurities
from thyme.loader import load_module, load_path

FEATURES = """
from datetime import datetime
from thyme import dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field
from {helpers} import double

@featureset
class Scores:
    uid: int
    score: int

    @extractor
    @extractor_inputs("uid")
    @extractor_outputs("score")
    def compute(cls, ts, uid):
        return double(uid)
"""


DOUBLE = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory; what is imported from it is forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(place: Path, **files: str) -> None:
    for name, content in files.items():
        path = place / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content, encoding="utf-8")


def travelling(root) -> list[str]:
    return [module["path"] for module in build_definitions(root=root)["modules"]]


def test_a_file_and_its_helpers(place):
    write(place, scores_a=FEATURES.format(helpers="helpers_a"), helpers_a=DOUBLE)
    assert travelling(load_path("scores_a.py")) == ["helpers_a.py", "scores_a.py"]


def test_a_directory(place):
    write(place, defs__scores_b=FEATURES.format(helpers="helpers_b"), defs__helpers_b=DOUBLE)
    write(place, defs__test_b="raise AssertionError('tests are not imported')\n")
    assert travelling(load_path("defs")) == ["helpers_b.py", "scores_b.py"]


@pytest.mark.parametrize("given", ["pack_c", "pack_c/scores.py"])
def test_a_package_is_imported_by_its_full_name(place, given):
    (place / "pack_c").mkdir()
    (place / "pack_c" / "__init__.py").write_text("")
    write(place, pack_c__scores=FEATURES.format(helpers=".helpers"), pack_c__helpers=DOUBLE)
    root = load_path(given)
    assert travelling(root) == ["pack_c/__init__.py", "pack_c/helpers.py", "pack_c/scores.py"]
    extractor = build_definitions(root=root)["featuresets"][0]["extractors"][0]
    assert (extractor["module"], extractor["qualname"]) == ("pack_c.scores", "Scores.compute")


def test_a_module_by_name(place):
    write(place, scores_d=FEATURES.format(helpers="helpers_d"), helpers_d=DOUBLE)
    assert travelling(load_module("scores_d")) == ["helpers_d.py", "scores_d.py"]


def test_mistakes(place):
    write(place, raises_e="x = 1\nraise ValueError('no')\n")
    with pytest.raises(ThymeDefinitionError, match="raises_e.py:2: cannot import raises_e: ValueError: no"):
        load_path("raises_e.py")
    with pytest.raises(NotFoundError, match="no such file or directory: nowhere.py"):
        load_path("nowhere.py")
    (place / "notes.txt").write_text("")
    with pytest.raises(ThymeDefinitionError, match="not a Python file: notes.txt"):
        load_path("notes.txt")
    (place / "hollow").mkdir()
    with pytest.raises(NotFoundError, match="no Python files in hollow"):
        load_path("hollow")


def test_an_extractor_inside_a_function_cannot_travel(place):
    body = "\n".join(f"    {line}" for line in FEATURES.format(helpers="math").replace("double", "floor").splitlines())
    write(place, inner_f=f"def make():\n{body}\n\nmake()\n")
    root = load_path("inner_f.py")
    with pytest.raises(ThymeDefinitionError, match="is defined inside a function"):
        build_definitions(root=root)


def test_clocks_randomness_and_network_are_seen(place):
    write(
        place,
        impure_g="""
import datetime as dt
import random as r
import time
from datetime import datetime
from uuid import uuid4
from urllib.request import urlopen
from urllib.parse import quote

def f(cls, ts):
    import socket
    from requests import get as fetch
    datetime.now(), dt.datetime.utcnow(), dt.date.today(), time.time(), r.choice([1]), uuid4()
    urlopen("x"), quote("x"), socket.create_connection(1), fetch("x"), datetime(2024, 1, 1), ts.now
    return helper()

def helper():
    return r.random() + sum([1])
""",
    )
    sys.path.insert(0, str(place))
    import impure_g

    assert find_impurities(impure_g.f, lambda module: module is impure_g) == [
        "calls datetime.datetime.now (clock)",
        "calls datetime.datetime.utcnow (clock)",
        "calls datetime.date.today (clock)",
        "calls time.time (clock)",
        "calls random.choice (randomness)",
        "calls uuid.uuid4 (randomness)",
        "calls urllib.request.urlopen (network)",
        "calls socket.create_connection (network)",
        "calls requests.get (network)",
        "calls random.random (randomness)",
    ]


def test_the_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "thyme", "version", "--json"], capture_output=True, text=True)
    assert done.returncode == 0
    assert '"thyme"' in done.stdout


def test_an_edit_of_the_same_length_within_a_second_is_seen(place):
    write(place, quick_h=FEATURES.format(helpers="helpers_h"), helpers_h=DOUBLE)
    code = "from thyme.loader import load_path; load_path('quick_h.py'); import quick_h; print(quick_h.double(4))"

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def doubled() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    assert doubled() == "8\n"
    helpers = place / "helpers_h.py"
    stamp = helpers.stat()
    helpers.write_text(DOUBLE.replace("2", "3"), encoding="utf-8")
    os.utime(helpers, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert doubled() == "12\n"
    assert not list(place.rglob("*.pyc"))
