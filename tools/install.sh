#!/usr/bin/env bash
# install.sh VENV [extra]: builds the release wheel when a source changed and installs it with its dependencies (and an extra).
set -euo pipefail
venv="$1"
extra="${2:-}"
stamp="$venv/.thyme-installed"
wheels="$CARGO_TARGET_DIR/wheels"

# What the wheel is made of: one hash over the tracked and new files.
fingerprint=$(git ls-files -co --exclude-standard -- Cargo.toml Cargo.lock services python proto 2>/dev/null \
  | grep -vE '^python/(tests|examples)/' | LC_ALL=C sort | xargs -d '\n' sha256sum 2>/dev/null | sha256sum | cut -d' ' -f1)

if [ "$(cat "$stamp" 2>/dev/null)" != "$fingerprint" ]; then
  [ -x "$venv/bin/maturin" ] || { echo "== installing the wheel builder"; "$venv/bin/pip" install -q "maturin>=1.9,<2"; }
  echo "== building the wheel (release; the first time takes up to half an hour on 2 cores, then seconds)"
  rm -rf "$wheels/current"
  "$venv/bin/maturin" build --release --manifest-path python/Cargo.toml --out "$wheels/current" --interpreter "$venv/bin/python"
  echo "== installing it into $venv"
  "$venv/bin/pip" install -q --force-reinstall --no-deps "$wheels"/current/*.whl
  "$venv/bin/pip" install -q "$(ls "$wheels"/current/*.whl)"
  echo "$fingerprint" > "$stamp"
fi

if [ -n "$extra" ] && [ "$(cat "$stamp.$extra" 2>/dev/null)" != "$fingerprint" ]; then
  echo "== installing what '$extra' needs"
  "$venv/bin/pip" install -q --no-compile "$(ls "$wheels"/current/*.whl)[$extra]"
  echo "$fingerprint" > "$stamp.$extra"
fi
