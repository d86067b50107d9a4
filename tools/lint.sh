#!/usr/bin/env bash
# lint.sh VENV CRATES…: formatting and clippy (where the toolchain carries them), Python lint, proto lint.
set -euo pipefail
venv="$1"
shift
if cargo fmt --version >/dev/null 2>&1; then
  cargo fmt --all --check
else
  echo "note: this toolchain has no rustfmt, formatting is not checked"
fi
if cargo clippy --version >/dev/null 2>&1; then
  cargo clippy --release --all-targets "$@" --quiet -- -D warnings
else
  echo "note: this toolchain has no clippy, lints are not checked"
fi
[ -x "$venv/bin/ruff" ] || "$venv/bin/pip" install -q "ruff>=0.15,<1"
[ -x "$venv/bin/buf" ] || "$venv/bin/pip" install -q "buf-bin>=1.50,<2"
"$venv/bin/ruff" check -q python integration tools
"$venv/bin/ruff" format -q --check python integration tools
"$venv/bin/buf" lint proto
