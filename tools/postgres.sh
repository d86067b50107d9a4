#!/usr/bin/env bash
# postgres.sh run [PORT] | serve [SETTING=VALUE …]: a real PostgreSQL for development and tests: a cluster of its own in a temporary
# directory that goes with it.
#   run    one server in the foreground, until Ctrl-C
#   serve  one server driven by the lines of standard input: kill (SIGKILL, all its processes), start (same port, same data), pause, go on
#          with resume, sql STATEMENT (as the superuser). Answers each with one line on standard output, the first being "ready HOST:PORT". At the end of the input
#          everything is gone, so whoever started it cannot leave a server behind, however it ends.
# The superuser is postgres, by password "secret" over TCP; there is one database, thyme.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Whoever drives `serve` reads standard output only: it is told there too.
fail() {
  [ -z "${serving:-}" ] || echo "failed: $1"
  echo "error: $1" >&2
  exit 1
}

find_binaries() {
  local found
  found="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)"
  [ -n "$found" ] || found="$(dirname "$(command -v initdb || true)")"
  [ -x "$found/initdb" ] || fail "PostgreSQL is not installed (apt-get install postgresql)"
  binaries="$found"
}

# PostgreSQL refuses to run as root: there a system user does.
choose_user() {
  as=()
  [ "$(id -u)" -eq 0 ] || return 0
  local user=nobody
  ! getent passwd postgres >/dev/null || user=postgres
  as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups --)
  chown "$user" "$home"
}

server=""
children() {
  ps -o pid= --ppid "$server" 2>/dev/null || true
}

start_once() {
  # Left behind by a kill.
  rm -f "$home/data/postmaster.pid"
  "${as[@]}" "$binaries/postgres" -D "$home/data" >>"$home/server.log" 2>&1 </dev/null &
  server=$!
  for _ in $(seq 1 600); do
    "${as[@]}" "$binaries/pg_isready" -q -h "$home" -p "$port" -U postgres && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  signal_all KILL
  wait "$server" 2>/dev/null || true
  tail -20 "$home/server.log" >&2
  return 1
}

start() {
  for _ in 1 2 3; do
    start_once && return
    sleep 1
  done
  fail "PostgreSQL did not start: $(tail -1 "$home/server.log")"
}

signal_all() {
  local all
  all="$(children)"
  # The first, so that it starts no others meanwhile.
  [ "$1" = CONT ] || kill -STOP "$server" 2>/dev/null || true
  # shellcheck disable=SC2086
  [ -z "$all" ] || kill "-$1" $all 2>/dev/null || true
  kill "-$1" "$server" 2>/dev/null || true
}

kill_all() {
  [ -n "$server" ] || return 0
  signal_all KILL
  wait "$server" 2>/dev/null || true
  server=""
}

clean() {
  kill_all
  rm -rf "$home"
}

prepare() {
  find_binaries
  home="$(mktemp -d "${TMPDIR:-/tmp}/thyme-postgres.XXXXXX")"
  trap clean EXIT
  chmod 711 "$home"
  choose_user
  port="${1:-0}"
  [ "$#" -eq 0 ] || shift
  [ "$port" != 0 ] || port="$(python3 "$here/free_ports.py" 1)"
  address="127.0.0.1:$port"
  echo secret >"$home/password"
  chmod 644 "$home/password"
  cd /
  "${as[@]}" "$binaries/initdb" -D "$home/data" -U postgres --pwfile="$home/password" --auth-local=trust --auth-host=scram-sha-256 \
    -E UTF8 --locale=C --no-sync >"$home/initdb.log" 2>&1 || { cat "$home/initdb.log" >&2; fail "the PostgreSQL cluster could not be made"; }
  {
    printf '%s\n' "listen_addresses = '127.0.0.1'" "port = $port" "unix_socket_directories = '$home'" "shared_buffers = 16MB" \
      "max_connections = 60" "autovacuum = on" "fsync = off" "log_min_messages = warning" "password_encryption = 'scram-sha-256'"
    [ "$#" -eq 0 ] || printf '%s\n' "$@"
  } >>"$home/data/postgresql.conf"
  start
  "${as[@]}" "$binaries/createdb" -h "$home" -p "$port" -U postgres thyme
}

# As the superuser, in the database thyme.
sql() {
  "${as[@]}" "$binaries/psql" -q -h "$home" -p "$port" -U postgres -v ON_ERROR_STOP=1 -c "$1" thyme >/dev/null
}

run() {
  prepare "$@"
  echo "== PostgreSQL listens on $address; Ctrl-C ends it and deletes its data"
  echo "   thyme serve --set catalog.url=postgres://postgres:secret@$address/thyme"
  trap 'exit 0' INT TERM
  wait "$server"
}

serve() {
  serving=yes
  prepare 0 "$@"
  echo "ready $address"
  local line
  while read -r line; do
    case "$line" in
      kill) kill_all ;;
      start) start ;;
      pause) signal_all STOP ;;
      resume) signal_all CONT ;;
      sql\ *) sql "${line#sql }"; line=sql ;;
      *) fail "unknown command: $line" ;;
    esac
    echo "done $line"
  done
}

case "${1:-}" in
  run) shift; run "$@" ;;
  serve) shift; serve "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
