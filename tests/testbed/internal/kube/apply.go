package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"cpg.test/common/document"
)

// Options of Apply.
type Options struct {
	// DryRun asks the API server for its answer only.
	DryRun bool
	// Namespaces creates the namespaces of the objects where they are missing.
	Namespaces bool
}

// Result is the API server's answer for one object.
type Result struct {
	Index     int    `json:"index"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	OK        bool   `json:"ok"`
	// Result is created or updated.
	Result string `json:"result,omitempty"`
	// Code and Reason are those of the API server's Status; 0 and "" when it was not asked.
	Code   int32  `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Apply creates or updates every object of a text of YAML documents, with strict field validation.
// A status is written too, since no controller does it here. Rights count as soon as it returns.
func (c *Cluster) Apply(ctx context.Context, text []byte, o Options) ([]Result, error) {
	documents, err := document.Split(text)
	if err != nil {
		return nil, err
	}
	results := []Result{}
	granted := false
	for _, d := range documents {
		result := Result{Index: d.Index}
		err := d.Err
		if err == nil {
			result.Kind, result.Name = d.Object.GetKind(), d.Object.GetName()
			result.Result, err = c.apply(ctx, d.Object, o)
			result.Namespace = d.Object.GetNamespace()
		}
		result.OK = err == nil
		if err != nil {
			result.Error = err.Error()
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				result.Code, result.Reason = status.Status().Code, string(status.Status().Reason)
			}
		}
		granted = granted || result.OK && grants(d.Object.GroupVersionKind().Group)
		results = append(results, result)
	}
	if granted && !o.DryRun {
		return results, c.rights(ctx)
	}
	return results, nil
}

func (c *Cluster) apply(ctx context.Context, object *unstructured.Unstructured, o Options) (string, error) {
	mapping, err := c.mapping(object.GroupVersionKind())
	if err != nil {
		return "", err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace && object.GetNamespace() == "" {
		object.SetNamespace(metav1.NamespaceDefault)
	}
	if o.Namespaces && object.GetNamespace() != "" {
		if err := c.namespace(ctx, object.GetNamespace()); err != nil {
			return "", err
		}
	}
	var dryRun []string
	if o.DryRun {
		dryRun = []string{metav1.DryRunAll}
	}
	client := c.resource(mapping.Resource, object.GetNamespace())
	done := "created"
	stored, err := client.Create(ctx, object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun})
	if apierrors.IsAlreadyExists(err) {
		done = "updated"
		stored, err = client.Get(ctx, object.GetName(), metav1.GetOptions{})
		if err == nil {
			object.SetResourceVersion(stored.GetResourceVersion())
			stored, err = client.Update(ctx, object, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun})
		}
	}
	if err != nil {
		return "", err
	}
	if status, ok := object.Object["status"]; ok && !o.DryRun {
		stored.Object["status"] = status
		if _, err := client.UpdateStatus(ctx, stored, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			return "", fmt.Errorf("status: %w", err)
		}
	}
	return done, nil
}

// mapping finds the resource of a kind.
func (c *Cluster) mapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	if mapping, err := policies.RESTMapping(kind.GroupKind(), kind.Version); err == nil {
		return mapping, nil
	}
	mapping, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset() // it may be new
		return c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	return mapping, err
}

// named finds the resource that a user calls by its kind or resource name.
func (c *Cluster) named(name string) (schema.GroupVersionResource, error) {
	partial := schema.GroupVersionResource{Resource: strings.ToLower(name)}
	if resource, err := policies.ResourceFor(partial); err == nil {
		return resource, nil
	}
	return c.mapper.ResourceFor(partial)
}

// resource is the client for a kind; namespace is empty for what has none.
func (c *Cluster) resource(resource schema.GroupVersionResource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return c.dynamic.Resource(resource)
	}
	return c.dynamic.Resource(resource).Namespace(namespace)
}

func (c *Cluster) namespace(ctx context.Context, name string) error {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	object.SetName(name)
	_, err := c.resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "").Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Delete deletes the object of that kind and name, or all of the kind when name is empty: those of
// a namespace, or of the cluster. It says how many there were.
func (c *Cluster) Delete(ctx context.Context, kind, namespace, name string) (int, error) {
	if kind == "" {
		return 0, errors.New("kind is missing")
	}
	resource, err := c.named(kind)
	if err != nil {
		return 0, err
	}
	n, err := c.delete(ctx, resource, namespace, name)
	if err == nil && grants(resource.Group) {
		err = c.rights(ctx)
	}
	return n, err
}

func (c *Cluster) delete(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (int, error) {
	now := int64(0)
	options := metav1.DeleteOptions{GracePeriodSeconds: &now}
	if name != "" {
		return 1, c.resource(resource, namespace).Delete(ctx, name, options)
	}
	list, err := c.resource(resource, namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	for _, item := range list.Items {
		if err := c.resource(resource, item.GetNamespace()).Delete(ctx, item.GetName(), options); err != nil {
			return 0, err
		}
	}
	return len(list.Items), nil
}
