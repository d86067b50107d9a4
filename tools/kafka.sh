#!/usr/bin/env bash
# kafka.sh fetch | run [PORT] | serve [PORT [PROPERTY=VALUE …]]: a real Kafka broker for development and tests: one node, KRaft, data in a
# temporary directory that goes with it.
#   fetch  has Maven copy the jars into the cache ($THYME_CACHE or ~/.cache/thyme), and Java archive their classes, once
#   run    one broker in the foreground, until Ctrl-C
#   serve  one broker driven by the lines of standard input: kill (SIGKILL), start (same port, same data), pause, go on with resume.
#          Answers each with one line on standard output, the first being "ready HOST:PORT". At the end of the input everything is gone,
#          so whoever started it cannot leave a broker behind, however it ends.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${THYME_CACHE:-$HOME/.cache/thyme}/kafka"
version="$(sha256sum "$here/kafka/pom.xml" | cut -c1-16)"
jars="$cache/$version"
# Java's archive of the loaded classes (class data sharing): a start takes half the processor time.
classes="$jars/classes.jsa"
# A broker's directory before its first start.
formatted="$jars/formatted"

# Whoever drives `serve` reads standard output only: it is told there too.
fail() {
  [ -z "${serving:-}" ] || echo "failed: $1"
  echo "error: $1" >&2
  echo "hint: '${2:-make test KAFKA=off}' leaves out the tests that need a Kafka broker and says so at its end" >&2
  exit 1
}

fetch() {
  [ -f "$jars/complete" ] && return
  command -v java >/dev/null || fail "java is not installed; a Kafka broker needs Java 17 or later (apt-get install openjdk-17-jre-headless)"
  command -v mvn >/dev/null || fail "mvn is not installed; Maven fetches the broker's jars (apt-get install maven)"
  echo "== fetching the Kafka broker's jars (once)" >&2
  mkdir -p "$cache"
  local fresh log
  fresh="$(mktemp -d "$cache/fresh.XXXXXX")"
  log="$fresh.log"
  if ! mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$fresh" >"$log" 2>&1; then
    tail -5 "$log" >&2
    rm -rf "$fresh" "$log"
    fail "Maven could not fetch the Kafka broker's jars"
  fi
  rm -f "$log"
  touch "$fresh/complete"
  mv -T "$fresh" "$jars" 2>/dev/null || rm -rf "$fresh" # another process was first
}

# The broker's properties; later ones win.
configure() {
  local port="$1" controller ports
  shift
  read -ra ports < <(python3 "$here/free_ports.py" 2)
  [ "$port" != 0 ] || port="${ports[0]}"
  controller="${ports[1]}"
  address="127.0.0.1:$port"
  cat >"$home/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$home/data
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=1000
PROPERTIES
  printf '%s\n' "$@" >>"$home/server.properties"
}

jvm() {
  local options=("-Dorg.slf4j.simpleLogger.showDateTime=true" "-Dorg.slf4j.simpleLogger.defaultLogLevel=${KAFKA_LOG_LEVEL:-warn}")
  # the line that says it is up
  options+=("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info" "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.server=warn")
  if [ -n "${archiving:-}" ] && [ "$1" = kafka.Kafka ]; then
    options+=("-XX:ArchiveClassesAtExit=$archiving")
  elif [ -f "$classes" ]; then
    options+=("-XX:SharedArchiveFile=$classes")
  fi
  exec java -Xlog:cds=off -Xlog:cds+dynamic=off -Xms256m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel="${KAFKA_TIER:-1}" "${options[@]}" -cp "$jars/*" "$@"
}

start_once() {
  : >"$home/broker.log"
  (jvm kafka.Kafka "$home/server.properties") >>"$home/broker.log" 2>&1 </dev/null &
  broker=$!
  for _ in $(seq 1 1200); do
    grep -q "Kafka Server started" "$home/broker.log" && return
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$broker" 2>/dev/null || true
  wait "$broker" 2>/dev/null || true
  tail -20 "$home/broker.log" >&2
  return 1
}

start() {
  for _ in 1 2 3; do
    start_once && return
    sleep 1
  done
  fail "the Kafka broker did not start: $(grep -m1 -E 'Caused by' "$home/broker.log" || tail -1 "$home/broker.log")"
}

# The first start: a port that was lost to somebody else in the meantime is another one at the next attempt.
start_fresh() {
  for _ in 1 2; do
    configure "$@"
    start_once && return
    echo "the Kafka broker did not start; once more, with other ports" >&2
  done
  configure "$@"
  start
}

clean() {
  kill -9 "$broker" 2>/dev/null || true
  wait "$broker" 2>/dev/null || true
  rm -rf "$home"
}

# Formats the directory: a cluster of its own each time, its id without a leading dash, which would be taken for an option.
# Nothing else of it differs from time to time, so that the next broker takes a copy.
format() {
  local cluster data
  data="$(sed -n 's/^log.dirs=//p' "$home/server.properties" | tail -1)"
  cluster="$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22)"
  if [ -d "$formatted" ]; then
    mkdir -p "$data"
    cp -r "$formatted/." "$data"
    sed -i "s/^cluster.id=.*/cluster.id=$cluster/" "$data/meta.properties"
    return
  fi
  (jvm kafka.tools.StorageTool format -t "$cluster" -c "$home/server.properties") >"$home/format.log" 2>&1 ||
    { cat "$home/format.log" >&2; fail "the Kafka broker's storage could not be formatted: $(tail -1 "$home/format.log")"; }
  # Another process may be first, or the cache may be full: then every start formats.
  cp -r "$data" "$formatted.$$" && mv -nT "$formatted.$$" "$formatted" || true
  rm -rf "$formatted.$$"
}

prepare() {
  fetch
  home="$(mktemp -d "${TMPDIR:-/tmp}/thyme-kafka.XXXXXX")"
  broker=""
  trap clean EXIT
  configure "$@"
  format
  start_fresh "$@"
}

archive() {
  [ -f "$classes" ] && return
  echo "== archiving the Kafka broker's classes (once)" >&2
  archiving="$classes.$$"
  prepare 0
  kill "$broker"
  wait "$broker" || true
  # Without it a start is slower, and that is all.
  mv "$archiving" "$classes" || true
}

run() {
  [ "$#" -gt 0 ] || set -- 0
  prepare "$@"
  echo "== a Kafka broker listens on $address; Ctrl-C ends it and deletes its data"
  echo "   thyme serve --set log.url=kafka://$address"
  trap 'exit 0' INT TERM
  wait "$broker"
}

serve() {
  serving=yes
  [ "$#" -gt 0 ] || set -- 0
  prepare "$@"
  echo "ready $address"
  local line
  while read -r line; do
    case "$line" in
      kill) kill -9 "$broker"; wait "$broker" 2>/dev/null || true ;;
      start) start ;;
      pause) kill -STOP "$broker" ;;
      resume) kill -CONT "$broker" ;;
      *) fail "unknown command: $line" ;;
    esac
    echo "done $line"
  done
}

case "${1:-}" in
  fetch) fetch; archive ;;
  run) shift; run "$@" ;;
  serve) shift; serve "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
