package kube

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// grants says whether objects of a group change who may do what.
func grants(group string) bool { return group == rbacv1.GroupName }

// rights waits until the API server's authorizer knows all roles and bindings that have been written.
// It follows each of the four kinds by a watch of its own, a moment behind. So one object more of each
// kind is written, and once what they grant is granted, what came before is known too.
func (c *Cluster) rights(ctx context.Context) error {
	c.probes.Lock()
	defer c.probes.Unlock()
	c.probesMade++
	name := fmt.Sprintf("testbed-probe-%d", c.probesMade)
	object := metav1.ObjectMeta{Name: name}
	rules := []rbacv1.PolicyRule{{APIGroups: []string{name}, Resources: []string{"probes"}, Verbs: []string{"get"}}}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}}
	ref := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	defer c.forget(name)
	rbac := c.core.RbacV1()
	if _, err := rbac.Roles(ciliumNamespace).Create(ctx, &rbacv1.Role{ObjectMeta: object, Rules: rules}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := rbac.RoleBindings(ciliumNamespace).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: object, RoleRef: ref("Role"), Subjects: subjects,
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	// A second name keeps apart what the two bindings grant.
	subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name + "-all"}}
	if _, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: object, Rules: rules}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: object, RoleRef: ref("ClusterRole"), Subjects: subjects,
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, ask := range []struct{ user, namespace string }{{name, ciliumNamespace}, {name + "-all", ""}} {
		if err := c.until(ctx, func() error { return c.allowed(ctx, ask.user, ask.namespace, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) allowed(ctx context.Context, user, namespace, group string) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "get", Group: group, Resource: "probes", Namespace: namespace,
		},
	}}
	answer, err := c.core.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err == nil && !answer.Status.Allowed {
		return fmt.Errorf("%s is not granted yet", user)
	}
	return err
}

// forget removes the probes; one that stays does no harm.
func (c *Cluster) forget(name string) {
	for resource, namespace := range map[string]string{
		"rolebindings": ciliumNamespace, "roles": ciliumNamespace, "clusterrolebindings": "", "clusterroles": "",
	} {
		_ = c.resource(schema.GroupVersionResource{Group: rbacv1.GroupName, Version: "v1", Resource: resource}, namespace).
			Delete(context.Background(), name, metav1.DeleteOptions{})
	}
}
