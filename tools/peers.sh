#!/usr/bin/env bash
# peers.sh DIR [PEER …]: what `make bench-peers` puts Thyme beside: one virtual environment per peer in DIR, with the versions below, and
# where missing a Redis server and a Java runtime as system packages. A peer that cannot be had is told of and left out: the run says
# which figures lack because of it.
set -euo pipefail
peers="$1"
shift

declare -A wanted=(
  [bytewax]="bytewax==0.21.1 numpy==2.4.6"
  [duckdb]="duckdb==2.0.1 numpy==2.4.6"
  [feast]="feast[redis]==0.67.0 redis==7.4.1 hiredis==3.5.0 fastapi==0.165.0 gunicorn==27.0.1 pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6"
  [flink]="apache-flink==2.3.0 numpy==2.1.3 pyarrow==16.1.0"
  [numpy]="numpy==2.4.6"
  [pandas]="pandas==3.1.1 numpy==2.4.6"
  [polars]="polars==2.1.0 numpy==2.4.6"
  [redis]="redis==8.1.0 hiredis==3.5.0 numpy==2.4.6"
)
[ $# -gt 0 ] || set -- $(printf '%s\n' "${!wanted[@]}" | sort)

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
if [ ${#missing[@]} -gt 0 ]; then
  echo "== installing packages: ${missing[*]}"
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  if $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
    # Each run starts one of its own; the package's service would take memory and the port.
    [[ " ${missing[*]} " != *" redis-server "* ]] || $sudo systemctl disable --now redis-server >/dev/null 2>&1 || true
  else
    echo "warning: ${missing[*]} cannot be had" >&2
  fi
fi

for peer in "$@"; do
  requirements="${wanted[$peer]:-}"
  [ -n "$requirements" ] || { echo "error: no peer is called $peer; there are ${!wanted[*]}" >&2; exit 1; }
  place="$peers/$peer"
  [ "$(cat "$place/.installed" 2>/dev/null)" != "$requirements" ] || continue
  echo "== installing $requirements into $place"
  rm -rf "$place"
  # shellcheck disable=SC2086
  if python3 -m venv "$place" && "$place/bin/pip" install -q --no-compile $requirements; then
    echo "$requirements" >"$place/.installed"
  else
    echo "warning: $peer cannot be had" >&2
    rm -rf "$place"
  fi
done
