// Package relay is the real Hubble Relay: the command of the hubble-relay image with the arguments
// that the supervisor passes. It must be a process of its own, because it registers its metrics in
// a registry of the whole process.
package relay

import (
	"cpg.test/testbed/internal/part"

	relaycmd "github.com/cilium/cilium/hubble-relay/cmd"
)

// Main runs "hubble-relay serve" with args.
func Main(args []string) int {
	command := relaycmd.New()
	command.SetArgs(append([]string{"serve"}, args...))
	if err := command.Execute(); err != nil {
		return part.Fail(err)
	}
	return 0
}
