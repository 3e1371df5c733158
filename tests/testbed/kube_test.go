package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"cpg.test/testbed/internal/kube"
)

// on is the same testbed for a subtest.
func (b *bed) on(t *testing.T) *bed {
	other := *b
	other.t = t
	return &other
}

// TestKube has one testbed for all that concerns Kubernetes, because it takes seconds to start.
func TestKube(t *testing.T) {
	b := startKube(t, "-tls", "mtls", "-nodes", "1")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bed)
	}{
		{"objects", testObjects},
		{"forwards", testForwards},
		{"roles", testRoles},
		{"each right", testEachRight},
		{"apply", testApply},
		{"relay pods", testRelayPods},
		{"audit", testAudit},
		{"proxy", testProxy},
		{"processes", testKubeProcesses},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b.on(t)) })
	}
}

// testObjects looks at what Helm would have installed.
func testObjects(t *testing.T, b *bed) {
	ctx, core := context.Background(), login(t, b.Token).client.CoreV1()
	service, err := core.Services("kube-system").Get(ctx, "hubble-relay", metav1.GetOptions{})
	if err != nil || service.Spec.Ports[0].Port != 443 {
		t.Errorf("%v %v", service, err)
	}
	config, err := core.ConfigMaps("kube-system").Get(ctx, "cilium-config", metav1.GetOptions{})
	if err != nil || config.Data["enable-policy"] != "default" {
		t.Errorf("%v %v", config, err)
	}
	for _, name := range []string{"hubble-relay-client-certs", "hubble-relay-server-certs"} {
		secret, err := core.Secrets("kube-system").Get(ctx, name, metav1.GetOptions{})
		if err != nil || len(secret.Data) != 3 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := login(t, b.BadToken).client.Discovery().ServerVersion(); !apierrors.IsUnauthorized(err) {
		t.Errorf("an invalid token: %v", err)
	}
}

// testRoles asks each user for everything that any role allows, and for what none does.
func testRoles(t *testing.T, b *bed) {
	ctx := context.Background()
	pod, _, err := login(t, b.Admin).relayPod(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const (
		core   = "/api/v1"
		system = core + "/namespaces/kube-system"
		cilium = "/apis/cilium.io/v2"
	)
	const watch = "?watch=1"
	forward := system + "/pods/" + pod + "/portforward?ports=4245"
	get := func(path string) func(*user) error { return func(u *user) error { return u.get(ctx, path) } }
	calls := map[string]func(*user) error{
		"service":            get(system + "/services/hubble-relay"),
		"endpoints":          get(system + "/endpoints/hubble-relay"),
		"config":             get(system + "/configmaps/cilium-config"),
		"pods":               get(system + "/pods"),
		"pod":                get(system + "/pods/" + pod),
		"forward":            func(u *user) error { return u.upgrade(ctx, forward) },
		"cnp":                get(cilium + "/ciliumnetworkpolicies"),
		"cnp of a namespace": get(cilium + "/namespaces/shop/ciliumnetworkpolicies"),
		"cnp watch":          get(cilium + "/ciliumnetworkpolicies" + watch),
		"ccnp":               get(cilium + "/ciliumclusterwidenetworkpolicies"),
		"ccnp watch":         get(cilium + "/ciliumclusterwidenetworkpolicies" + watch),
		"np":                 get("/apis/networking.k8s.io/v1/networkpolicies"),
		"np watch":           get("/apis/networking.k8s.io/v1/networkpolicies" + watch),
		"uid":                get(core + "/namespaces/kube-system"),
		"services":           get(system + "/services"),
		"another service":    get(core + "/namespaces/default/services/kubernetes"),
		"another config":     get(system + "/configmaps/hubble-relay-config"),
		"secret":             get(system + "/secrets/hubble-relay-server-certs"),
		"pods watch":         get(system + "/pods" + watch),
		"pods of another":    get(core + "/namespaces/shop/pods"),
		"pods of all":        get(core + "/pods"),
		"namespaces":         get(core + "/namespaces"),
		"another namespace":  get(core + "/namespaces/shop"),
		"one cnp":            get(cilium + "/namespaces/shop/ciliumnetworkpolicies/x"),
		"nodes":              get(core + "/nodes"),
		"exec":               func(u *user) error { return u.upgrade(ctx, system+"/pods/"+pod+"/exec?command=id") },
		"delete of the pod":  func(u *user) error { return u.send(ctx, "DELETE", system+"/pods/"+pod, "") },
		"create of a cnp": func(u *user) error {
			return u.send(ctx, "POST", cilium+"/namespaces/shop/ciliumnetworkpolicies", goodCNP)
		},
		"create of a namespace": func(u *user) error { return u.send(ctx, "POST", core+"/namespaces", `{"metadata":{"name":"x"}}`) },
	}
	workstation := []string{"service", "config", "pods", "forward", "uid"}
	dedup := []string{"cnp", "cnp of a namespace", "cnp watch", "ccnp", "ccnp watch", "np", "np watch", "uid"}
	for role, allowed := range map[string][]string{
		"workstation":               workstation,
		"in-cluster":                {"service", "config", "uid"},
		"cluster-dedup":             dedup,
		"workstation-cluster-dedup": append(workstation, dedup...),
		"none":                      nil,
	} {
		t.Run(role, func(t *testing.T) {
			u := login(t, b.Roles[role].Kubeconfig)
			for name, call := range calls {
				err, want := call(u), false
				for _, a := range allowed {
					want = want || a == name
				}
				if want && err != nil || !want && !apierrors.IsForbidden(err) {
					t.Errorf("%s: allowed should be %t, got %v", name, want, err)
				}
			}
		})
	}
}

// testEachRight takes one verb after the other from the role for workstations: without it the
// forward fails, unless it serves something else.
func testEachRight(t *testing.T, b *bed) {
	ctx := context.Background()
	role, err := login(t, b.Admin).client.RbacV1().Roles("kube-system").Get(ctx, "cpg-workstation", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	without := 0
	for i, rule := range role.Rules {
		for j, verb := range rule.Verbs {
			name := fmt.Sprintf("without-%s-%s", verb, strings.ReplaceAll(rule.Resources[0], "/", "-"))
			less := rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"}}
			less.TypeMeta = metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}
			less.Rules = slices.Clone(role.Rules)
			less.Rules[i].Verbs = slices.Delete(slices.Clone(rule.Verbs), j, j+1)
			if len(less.Rules[i].Verbs) == 0 {
				less.Rules = slices.Delete(less.Rules, i, i+1)
			}
			text, err := json.Marshal(less)
			if err != nil {
				t.Fatal(err)
			}
			var made kube.Role
			if err := json.Unmarshal([]byte(b.do("POST", "/kube/user?name="+name, "")), &made); err != nil {
				t.Fatal(err)
			}
			b.do("POST", "/kube/apply", fmt.Sprintf(`%s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[2]s, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[2]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[2]s}]
`, text, name))
			conn, err := login(t, made.Kubeconfig).dial(ctx)
			if err == nil {
				conn.Close()
			}
			other := name == "without-get-namespaces" || name == "without-get-configmaps"
			if (err == nil) != other || err != nil && !strings.Contains(strings.ToLower(err.Error()), "forbidden") {
				t.Errorf("%s: %v", name, err)
			}
			without++
		}
	}
	if without != 6 {
		t.Errorf("the role has %d verbs", without)
	}
}

func (u *user) get(ctx context.Context, path string) error {
	return u.send(ctx, http.MethodGet, path, "")
}

func (u *user) send(ctx context.Context, method, path, body string) error {
	request := u.client.RESTClient().Verb(method).RequestURI(path)
	if body != "" {
		request = request.Body([]byte(body)).SetHeader("Content-Type", "application/json")
	}
	// A watch has no end, so the answer is not read.
	answer, err := request.Stream(ctx)
	if err != nil {
		return err
	}
	return answer.Close()
}

// upgrade opens a WebSocket and closes it.
func (u *user) upgrade(ctx context.Context, path string) error {
	socket, status, err := u.webSocket(ctx, path)
	if err == nil {
		return socket.Close()
	}
	if status == http.StatusForbidden {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, path, err)
	}
	return err
}

const goodCNP = `{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"good","namespace":"shop"},` +
	`"spec":{"endpointSelector":{"matchLabels":{"app":"web"}},"ingress":[{"fromEndpoints":[{}]}]}}`

func testApply(t *testing.T, b *bed) {
	b.do("POST", "/kube/apply", goodCNP)
	if text := b.do("POST", "/kube/apply", goodCNP); !strings.Contains(text, `"updated"`) {
		t.Error(text)
	}
	for name, test := range map[string]struct{ text, want string }{
		"unknown field": {strings.Replace(goodCNP, "fromEndpoints", "fromEndpoint", 1), "unknown field"},
		"wrong value":   {strings.Replace(goodCNP, `[{"fromEndpoints":[{}]}]`, `[{"fromEntities":["nobody"]}]`, 1), "Unsupported value"},
		"unknown kind":  {strings.Replace(goodCNP, "cilium.io/v2", "cilium.io/v3", 1), "no matches"},
		"no namespace":  {strings.Replace(goodCNP, "shop", "nowhere", 1), "not found"},
		"no object":     {"# nothing", "no object"},
	} {
		if code, text := b.try("POST", "/kube/apply", test.text); code != http.StatusBadRequest || !strings.Contains(text, test.want) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	b.do("POST", "/kube/apply?dry_run=1", strings.Replace(goodCNP, `"good"`, `"other"`, 1))
	b.do("POST", "/kube/apply?namespaces=1", `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: elsewhere}
spec: {podSelector: {}}
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: ccnp}
spec: {endpointSelector: {}, ingress: [{}]}
`)
	for _, delete := range []struct {
		query string
		want  string
	}{
		{"kind=CiliumNetworkPolicy&namespace=shop", `{"deleted":1}`},
		{"kind=CiliumNetworkPolicy", `{"deleted":0}`},
		{"kind=NetworkPolicy&namespace=elsewhere&name=np", `{"deleted":1}`},
		{"kind=CiliumClusterwideNetworkPolicy", `{"deleted":1}`},
	} {
		if text := strings.TrimSpace(b.do("DELETE", "/kube/policy?"+delete.query, "")); text != delete.want {
			t.Errorf("%s: %s", delete.query, text)
		}
	}
}

func testRelayPods(t *testing.T, b *bed) {
	admin, ctx := login(t, b.Admin), context.Background()
	first, _, err := admin.relayPod(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := admin.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.do("POST", "/kube/relay-pod?action=replace", "")
	if !ends(conn) {
		t.Error("a forward must end with its pod")
	}
	second, _, err := admin.relayPod(ctx)
	if err != nil || second == first {
		t.Errorf("%s %v", second, err)
	}
	for _, step := range []struct {
		action string
		pods   int
		found  bool
	}{
		{"add-unready", 2, true}, {"unready", 2, false}, {"ready", 2, true}, {"delete", 0, false}, {"add-unready", 1, false},
		{"replace", 1, true},
	} {
		text := b.do("POST", "/kube/relay-pod?action="+step.action, "")
		_, _, err := admin.relayPod(ctx)
		if n := strings.Count(text, `"name"`); n != step.pods || (err == nil) != step.found {
			t.Errorf("%s: %s, found: %v", step.action, text, err)
		}
	}

	// Cutting ends a forward too.
	if conn, err = admin.dial(ctx); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.do("POST", "/kubelet/cut", "")
	if !ends(conn) {
		t.Error("a cut forward must end")
	}
}

// ends waits for the end of a forward; what the relay says until then does not count.
func ends(conn net.Conn) bool {
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false
	}
	_, err := io.Copy(io.Discard, conn)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// audited checks the requests of a user since the last look.
func (b *bed) audited(user string, want ...string) {
	b.t.Helper()
	var answer struct{ Requests []kube.Request }
	if err := json.Unmarshal([]byte(b.do("GET", "/kube/audit?user="+user, "")), &answer); err != nil {
		b.t.Fatal(err)
	}
	got := []string{}
	for _, r := range answer.Requests {
		got = append(got, fmt.Sprintf("%s %s %d", r.Verb, r.URI, r.Code))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		b.t.Errorf("%s: want %q, got %q", user, want, got)
	}
}

func testAudit(t *testing.T, b *bed) {
	var made struct{ Kubeconfig, User string }
	if err := json.Unmarshal([]byte(b.do("POST", "/kube/user?name=someone&group=cpg-cluster-dedup", "")), &made); err != nil {
		t.Fatal(err)
	}
	u, ctx := login(t, made.Kubeconfig), context.Background()
	for range 2 {
		if err := u.get(ctx, "/api/v1/namespaces/kube-system"); err != nil {
			t.Fatal(err)
		}
		_ = u.get(ctx, "/api/v1/pods")
		b.audited(made.User, "get /api/v1/namespaces/kube-system 200", "list /api/v1/pods 403")
	}

	// A forward needs these requests of the role and no others.
	role := b.Roles["workstation"]
	b.do("GET", "/kube/audit?user="+role.User, "")
	conn, err := login(t, role.Kubeconfig).dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pod, _, err := login(t, b.Admin).relayPod(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const system = "/api/v1/namespaces/kube-system/"
	b.audited(role.User, "get "+system+"services/hubble-relay 200",
		"list "+system+"pods?labelSelector=k8s-app%3Dhubble-relay 200",
		"get "+system+"pods/"+pod+"/portforward?ports=4245 101")
	b.audited("nobody")
	if code, text := b.try("POST", "/kube/user?name=none", ""); code != http.StatusBadRequest {
		t.Errorf("a name that is taken: %s", text)
	}

	if err := json.Unmarshal([]byte(b.do("POST", "/kube/user?name=late&expired=1", "")), &made); err != nil {
		t.Fatal(err)
	}
	if err := login(t, made.Kubeconfig).get(ctx, "/api/v1/pods"); !apierrors.IsUnauthorized(err) {
		t.Errorf("an expired certificate: %v", err)
	}
}

func testProxy(t *testing.T, b *bed) {
	ctx := context.Background()
	u := login(t, b.Proxy)
	ask := func() error {
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		return u.client.RESTClient().Get().AbsPath("/api/v1/namespaces").MaxRetries(0).Do(ctx).Error()
	}
	for _, step := range []struct {
		mode string
		want func(error) bool
	}{
		{"pass", func(err error) bool { return err == nil }},
		{"500", apierrors.IsInternalError},
		{"429", apierrors.IsTooManyRequests},
		{"401", apierrors.IsUnauthorized},
		{"hang", func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{"reset", func(err error) bool { return err != nil }},
		{"500&match=pods", func(err error) bool { return err == nil }},
		{"pass", func(err error) bool { return err == nil }},
	} {
		b.do("POST", "/apiproxy?mode="+step.mode, "")
		if err := ask(); !step.want(err) {
			t.Errorf("%s: %v", step.mode, err)
		}
	}
	b.do("POST", "/apiproxy?mode=503&times=1", "")
	if first, second := ask(), ask(); !apierrors.IsServiceUnavailable(first) || second != nil {
		t.Errorf("%v, then %v", first, second)
	}
}

// testKubeProcesses ends the API server and etcd; the objects are still there afterwards.
func testKubeProcesses(t *testing.T, b *bed) {
	admin, ctx := login(t, b.Admin), context.Background()
	b.do("POST", "/proc/kubelet/restart", "")
	b.do("POST", "/proc/apiserver/kill", "")
	if _, _, err := admin.relayPod(ctx); err == nil {
		t.Error("a dead API server must not answer")
	}
	b.do("POST", "/proc/etcd/restart", "")
	b.do("POST", "/proc/apiserver/start", "")
	if _, _, err := admin.relayPod(ctx); err != nil {
		t.Error(err)
	}
	conn, err := admin.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
