// Package validate is the subcommand of the same name: would a cluster take these policies? It asks
// in the order in which an object meets the questions: the API server's, then the agent's.
package validate

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"cpg.test/common/agent"
	"cpg.test/common/crd"
	"cpg.test/common/document"

	"github.com/cilium/cilium/pkg/option"
)

// Stages at which a document ends.
const (
	StageYAML    = "yaml"          // the text is no object
	StageUnknown = "unknown-field" // a field that the schema does not have
	StageSchema  = "schema"        // the API server refuses a value
	StageParse   = "parse"         // the agent cannot decode, parse or use it
	StageSkipped = "skipped"       // not a Cilium policy
	StageDone    = ""              // accepted
)

// Line is the answer for one document.
type Line struct {
	File      string `json:"file"`
	Index     int    `json:"index"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	OK        bool   `json:"ok"`
	Stage     string `json:"stage,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Validator holds the schemas.
type Validator struct {
	log     *slog.Logger
	schemas map[string]*crd.Schema
}

// Main checks the files that args name ("-" is standard input) and returns 0 when all is accepted,
// 1 when something is refused and 2 when a file cannot be read.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testbed validate FILE...|-")
		return 2
	}
	v, err := New()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	code := 0
	for _, file := range args {
		lines, err := v.file(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, "testbed:", err)
			code = 2
			continue
		}
		for _, line := range lines {
			if !line.OK && code == 0 {
				code = 1
			}
			if err := out.Encode(line); err != nil {
				return 2
			}
		}
	}
	return code
}

// New loads the schemas and sets the agent's options to those of a default installation.
func New() (*Validator, error) {
	log := slog.New(slog.DiscardHandler)
	option.Config.EnableL7Proxy = true
	option.Config.EnableIPv4 = true
	option.Config.EnableIPv6 = true
	schemas, err := crd.Load(log)
	return &Validator{log: log, schemas: schemas}, err
}

func (v *Validator) file(path string) ([]Line, error) {
	read := os.ReadFile
	if path == "-" {
		read = func(string) ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	return v.Text(path, text)
}

// Text checks all documents of a text.
func (v *Validator) Text(file string, text []byte) ([]Line, error) {
	documents, err := document.Split(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var lines []Line
	for _, d := range documents {
		line := Line{File: file, Index: d.Index}
		if d.Object != nil {
			line.Kind, line.Namespace, line.Name = d.Object.GetKind(), d.Object.GetNamespace(), d.Object.GetName()
		}
		stage, err := v.check(d)
		line.Stage, line.OK = stage, err == nil
		if err != nil {
			line.Error = err.Error()
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (v *Validator) check(d document.Document) (stage string, err error) {
	if d.Err != nil {
		return StageYAML, d.Err
	}
	schema, ok := v.schemas[d.Object.GetKind()]
	if !ok {
		return StageSkipped, nil
	}
	if err := schema.Served(d.Object); err != nil {
		return StageSchema, err
	}
	object := d.Object.DeepCopy()
	if object.GetKind() == agent.CNP && object.GetNamespace() == "" {
		object.SetNamespace("default") // as kubectl does
	}
	unknown, err := schema.Prune(object)
	if err != nil {
		return StageSchema, err
	}
	if err := crd.Unknown(unknown); err != nil {
		return StageUnknown, err
	}
	if err := schema.Validate(object); err != nil {
		return StageSchema, err
	}
	if _, err := agent.Parse(v.log, "default", object, true); err != nil {
		return StageParse, err
	}
	return StageDone, nil
}
