#!/bin/sh
# cpg from cron, with another thing to do for each exit code. A line for crontab:
#   17 2 * * * CPG_SERVER=relay.example:443 CPG_TLS=true /usr/local/bin/cpg-nightly.sh
#
# Everything that `cpg generate` takes can be set in the environment as well (CPG_SERVER, CPG_NAMESPACE, ..).
set -u

data=${CPG_NIGHTLY_DIR:-$HOME/cpg}
: "${CPG_DURATION:=5m}"
export CPG_DURATION
mkdir -p "$data" || exit 2

cpg generate --fail-on-infra-drops \
  --output-dir "$data/policies" --health-file "$data/cluster-health.json" 2>"$data/last.log"
code=$?

# cron mails what is printed here: nothing means that all is well.
case $code in
  0) ;;
  1)
    echo "cpg: the network of the cluster dropped packets that no policy helps:"
    grep -A 60 'broken in the cluster' "$data/last.log"
    echo "All of it is in $data/cluster-health.json. The policies are up to date."
    ;;
  2)
    echo "cpg: something kept it from doing its work; the policies may be incomplete:"
    grep -E 'NOT DONE|^error:' "$data/last.log" || tail -n 20 "$data/last.log"
    ;;
  *)
    echo "cpg ended with code $code (a signal ended it, or it is not installed):"
    tail -n 20 "$data/last.log"
    ;;
esac
exit "$code"
