// Package decide is the subcommand of the same name: Cilium's own policy engine as judge. README.md
// describes its input and output.
package decide

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Main answers the lines of standard input until it ends. It returns 2 when standard input or
// output fails.
func Main(engine Engine) func(args []string) int {
	return func(args []string) int {
		if len(args) > 0 {
			fmt.Fprintln(os.Stderr, "usage: testbed decide < questions.jsonl")
			return 2
		}
		if err := Serve(engine, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "testbed:", err)
			return 2
		}
		return 0
	}
}

// Serve answers each line of in with a block of lines on out, the last of which is {}.
func Serve(engine Engine, in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	writer := bufio.NewWriter(out)
	lines := json.NewEncoder(writer)
	lines.SetEscapeHTML(false)
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 1 {
			for _, answer := range Decide(engine, line) {
				if err := lines.Encode(answer); err != nil {
					return err
				}
			}
			if err := lines.Encode(struct{}{}); err != nil {
				return err
			}
			if err := writer.Flush(); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// Decide answers one line: first {"refused": [...]} if a policy was refused, then an Answer for
// every flow. A line that cannot be used is answered with {"error": ...} alone.
func Decide(engine Engine, line []byte) []any {
	in, err := parseInput(line)
	if err != nil {
		return []any{map[string]string{"error": err.Error()}}
	}
	cluster, refused, err := newCluster(slog.New(slog.DiscardHandler), engine, in)
	if err != nil {
		return []any{map[string]string{"error": err.Error()}}
	}
	var out []any
	if len(refused) > 0 {
		out = append(out, map[string]any{"refused": refused})
	}
	for _, flow := range in.Flows {
		out = append(out, cluster.decide(flow))
	}
	return out
}
