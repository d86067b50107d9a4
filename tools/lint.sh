#!/usr/bin/env bash
# lint.sh VENV: formatting (where the toolchain carries it), Python lint, proto lint.
set -euo pipefail
venv="$1"
if cargo fmt --version >/dev/null 2>&1; then
  cargo fmt --all --check
else
  echo "note: this toolchain has no rustfmt, formatting is not checked"
fi
[ -x "$venv/bin/ruff" ] || "$venv/bin/pip" install -q "ruff>=0.15,<1"
[ -x "$venv/bin/buf" ] || "$venv/bin/pip" install -q "buf-bin>=1.50,<2"
"$venv/bin/ruff" check -q python integration tools benches/peers
"$venv/bin/ruff" format -q --check python integration tools benches/peers
"$venv/bin/buf" lint proto
