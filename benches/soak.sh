#!/usr/bin/env bash
# Left running: cpg follows a relay as fast as it can read, then 1,500 flows a second. Memory is sampled each
# ten seconds; it has to be flat. Needs Linux (/proc).
# Usage: benches/soak.sh [path of cpg [seconds at full speed [seconds at 1,500/s]]]; 1200 and 300 by default;
# without a path the release build is made and used.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -r /proc/self/status ] || { echo "skipped: the soak reads memory from /proc"; exit 0; }
cpg=${1:-}
full=${2:-1200}
steady=${3:-300}
every=${SOAK_SAMPLE:-10}
if [ -z "$cpg" ]; then
  ${CARGO:-cargo} build --release --locked --quiet
  cpg=target/release/cpg
fi
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
ticks=$(getconf CLK_TCK)

"$cpg" dev capture --seed 1 --lines 200000 --out "$dir/capture.jsonl" --truth "$dir/truth" >/dev/null

# number NAME: a number of the last scrape; the sum where it has labels.
number() { awk -v name="$1" '$1 ~ "^" name "({|$)" { sum += $2 } END { printf "%.0f", sum }' "$dir/metrics"; }

# scrape: /metrics into $dir/metrics, with nothing but bash.
scrape() {
  exec 9<>"/dev/tcp/${metrics%:*}/${metrics##*:}"
  printf 'GET /metrics HTTP/1.1\r\nHost: cpg\r\nConnection: close\r\n\r\n' >&9
  cat <&9 >"$dir/metrics"
  exec 9>&-
}

# cpu PID: seconds of CPU so far. rss PID: kilobytes.
cpu() { sed 's/.*) //' "/proc/$1/stat" | awk -v t="$ticks" '{ printf "%.2f", ($12 + $13) / t }'; }
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

# soak NAME SECONDS [flags of dev load]
soak() {
  local name=$1 seconds=$2 load pid address begin now last=0 flows used
  shift 2
  rm -rf "$dir/out" "$dir/load" "$dir/log" "$dir/samples"
  "$cpg" dev load --serve 127.0.0.1:0 --capture "$dir/capture.jsonl" --flows 18446744073709551615 "$@" 2>"$dir/load" &
  load=$!
  until grep -q ' on .*:[0-9]' "$dir/load" 2>/dev/null; do sleep 0.05; done
  address=$(sed -n 's/.* on //p' "$dir/load")
  "$cpg" generate --server "$address" --no-preflight --metrics-listen 127.0.0.1:0 --duration "${seconds}s" \
    --health-file "$dir/health.json" -o "$dir/out" 2>"$dir/log" &
  pid=$!
  until grep -q 'serving /metrics' "$dir/log" 2>/dev/null; do sleep 0.05; done
  metrics=$(sed -n 's/.*serving \/metrics.*address=//p' "$dir/log")
  echo "$name"
  printf '%8s %14s %12s %10s %10s %22s\n' seconds flows flows/s "RSS MB" ledger "CPU s per million"
  begin=$(date +%s.%N)
  while sleep "$every"; do
    kill -0 "$pid" 2>/dev/null || break
    # A run that ends just now is no sample.
    { scrape && used=$(cpu "$pid") && memory=$(rss "$pid"); } 2>/dev/null || break
    now=$(date +%s.%N)
    flows=$(number cpg_flows_total)
    awk -v b="$begin" -v n="$now" -v f="$flows" -v l="$last" -v e="$every" -v m="$memory" -v u="$used" -v o="$(number cpg_ledger_entries)" 'BEGIN {
      printf "%8.0f %14d %12.0f %10.1f %10d %22.2f\n", n - b, f, (f - l) / e, m / 1024, o, f ? u * 1e6 / f : 0
    }' | tee -a "$dir/samples"
    last=$flows
  done
  wait "$pid" && code=0 || code=$?
  kill "$load" 2>/dev/null || true
  wait "$load" 2>/dev/null || true
  # Flat: the second half has no more than the end of the first quarter had, and a tenth (or 8 MB) on top.
  awk -v code="$code" -v used="${used:-0}" '
    { at[NR] = $4; flows = $2; seconds = $1 }
    END {
      if (NR < 4) { print "  too few samples to judge"; exit 1 }
      quarter = int((NR + 3) / 4)
      for (i = 1; i <= quarter; i++) if (at[i] > early) early = at[i]
      for (i = int(NR / 2) + 1; i <= NR; i++) if (at[i] > late) late = at[i]
      room = early / 10 > 8 ? early / 10 : 8
      flat = late <= early + room
      printf "  %.0f flows/s, %.2f CPU s per million flows, %.1f %% of a core; RSS %.1f MB after a quarter, at most %.1f MB in the second half: %s; exit code %d\n",
        flows / seconds, used * 1e6 / flows, used * 100 / seconds, early, late, flat ? "flat" : "IT GROWS", code
      exit !(flat && code == 0)
    }' "$dir/samples" || failed=1
  grep -E 'NOT DONE|ERROR' "$dir/log" || true
}

failed=0
soak "as fast as cpg reads, for $full s" "$full"
soak "1,500 flows/s, for $steady s" "$steady" --rate 1500
exit "$failed"
