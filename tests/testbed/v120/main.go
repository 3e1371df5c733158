// Command testbed of this module asks Cilium 1.20 what the one above asks Cilium 1.19: would a
// cluster take these policies, and what would they allow? It has no other parts.
package main

import (
	"fmt"
	"os"

	"cpg.test/common/decide"
	"cpg.test/common/dnsmatch"
	"cpg.test/common/validate"
	"cpg.test/testbed/v120/engine"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "validate":
			os.Exit(validate.Main(os.Args[2:]))
		case "decide":
			os.Exit(decide.Main(&engine.Engine{})(os.Args[2:]))
		case "dns-match":
			os.Exit(dnsmatch.Main(os.Args[2:]))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: testbed decide|dns-match|validate [arguments]")
	os.Exit(2)
}
