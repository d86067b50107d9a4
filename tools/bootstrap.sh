#!/usr/bin/env bash
# bootstrap.sh VENV [kafka] [postgres]: installs what is missing: Debian packages for the build, those that start a Kafka broker or a
# PostgreSQL server where asked to (tests and benches do), and the virtual environment. Asks nothing; says what it does.
set -euo pipefail
venv="$1"
servers=" ${*:2} "

missing=()
command -v clang >/dev/null || missing+=(clang)
ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || missing+=(libclang-dev)
command -v c++ >/dev/null || missing+=(g++)
command -v curl >/dev/null || missing+=(curl)
# librdkafka is built from source, with the static library of OpenSSL
command -v make >/dev/null || missing+=(make)
ls /usr/lib/*/libcrypto.a >/dev/null 2>&1 || missing+=(libssl-dev)
if [[ "$servers" == *" kafka "* ]]; then
  command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
fi
if [[ "$servers" == *" postgres "* ]]; then
  # without a cluster of the system's own, which would take memory and the port
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing+=(postgresql)
  command -v setpriv >/dev/null || missing+=(util-linux)
  command -v ps >/dev/null || missing+=(procps)
fi
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  echo "== installing packages: ${missing[*]}"
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  $sudo apt-get update -qq
  if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    $sudo mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v cargo >/dev/null || { echo "error: cargo is not on the PATH; install a Rust toolchain (1.94 or later) from https://rustup.rs" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or later is needed, found $(python3 --version)" >&2; exit 1; }

if [ ! -x "$venv/bin/python" ]; then
  echo "== creating the virtual environment $venv"
  python3 -m venv "$venv"
fi
