// Package document splits YAML files into the objects that kubectl would send.
package document

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Document is one object. Err says why its text is no object; the object is then nil.
type Document struct {
	// Index counts the documents of a file from 0; empty ones do not count. The items of a List
	// share the index of the list.
	Index int
	// JSON is the object as text.
	JSON   []byte
	Object *unstructured.Unstructured
	Err    error
}

// Split reads all documents of a text. Only an error of the reader itself is returned.
func Split(text []byte) ([]Document, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var out []Document
	for index := 0; ; {
		part, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		docs := parse(part)
		for _, d := range docs {
			d.Index = index
			out = append(out, d)
		}
		if len(docs) > 0 {
			index++
		}
	}
}

// parse turns one YAML document into objects: none when it is empty, several when it is a List.
func parse(part []byte) []Document {
	json, err := yaml.YAMLToJSONStrict(part)
	if err != nil {
		return []Document{{Err: err}}
	}
	if bytes.Equal(bytes.TrimSpace(json), []byte("null")) {
		return nil
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(json); err != nil {
		return []Document{{Err: fmt.Errorf("not a Kubernetes object: %w", err)}}
	}
	if !object.IsList() || !strings.HasSuffix(object.GetKind(), "List") {
		return []Document{{JSON: json, Object: object}}
	}
	var docs []Document
	err = object.EachListItem(func(item runtime.Object) error {
		one := item.(*unstructured.Unstructured)
		json, err := one.MarshalJSON()
		docs = append(docs, Document{JSON: json, Object: one, Err: err})
		return nil
	})
	if err != nil {
		docs = append(docs, Document{Err: err})
	}
	return docs
}
