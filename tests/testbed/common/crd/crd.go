// Package crd does what a Kubernetes API server does with a new custom resource, for the two
// policy kinds and with the definitions that are embedded in the Cilium module.
package crd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/cilium/cilium/pkg/k8s/apis/cilium.io/client"
)

// version is the API version of the two policy kinds.
const version = "v2"

// Schema is one kind as the API server sees it.
type Schema struct {
	apiVersion string
	namespaced bool
	structural *structuralschema.Structural
	openAPI    validation.SchemaValidator
	cel        *cel.Validator
}

// Load reads the definitions of both kinds.
func Load(log *slog.Logger) (map[string]*Schema, error) {
	out := map[string]*Schema{}
	for _, name := range []string{client.CNPCRDName, client.CCNPCRDName} {
		definition := client.GetPregeneratedCRD(log, name)
		schema, err := load(definition)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[definition.Spec.Names.Kind] = schema
	}
	return out, nil
}

func load(definition apiextensionsv1.CustomResourceDefinition) (*Schema, error) {
	for _, v := range definition.Spec.Versions {
		if v.Name != version {
			continue
		}
		internal := &apiextensions.CustomResourceValidation{}
		err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, internal, nil)
		if err != nil {
			return nil, err
		}
		s := &Schema{
			apiVersion: definition.Spec.Group + "/" + version,
			namespaced: definition.Spec.Scope == apiextensionsv1.NamespaceScoped,
		}
		if s.structural, err = structuralschema.NewStructural(internal.OpenAPIV3Schema); err != nil {
			return nil, err
		}
		if s.openAPI, _, err = validation.NewSchemaValidator(internal.OpenAPIV3Schema); err != nil {
			return nil, err
		}
		s.cel = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
		return s, nil
	}
	return nil, fmt.Errorf("the definition has no version %s", version)
}

// Served says whether the API server has the kind in the version that the object names.
func (s *Schema) Served(object *unstructured.Unstructured) error {
	if object.GetAPIVersion() != s.apiVersion {
		return fmt.Errorf("no matches for kind %q in version %q", object.GetKind(), object.GetAPIVersion())
	}
	return nil
}

// Prune removes all that the API server would not store and returns the paths of unknown fields,
// for which kubectl (field validation Strict) refuses an object.
func (s *Schema) Prune(object *unstructured.Unstructured) ([]string, error) {
	kind, apiVersion := object.GetKind(), object.GetAPIVersion()
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(object.Object,
		objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return nil, err
	}
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	unknown = append(unknown, pruning.PruneWithOptions(object.Object, s.structural, true, options)...)
	defaulting.PruneNonNullableNullsWithoutDefaults(object.Object, s.structural)
	failure, paths := objectmeta.CoerceWithOptions(nil, object.Object, s.structural, false,
		objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if failure != nil {
		return nil, failure
	}
	object.SetKind(kind)
	object.SetAPIVersion(apiVersion)
	if found {
		if err := objectmeta.SetObjectMeta(object.Object, meta); err != nil {
			return nil, err
		}
	}
	return append(unknown, paths...), nil
}

// Validate fills in defaults and checks the object, which must have been pruned, against everything
// in the definition.
func (s *Schema) Validate(object *unstructured.Unstructured) error {
	defaulting.Default(object.Object, s.structural)
	errs := metavalidation.ValidateObjectMetaAccessor(object, s.namespaced, metavalidation.NameIsDNSSubdomain,
		field.NewPath("metadata"))
	errs = append(errs, validation.ValidateCustomResource(nil, object.Object, s.openAPI)...)
	errs = append(errs, objectmeta.Validate(nil, object.Object, s.structural, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.structural, object.Object)...)
	if s.cel != nil && len(errs) == 0 {
		failures, _ := s.cel.Validate(context.Background(), nil, s.structural, object.Object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, failures...)
	}
	return errs.ToAggregate()
}

// Unknown puts the paths of unknown fields into one error, or none.
func Unknown(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	return fmt.Errorf("unknown field: %s", strings.Join(paths, ", "))
}
