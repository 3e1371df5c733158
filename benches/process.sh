#!/usr/bin/env bash
# Whole processes: lines and flows per second, peak memory, share of a core. Needs GNU time.
# Usage: benches/process.sh [path of cpg]; without it the release build is made and used.
#        benches/process.sh --forward [path of cpg]: only the live stream, directly and through a port-forward of
#        a real API server and kubelet, in turn. Needs CPG_TESTBED (make test builds it) and curl.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x /usr/bin/time ] || { echo "skipped: whole-process measurements need GNU time (package time)"; exit 0; }
forward=
if [ "${1:-}" = --forward ]; then forward=1; shift; fi
cpg=${1:-}
if [ -z "$cpg" ]; then
  ${CARGO:-cargo} build --release --locked --quiet
  cpg=target/release/cpg
fi
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT

# measure NAME COUNT COMMAND...: one line with seconds, count per second, peak memory, CPU.
measure() {
  local name=$1 count=$2
  shift 2
  /usr/bin/time -o "$dir/time" -f "%e %U %S %M" "$@" >/dev/null 2>"$dir/said" || true
  awk -v name="$name" -v n="$count" 'END {
    printf "%-42s %8.2f s %12.0f /s %8.1f MB %8.2f CPU s per million\n", name, $1, n / $1, $4 / 1024, ($2 + $3) * 1e6 / n
  }' "$dir/time"
}

# load FLOWS ADDRESS: serves this many flows to each stream, until killed.
load() {
  rm -f "$dir/load"
  "$cpg" dev load --serve "$2" --capture "$dir/100000.jsonl" --flows "$1" 2>"$dir/load" &
  until grep -q ' on .*:[0-9]' "$dir/load" 2>/dev/null; do sleep 0.05; done
}

if [ -n "$forward" ]; then
  [ -x "${CPG_TESTBED:-}" ] || { echo "skipped: the port-forward needs CPG_TESTBED, see tests/testbed/README.md"; exit 0; }
  "$cpg" dev capture --seed 1 --lines 100000 --out "$dir/100000.jsonl" --truth "$dir/100000.truth" >/dev/null
  mkfifo "$dir/open"
  # It ends when its standard input closes.
  exec 9<>"$dir/open"
  "$CPG_TESTBED" up -kube -nodes 1 -net auto -dir "$dir/testbed" <"$dir/open" >"$dir/ready" 2>"$dir/testbed.log" 9>&- &
  until grep -q ready "$dir/ready" 2>/dev/null; do kill -0 $! || { cat "$dir/testbed.log"; exit 2; }; sleep 0.1; done
  of() { grep -o "\"$1\":\"[^\"]*\"" "$dir/ready" | sed -n 1p | cut -d'"' -f4; }
  # The load takes the place of the relay, so the pod's port leads to it.
  curl -sf -X POST "$(of control)/proc/relay/kill" >/dev/null
  flows=${FLOWS:-1000000}
  load "$flows" "$(of relay)"
  kubeconfig=$(of kubeconfig)
  for turn in 1 2 3; do
    measure "direct, $flows flows" "$flows" "$cpg" generate --no-reconnect --server "$(of relay)" -o "$dir/direct"
    measure "port-forward, $flows flows" "$flows" env KUBECONFIG="$kubeconfig" "$cpg" generate --no-reconnect -o "$dir/forwarded"
  done
  grep -h 'flows in' "$dir/said"
  diff -r --exclude=.cpg "$dir/direct" "$dir/forwarded" && echo "the same files: $(find "$dir/direct" -name '*.yaml' | wc -l)"
  kill %% 2>/dev/null
  exit 0
fi

for lines in 100000 1000000; do
  "$cpg" dev capture --seed 1 --lines $lines --out "$dir/$lines.jsonl" --truth "$dir/$lines.truth" >/dev/null
  gzip -k -1 "$dir/$lines.jsonl"
done

echo "limits"
measure "wc -l, 1,000,000 lines" 1000000 wc -l "$dir/1000000.jsonl"
measure "gzip -dc, 1,000,000 lines" 1000000 gzip -dc "$dir/1000000.jsonl.gz"
echo "replay"
for lines in 100000 1000000; do
  for threads in 1 2; do
    measure "plain, $lines lines, $threads thread(s)" $lines "$cpg" replay "$dir/$lines.jsonl" --threads $threads -o "$dir/out"
    measure "gz, $lines lines, $threads thread(s)" $lines "$cpg" replay "$dir/$lines.jsonl.gz" --threads $threads -o "$dir/out"
  done
done

echo "live (flows of all verdicts, as fast as cpg reads)"
for flows in 100000 1000000; do
  load "$flows" 127.0.0.1:0
  address=$(sed -n 's/.* on //p' "$dir/load")
  measure "live, $flows flows" $flows "$cpg" generate --no-reconnect --server "$address" -o "$dir/live"
  kill %% && wait %% 2>/dev/null || true
done
