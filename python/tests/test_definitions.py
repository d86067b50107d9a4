"""Definitions become the JSON that a commit carries."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest

from thyme import registry
from thyme.definitions import build_definitions, definitions_json
from thyme.errors import ThymeDefinitionError

HERE = Path(__file__).parent


def test_everything_that_definitions_can_say(load):
    load("orders")
    built = build_definitions(root=HERE / "modules")
    text = json.dumps(built, indent=1, ensure_ascii=False) + "\n"
    snapshot = HERE / "snapshots" / "orders.json"
    if os.environ.get("THYME_UPDATE_SNAPSHOTS"):
        snapshot.write_text(text, encoding="utf-8")
    assert text == snapshot.read_text(encoding="utf-8")


def test_text_is_the_same_wherever_it_is_made(load, monkeypatch, tmp_path):
    load("orders")
    first = definitions_json(root=HERE / "modules")
    monkeypatch.chdir(tmp_path)
    assert definitions_json(root=HERE / "modules") == first
    assert str(HERE) not in first


def test_helpers_travel_and_installed_packages_do_not(load):
    load("orders")
    modules = build_definitions(root=HERE / "modules")["modules"]
    assert [(module["name"], module["path"]) for module in modules] == [
        ("orders", "orders.py"),
        ("orders_helpers", "orders_helpers.py"),
    ]


def test_impurity_is_seen_through_helpers(load):
    load("orders")
    extractors = build_definitions(root=HERE / "modules")["featuresets"][0]["extractors"]
    assert [extractor["impure"] for extractor in extractors] == [[], ["calls random.random (randomness)"]]


def test_loading_a_module_again_replaces_its_definitions(load):
    module = load("orders")
    importlib.reload(module)
    assert list(registry.current().datasets) == ["Order", "UserStats"]


def test_importing_runs_no_extractor_and_opens_no_connection(load):
    import subprocess
    import sys

    code = "import thyme, sys; print([m for m in ('grpc', 'pyarrow', 'rich', 'typer', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_are_what_nothing_produces(load):
    module = load("orders")
    assert module.UserFeatures.__thyme_featureset__.keys == ["uid"]
    assert module.Other.__thyme_featureset__.keys == ["uid"]


def test_fields_and_features_are_references(load):
    module = load("orders")
    assert repr(module.UserStats.orders_1h) == "UserStats.orders_1h"
    assert repr(module.UserFeatures.spend_7d) == "UserFeatures.spend_7d"


def test_lookup_outside_of_an_extractor_says_so(load):
    importlib.import_module("thyme._runtime")
    module = load("orders")
    with pytest.raises(ThymeDefinitionError, match="works only inside an extractor"):
        module.UserStats.lookup(None, user_id="u1")


def test_lookup_names_the_nearest_key(load):
    module = load("orders")
    with pytest.raises(ThymeDefinitionError, match=r"UserStats has no key 'userid' \(hint: did you mean 'user_id'\?\)"):
        module.UserStats.lookup(None, userid="u1")
    with pytest.raises(ThymeDefinitionError, match="UserStats.lookup needs the key 'user_id'"):
        module.UserStats.lookup(None)
