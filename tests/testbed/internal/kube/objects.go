package kube

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"text/template"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cilium/cilium/pkg/k8s/apis/cilium.io/client"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
)

const (
	// nodeName is the Node that the relay's pods are on.
	nodeName        = "node-1"
	ciliumNamespace = "kube-system"
)

//go:embed objects.yaml
var objectsText string

var objectsTemplate = template.Must(template.New("objects").Parse(objectsText))

// objects are those that stand in objects.yaml.
func (c *Cluster) objects() ([]byte, error) {
	ip, port, err := net.SplitHostPort(c.config.Kubelet)
	if err != nil {
		return nil, err
	}
	values := map[string]any{
		"Namespaces": []string{ciliumNamespace, "shop", "pay", "obs"},
		"Node":       nodeName, "KubeletIP": ip, "KubeletPort": port,
		"TLS": c.config.TLS, "Now": time.Now().UTC().Format(time.RFC3339),
	}
	if c.config.TLS {
		values["Secrets"] = []string{"hubble-relay-client-certs", "hubble-relay-server-certs"}
		for name, path := range map[string]string{"CA": c.config.CA, "Cert": c.config.RelayCert.Cert, "Key": c.config.RelayCert.Key} {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			encoded, err := json.Marshal(text) // as base64
			if err != nil {
				return nil, err
			}
			values[name] = string(encoded)
		}
	}
	var out bytes.Buffer
	err = objectsTemplate.Execute(&out, values)
	return out.Bytes(), err
}

// definitions are Cilium's, as its operator creates them.
func definitions() ([]byte, error) {
	var out bytes.Buffer
	for _, name := range []string{client.CNPCRDName, client.CCNPCRDName} {
		definition := client.GetPregeneratedCRD(slog.New(slog.DiscardHandler), name)
		definition.TypeMeta = metav1.TypeMeta{Kind: "CustomResourceDefinition", APIVersion: apiextensionsv1.SchemeGroupVersion.String()}
		text, err := json.Marshal(definition)
		if err != nil {
			return nil, err
		}
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, err
		}
		delete(object, "status") // the API server's own
		if text, err = json.Marshal(object); err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(text)
		out.WriteString("\n")
	}
	return out.Bytes(), nil
}

// policies are the resources of definitions. They are known here, because the API server lists new
// ones to clients that ask for all resources only a second or two after it serves them.
var policies = func() *meta.DefaultRESTMapper {
	version := schema.GroupVersion{Group: v2.CustomResourceDefinitionGroup, Version: v2.CustomResourceDefinitionVersion}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{version})
	mapper.Add(version.WithKind(v2.CNPKindDefinition), meta.RESTScopeNamespace)
	mapper.Add(version.WithKind(v2.CCNPKindDefinition), meta.RESTScopeRoot)
	return mapper
}()

// established fails until the API server serves both kinds.
func (c *Cluster) established(ctx context.Context) error {
	for _, name := range []string{v2.CNPPluralName, v2.CCNPPluralName} {
		resource, err := policies.ResourceFor(schema.GroupVersionResource{Resource: name})
		if err != nil {
			return err
		}
		if _, err := c.resource(resource, "").List(ctx, metav1.ListOptions{}); err != nil {
			return err
		}
	}
	return nil
}
