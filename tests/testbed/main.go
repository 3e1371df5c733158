// Command testbed runs the parts of a Cilium cluster that cpg talks to, linked from the released
// modules, on loopback addresses and without privileges. README.md describes each subcommand.
//
// "up" is what tests start. It runs this same binary once more for every part (node, peer, relay),
// so that a part can be killed or stopped by itself, as a pod in a cluster can.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"cpg.test/common/decide"
	"cpg.test/common/dnsmatch"
	"cpg.test/common/readback"
	"cpg.test/common/validate"
	"cpg.test/testbed/internal/apiproxy"
	"cpg.test/testbed/internal/engine"
	"cpg.test/testbed/internal/metricslint"
	"cpg.test/testbed/internal/node"
	"cpg.test/testbed/internal/peer"
	"cpg.test/testbed/internal/relay"
	"cpg.test/testbed/internal/up"
)

// commands maps a subcommand to its function, which gets the rest of the command line and returns
// the exit code.
var commands = map[string]func(args []string) int{
	"up":           up.Main,
	"node":         node.Main,
	"peer":         peer.Main,
	"relay":        relay.Main,
	"apiproxy":     apiproxy.Main,
	"validate":     validate.Main,
	"json":         readback.Main,
	"decide":       decide.Main(&engine.Engine{}),
	"dns-match":    dnsmatch.Main,
	"metrics-lint": metricslint.Main,
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := commands[os.Args[1]]; ok {
			os.Exit(run(os.Args[2:]))
		}
	}
	var names []string
	for name := range commands {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: testbed %s [arguments]\n", strings.Join(names, "|"))
	os.Exit(2)
}
