// Package readback is the subcommand json: what does Go's sigs.k8s.io/yaml, the reader of kubectl and
// of the API server, see in these files?
package readback

import (
	"bufio"
	"fmt"
	"os"

	"cpg.test/common/document"
)

// Main prints every document of the files that args name as one line of JSON, and returns 1 when one
// of them cannot be read.
func Main(args []string) int {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	code := 0
	for _, name := range args {
		text, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "testbed:", err)
			return 2
		}
		documents, err := document.Split(text)
		if err != nil {
			fmt.Fprintf(os.Stderr, "testbed: %s: %v\n", name, err)
			return 2
		}
		for _, d := range documents {
			if d.Err != nil {
				fmt.Fprintf(os.Stderr, "testbed: %s: document %d: %v\n", name, d.Index, d.Err)
				code = 1
				continue
			}
			out.Write(d.JSON)
			out.WriteByte('\n')
		}
	}
	return code
}
