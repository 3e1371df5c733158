// Package metricslint reads metrics with Prometheus's own parser and judges their names with its own
// linter.
package metricslint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Main reads metrics in the text format 0.0.4 from standard input and prints one line of JSON:
//
//	{"families": {"name": "COUNTER", ..}, "samples": N, "problems": ["name: text", ..], "error": ".."}
//
// Exit code 0 = read and without problems, 1 = problems, 2 = not readable.
func Main(args []string) int {
	if len(args) != 0 {
		fmt.Fprintln(os.Stderr, "usage: testbed metrics-lint < metrics")
		return 2
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	answer := struct {
		Families map[string]string `json:"families"`
		Samples  int               `json:"samples"`
		Problems []string          `json:"problems"`
		Error    string            `json:"error,omitempty"`
	}{Families: map[string]string{}, Problems: []string{}}
	code := 0
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		answer.Error = err.Error()
		code = 2
	}
	for name, family := range families {
		answer.Families[name] = family.GetType().String()
		answer.Samples += len(family.GetMetric())
	}
	if code == 0 {
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			answer.Error = err.Error()
			code = 2
		}
		for _, problem := range problems {
			answer.Problems = append(answer.Problems, problem.Metric+": "+problem.Text)
			code = max(code, 1)
		}
		sort.Strings(answer.Problems)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		return 2
	}
	return code
}
