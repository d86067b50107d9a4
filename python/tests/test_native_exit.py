"""The end of the interpreter while engines are open and calls run: the process ends in order."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("thyme._native")

SCRIPT = """
import threading, types
from thyme import _native, definitions, registry, extractor, extractor_inputs, extractor_outputs, featureset

started = threading.Event()

@featureset
class Words:
    word: str
    length: int
    never: int

    @extractor
    @extractor_inputs("word")
    @extractor_outputs("length")
    def measure(cls, ts, word):
        return len(list(word))  # not native

    @extractor(deadline=60)
    @extractor_inputs("word")
    @extractor_outputs("never")
    def spin(cls, ts, word):
        started.set()
        while True:
            pass

(held,) = registry.current().featuresets.values()
functions = {f"Words.{found.name}": types.MethodType(found.function, Words) for found in held.extractors}
engine = _native.MockEngine(definitions.definitions_json(registry.current()), functions)

def ask(feature):
    while True:
        try:
            answer = engine.query("Words", "abc", features=[feature])
        except Exception:
            return  # The engine was closed at exit; a daemon thread that prints then is a fatal error of Python's own.
        if feature == "length":
            assert answer["features"]["length"] == 3, answer
            started.set()

threading.Thread(target=ask, args=(FEATURE,), daemon=True).start()
assert started.wait(30)
print("asked")
"""


def test_a_process_that_ends_at_once_ends_in_order(tmp_path):
    """The workers may still be starting."""
    (tmp_path / "file").write_text("no directory")
    script = 'from thyme import _native; _native.serve(\'{"flags": {"data_dir": "file"}}\')'
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 1, (done.returncode, done.stderr)
        assert "cannot use the data directory" in done.stderr and "Fatal" not in done.stderr


@pytest.mark.parametrize("feature", ["length", "never"])
def test_the_process_ends_while_another_thread_asks(feature, tmp_path):
    script = tmp_path / "asks.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("FEATURE", repr(feature)))
    for _ in range(3):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "asked\n"
        assert "Fatal" not in done.stderr
