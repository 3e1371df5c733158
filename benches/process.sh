#!/usr/bin/env bash
# Whole processes: lines and flows per second, peak memory, share of a core. Needs GNU time.
# Usage: benches/process.sh [path of cpg]; without it the release build is made and used.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x /usr/bin/time ] || { echo "skipped: whole-process measurements need GNU time (package time)"; exit 0; }
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
  rm -f "$dir/load"
  "$cpg" dev load --serve 127.0.0.1:0 --capture "$dir/100000.jsonl" --flows $flows 2>"$dir/load" &
  until grep -q ' on .*:[0-9]' "$dir/load" 2>/dev/null; do sleep 0.05; done
  address=$(sed -n 's/.* on //p' "$dir/load")
  measure "live, $flows flows" $flows "$cpg" generate --no-reconnect --server "$address" -o "$dir/live"
  kill %% && wait %% 2>/dev/null || true
done
