"""Thyme: define features once in Python, stream events, serve the same number online and point-in-time.

Importing a module of definitions runs nothing but registration.
"""

from __future__ import annotations

# Whichever thread imports this first is the main thread to Python, which waits for it at the end: none of the engine's.
import threading as _threading  # noqa: F401
from pkgutil import extend_path as _extend_path
from typing import TYPE_CHECKING, Any

from thyme.aggregates import ApproxPercentile, Avg, Count, Max, Min, Sum
from thyme.aggregates_more import CountDistinct, ExpDecaySum, First, FirstK, Last, LastK, Stddev, TopK, Variance
from thyme.dataset import dataset, field
from thyme.entries import TopKEntry
from thyme.errors import ThymeDefinitionError, ThymeError
from thyme.expression_functions import concat, greatest, least
from thyme.expressions import Expr, col, lit, when
from thyme.extractor import extractor, extractor_inputs, extractor_outputs
from thyme.featureset import feature, featureset
from thyme.kafka_source import KafkaSource
from thyme.pipeline import inputs, pipeline
from thyme.postgres_source import PostgresSource
from thyme.secret import Secret
from thyme.sources import LATER as _SOURCES_LATER
from thyme.sources import FileSource, source

if TYPE_CHECKING:
    from thyme.aio import AsyncClient
    from thyme.client import Client
    from thyme.result import ThymeResult
    from thyme.version import __version__

# Stubs generated from `proto/` are modules `thyme.v1.…`: they are found elsewhere on the path, too.
__path__ = _extend_path(__path__, __name__)

__all__ = [
    "ApproxPercentile", "AsyncClient", "Avg", "Client", "Count", "CountDistinct", "ExpDecaySum", "Expr", "FileSource",
    "First", "FirstK", "KafkaSource", "Last", "LastK", "Max", "Min", "PostgresSource", "Secret", "Stddev", "Sum",
    "ThymeDefinitionError", "ThymeError", "ThymeResult", "TopK", "TopKEntry", "Variance", "__version__", "col",
    "concat", "dataset", "extractor", "extractor_inputs", "extractor_outputs", "feature", "featureset", "field",
    "greatest", "inputs", "least", "lit", "pipeline", "source", "when",
]  # fmt: skip

_LAZY = {
    "Client": "thyme.client",
    "AsyncClient": "thyme.aio",
    "ThymeResult": "thyme.result",
    "__version__": "thyme.version",
}


def __getattr__(name: str) -> Any:
    """Clients (gRPC, Arrow) and the version are imported when first used: what defines features starts without them."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SOURCES_LATER:
        from thyme.errors import NotInThisReleaseError
        from thyme.version import __version__

        raise NotInThisReleaseError(
            f"{name} is not available in this release ({__version__})",
            hint="FileSource, KafkaSource and PostgresSource are; other rows can be sent with thyme.Client().log(...)",
            field=name,
        )
    from thyme.suggest import suggestion

    raise AttributeError(f"module 'thyme' has no attribute '{name}' (hint: {suggestion(name, __all__)})")
