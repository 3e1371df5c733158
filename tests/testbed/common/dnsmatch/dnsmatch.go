// Package dnsmatch is the subcommand dns-match: Cilium's own code for names and patterns of DNS rules
// and toFQDNs. README.md describes its input and output.
package dnsmatch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/cilium/cilium/pkg/fqdn/dnsproxy"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"

	"github.com/cilium/dns"
)

// Question is one line of standard input.
type Question struct {
	// Name and Pattern are matchName and matchPattern.
	Name    string `json:"name"`
	Pattern string `json:"pattern"`
	// Query is the name that is asked for, or that an address is known by.
	Query string `json:"query"`
	// Of is "dns" (default: an item of a dns rule) or "fqdn" (an item of toFQDNs).
	Of string `json:"of"`
}

// Main answers the lines of standard input until it ends. It returns 2 when standard input or output
// fails.
func Main(args []string) int {
	if len(args) > 0 {
		fmt.Fprintln(os.Stderr, "usage: testbed dns-match < questions.jsonl")
		return 2
	}
	if err := Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		return 2
	}
	return 0
}

// Serve answers each line of in with one line on out.
func Serve(in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 1 {
			var answer any
			if matches, err := Match(line); err != nil {
				answer = map[string]string{"error": err.Error()}
			} else {
				answer = matches
			}
			if err := lines.Encode(answer); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// Match answers one line. An error says why Cilium takes no such item, or what is wrong with the line.
func Match(line []byte) (bool, error) {
	var q Question
	if err := json.Unmarshal(line, &q); err != nil {
		return false, err
	}
	expression, err := q.expression()
	if err != nil {
		return false, err
	}
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return false, err
	}
	return compiled.MatchString(strings.ToLower(dns.Fqdn(q.Query))), nil
}

// expression is the regular expression that Cilium makes of the item.
func (q Question) expression() (string, error) {
	switch q.Of {
	case "", "dns":
		rule := api.PortRuleDNS{MatchName: q.Name, MatchPattern: q.Pattern}
		if err := rule.Sanitize(); err != nil {
			return "", err
		}
		rules := api.L7Rules{DNS: api.PortRulesDNS{rule}}
		return dnsproxy.GeneratePattern(&policy.PerSelectorPolicy{L7Rules: rules}), nil
	case "fqdn":
		// Its own check is not exported; that of DNS rules is the same but for the message.
		if q.Name != "" && q.Pattern != "" {
			return "", errors.New("only one of name and pattern")
		}
		rule := api.PortRuleDNS{MatchName: q.Name, MatchPattern: q.Pattern}
		if err := rule.Sanitize(); err != nil {
			return "", err
		}
		selector := api.FQDNSelector{MatchName: q.Name, MatchPattern: q.Pattern}
		compiled, err := selector.ToRegex()
		if err != nil {
			return "", err
		}
		return compiled.String(), nil
	}
	return "", fmt.Errorf("of: %q is neither dns nor fqdn", q.Of)
}
