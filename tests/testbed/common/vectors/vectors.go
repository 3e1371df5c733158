// Package vectors holds examples that the policy engine of every version must decide alike, and the
// tests that run them. Only tests import it.
package vectors

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cpg.test/common/decide"
)

// vector is a policy of the pod server and what becomes of flows from (or, with egress, to) others.
type vector struct {
	name string
	// ingress and egress are rule lists of a CNP in namespace default with an empty subject.
	spec string
	// policies replaces spec when a vector needs whole documents.
	policies string
	opts     string
	egress   bool
	subject  string
	// want maps a verdict to flows "peer PROTO/port"; the default is TCP/80.
	want map[string]string
	// want120 is that of Cilium 1.20, where it differs.
	want120 map[string]string
}

// ids is the cluster of the vectors: pods client and server in namespace default, other in another
// namespace, remote in another cluster, and one of everything else.
const ids = `{
	"client":    {"id": 1001, "labels": ["k8s:app=client", "k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"]},
	"server":    {"id": 1002, "labels": ["k8s:app=server", "k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"],
	              "namedPorts": {"web": {"proto": "TCP", "port": 8080}}},
	"other":     {"id": 1003, "labels": ["k8s:app=client", "k8s:io.kubernetes.pod.namespace=other", "k8s:io.cilium.k8s.policy.cluster=default"]},
	"dotted":    {"id": 1004, "labels": ["k8s:app.kubernetes.io/name=dotted", "k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"]},
	"remote":    {"id": 66537, "labels": ["k8s:app=client", "k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=c2"]},
	"host":      {"id": 1, "labels": ["reserved:host"]},
	"world":     {"id": 2, "labels": ["reserved:world"]},
	"unmanaged": {"id": 3, "labels": ["reserved:unmanaged"]},
	"health":    {"id": 4, "labels": ["reserved:health"]},
	"init":      {"id": 5, "labels": ["reserved:init"]},
	"node":      {"id": 6, "labels": ["reserved:remote-node"]},
	"apinode":   {"id": 7, "labels": ["reserved:kube-apiserver", "reserved:remote-node"]},
	"ingress":   {"id": 8, "labels": ["reserved:ingress"]},
	"apiworld":  {"id": 16777217, "labels": ["cidr:192.0.2.1/32", "reserved:kube-apiserver", "reserved:world"]},
	"ten":       {"id": 16777218, "labels": ["cidr:10.0.0.0/8", "reserved:world"]},
	"service":   {"id": 16777219, "labels": ["cidr:10.96.0.0/12", "reserved:world"]}
}`

var vectors = []vector{
	{name: "empty rule", spec: `ingress: [{}]`, want: map[string]string{
		"allow":        "host",
		"default-deny": "client other remote node apinode apiworld world health ingress",
	}},
	{name: "same namespace", spec: `ingress: [{fromEndpoints: [{}]}]`, want: map[string]string{
		"allow":        "client host dotted",
		"default-deny": "other remote node apinode apiworld world health ingress",
	}},
	{name: "all pods in a CCNP", policies: ccnp(`ingress: [{fromEndpoints: [{}]}]`), want: map[string]string{
		"allow":        "client other host",
		"default-deny": "remote node apinode world health ingress",
	}},
	{name: "pods of any cluster", policies: ccnp(`ingress: [{fromEndpoints: [{}]}]`),
		opts: `{"defaultLocalCluster": false}`, want: map[string]string{
			"allow":        "client other host remote",
			"default-deny": "node world",
		}},
	{name: "entity cluster", spec: `ingress: [{fromEntities: [cluster]}]`, want: map[string]string{
		"allow":        "client other host node apinode apiworld unmanaged health init ingress",
		"default-deny": "remote world ten",
	}},
	{name: "entity world", spec: `ingress: [{fromEntities: [world]}]`, want: map[string]string{
		"allow":        "world ten service apiworld host",
		"default-deny": "client other node apinode",
	}},
	{name: "entity remote-node", spec: `ingress: [{fromEntities: [remote-node]}]`, want: map[string]string{
		"allow": "node apinode host", "default-deny": "client world",
	}},
	{name: "entity kube-apiserver", spec: `ingress: [{fromEntities: [kube-apiserver]}]`, want: map[string]string{
		"allow": "apinode apiworld host", "default-deny": "node",
	}},
	{name: "one port", spec: ports(`{port: "80", protocol: TCP}`), want: map[string]string{
		"allow":        "client other world node host",
		"default-deny": "client:TCP/81 client:UDP/80 client:ICMP/8",
	}},
	{name: "port 0", spec: ports(`{port: "0"}`), want: map[string]string{
		"allow":        "client:TCP/1 client:UDP/2 client:SCTP/3",
		"default-deny": "client:ICMP/8 client:ICMPv6/128",
	}},
	{name: "deny one port", spec: `ingress: [{}, {fromEntities: [all]}]
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]`,
		want: map[string]string{"allow": "client:TCP/81 client:ICMP/8 other", "deny": "client"}},
	{name: "deny everybody", spec: `ingress: [{fromEndpoints: [{matchLabels: {app: client}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]
  ingressDeny: [{fromEntities: [all]}]`, want: map[string]string{"deny": "client host world"}},
	{name: "deny inside a range", spec: ports(`{port: "80", endPort: 90, protocol: TCP}`) + `
  ingressDeny: [{toPorts: [{ports: [{port: "85", protocol: TCP}]}]}]`,
		want: map[string]string{"allow": "client:TCP/84 client:TCP/86", "deny": "client:TCP/85", "default-deny": "client:TCP/91"}},
	{name: "deny a range around", spec: ports(`{port: "85", protocol: TCP}`) + `
  ingressDeny: [{toPorts: [{ports: [{port: "80", endPort: 90, protocol: TCP}]}]}]`,
		want: map[string]string{"deny": "client:TCP/85 client:TCP/80", "default-deny": "client:TCP/91"}},
	{name: "deny alone is default deny too", spec: `ingressDeny: [{fromEntities: [world]}]`,
		want: map[string]string{"allow": "host", "deny": "world ten", "default-deny": "client"}},
	{name: "deny without default deny", spec: `enableDefaultDeny: {ingress: false}
  ingressDeny: [{fromEntities: [world]}]`, want: map[string]string{"allow": "host client node", "deny": "world"}},
	{name: "default deny of either policy", policies: cnp("a", `enableDefaultDeny: {ingress: false}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]`) + "\n---\n" +
		cnp("b", `ingress: [{fromEndpoints: [{matchLabels: {app.kubernetes.io/name: dotted}}]}]`),
		want: map[string]string{"allow": "client dotted host", "default-deny": "other world"}},
	{name: "http and plain", spec: `ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]},
    {fromEndpoints: [{matchLabels: {app: client}}]}]`,
		want: map[string]string{"redirect": "client dotted world", "allow": "client:TCP/81", "default-deny": "dotted:TCP/81"}},
	{name: "http after TLS", spec: `ingress: [{toPorts: [{ports: [{port: "443", protocol: TCP}],
      terminatingTLS: {secret: {name: cert, namespace: secrets}}, rules: {http: [{}]}}]}]`,
		want: map[string]string{"redirect": "client:TCP/443", "default-deny": "client:TCP/80"}},
	{name: "dns", egress: true, spec: `egress: [{toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]}]`,
		want: map[string]string{"redirect": "client:UDP/53 world:TCP/53", "default-deny": "client:SCTP/54"}},
	{name: "named port elsewhere", egress: true, spec: `egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]`, subject: "client",
		want: map[string]string{"allow": "server:TCP/8080", "default-deny": "server:TCP/80"}},
	{name: "cidr with except", egress: true, spec: `egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}]}]`,
		want: map[string]string{"allow": "ten", "default-deny": "service client node world host"}},
	{name: "cidr of everything", egress: true, spec: `egress: [{toCIDR: [0.0.0.0/0]}]`,
		want: map[string]string{"allow": "world ten apiworld", "default-deny": "client host node apinode health ingress"}},
	{name: "icmp echo", spec: `ingress: [{icmps: [{fields: [{type: 8}]}]}]`,
		want: map[string]string{"allow": "client:ICMP/8", "default-deny": "client:ICMP/13 client:ICMPv6/128 client"}},
	{name: "icmp type 0 is all types", spec: `ingress: [{icmps: [{fields: [{type: 0}]}]}]`,
		want: map[string]string{"allow": "client:ICMP/8 client:ICMP/13 client:ICMP/0", "default-deny": "client:ICMPv6/128 client"}},
	{name: "host policy", subject: "host", opts: `{"hostfw": true}`, policies: `apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: host}
spec: {nodeSelector: {}, ingress: [{fromEndpoints: [{}]}]}`,
		want: map[string]string{"allow": "client other", "default-deny": "node world"}},
	{name: "host policy without host firewall", subject: "host", policies: `apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: host}
spec: {nodeSelector: {}, ingress: [{fromEndpoints: [{}]}]}`, want: map[string]string{"allow": "client node world"}},
	{name: "localhost only by policy", spec: `ingress: [{}]`, opts: `{"localhost": false}`,
		want: map[string]string{"default-deny": "client host"}},
	{name: "no policy", policies: " ", want: map[string]string{"allow": "client world node"}},
	// From 1.20 on the host is let in by a rule that is added to others: without any, it is not.
	{name: "always enforce", policies: " ", opts: `{"always": true}`,
		want:    map[string]string{"default-deny": "client world", "allow": "host"},
		want120: map[string]string{"default-deny": "client world host"}},
	{name: "named port", spec: ports(`{port: web, protocol: TCP}`),
		want: map[string]string{"allow": "client:TCP/8080", "default-deny": "client:TCP/80"}},
	{name: "kubernetes policy", policies: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: default}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]`,
		want: map[string]string{"allow": "client host", "default-deny": "client:TCP/81 client:UDP/80 other dotted world"}},
	{name: "policy of another namespace", policies: strings.ReplaceAll(cnp("a", `ingress: [{}]`), "namespace: default", "namespace: other"),
		want: map[string]string{"allow": "client world"}},
}

func cnp(name, spec string) string {
	return fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: %s, namespace: default}
spec:
  endpointSelector: {}
  %s`, name, spec)
}

func ccnp(spec string) string {
	return fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: wide}
spec:
  endpointSelector: {}
  %s`, spec)
}

func ports(list string) string {
	return fmt.Sprintf(`ingress: [{toPorts: [{ports: [%s]}]}]`, list)
}

// Run checks every vector, and that the judge names refused policies and leaves them out.
// The version is that of Cilium, "1.19" or "1.20".
func Run(t *testing.T, engine decide.Engine, version string) {
	for _, v := range vectors {
		if version == "1.20" && v.want120 != nil {
			v.want = v.want120
		}
		t.Run(v.name, func(t *testing.T) { v.run(t, engine) })
	}
	t.Run("refused policy", func(t *testing.T) { runRefused(t, engine) })
	t.Run("lines", func(t *testing.T) { runLines(t, engine) })
	t.Run("contradicting policies", func(t *testing.T) { runUnusable(t, engine) })
}

func (v vector) run(t *testing.T, engine decide.Engine) {
	policies, subject := v.policies, v.subject
	if policies == "" {
		policies = cnp("vector", v.spec)
	}
	if subject == "" {
		subject = "server"
	}
	var flows []decide.Flow
	var wants []string
	for verdict, peers := range v.want {
		for _, peer := range strings.Fields(peers) {
			flow := decide.Flow{From: peer, To: subject, Proto: "TCP", Port: 80}
			if name, l4, found := strings.Cut(peer, ":"); found {
				flow.From = name
				proto, port, _ := strings.Cut(l4, "/")
				flow.Proto = proto
				if _, err := fmt.Sscan(port, &flow.Port); err != nil {
					t.Fatal(err)
				}
			}
			if v.egress {
				flow.From, flow.To = flow.To, flow.From
			}
			flows, wants = append(flows, flow), append(wants, verdict)
		}
	}
	answers := Ask(t, engine, policies, v.opts, flows)
	if len(answers) != len(flows) {
		t.Fatalf("%d answers to %d flows: %v", len(answers), len(flows), answers)
	}
	for i, answer := range answers {
		a, ok := answer.(decide.Answer)
		if !ok {
			t.Fatalf("not an answer: %v", answer)
		}
		got := a.Ingress
		if v.egress {
			got = a.Egress
		}
		if got != wants[i] {
			t.Errorf("%s -> %s %s/%d: got %s, want %s %s", a.From, a.To, a.Proto, a.Port, got, wants[i], a.Error)
		}
	}
}

// Ask puts one question to the judge, in the cluster of the vectors.
func Ask(t *testing.T, engine decide.Engine, policies, opts string, flows []decide.Flow) []any {
	t.Helper()
	if opts == "" {
		opts = "{}"
	}
	line, err := json.Marshal(map[string]any{
		"cluster": "default", "opts": json.RawMessage(opts), "policies": policies, "ids": json.RawMessage(ids), "flows": flows,
	})
	if err != nil {
		t.Fatal(err)
	}
	return decide.Decide(engine, line)
}

func runRefused(t *testing.T, engine decide.Engine) {
	policies := cnp("good", `ingress: [{}]`) + "\n---\n" + cnp("bad", ports(`{port: "70000"}`)) + "\n---\n" +
		cnp("panics", `ingress: [{icmps: [{fields: [{family: IPv4}]}]}]`)
	answers := Ask(t, engine, policies, "", []decide.Flow{{From: "client", To: "server", Proto: "TCP", Port: 80}})
	text, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Refused []decide.Refused
		Ingress string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[0].Refused) != 2 || got[0].Refused[0].Index != 1 || got[0].Refused[1].Index != 2 {
		t.Fatalf("want documents 1 and 2 refused, got %s", text)
	}
	if got[1].Ingress != "default-deny" {
		t.Errorf("the accepted policy must count: %s", text)
	}
}

func runUnusable(t *testing.T, engine decide.Engine) {
	rules := func(kind string) string {
		return `ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], ` + kind + `}]}]`
	}
	policies := cnp("a", rules(`listener: {envoyConfig: {kind: CiliumEnvoyConfig, name: x}, name: one}`))
	policies = strings.ReplaceAll(policies, "ingress:", "egress:")
	other := strings.ReplaceAll(strings.ReplaceAll(policies, "name: one", "name: two"), "name: a,", "name: b,")
	answers := Ask(t, engine, policies+"\n---\n"+other, "", []decide.Flow{{From: "server", To: "client", Proto: "TCP", Port: 80}})
	if len(answers) != 1 {
		t.Fatalf("want one answer, got %v", answers)
	}
	if a, ok := answers[0].(decide.Answer); !ok || a.Egress != "error" || a.Error == "" {
		t.Errorf("want an error, got %v", answers[0])
	}
}

// runLines checks the form of questions and answers: every block ends with {}, a bad line costs
// nothing but itself, and the last line needs no newline.
func runLines(t *testing.T, engine decide.Engine) {
	question := `{"ids": {"a": {"id": 1001, "labels": ["k8s:x=y"]}, "b": {"id": 2, "labels": ["reserved:world"]}},
		"flows": [{"from": "b", "to": "a", "proto": "UDP", "port": 53}, {"from": "b", "to": "nobody", "proto": "UDP"}]}`
	question = strings.ReplaceAll(question, "\n", "")
	var out strings.Builder
	if err := decide.Serve(engine, strings.NewReader("nonsense\n"+question+"\n"+question), &out); err != nil {
		t.Fatal(err)
	}
	block := `{"from":"b","to":"a","proto":"UDP","port":53,"egress":"allow","ingress":"allow"}
{"from":"b","to":"nobody","proto":"UDP","port":0,"egress":"error","ingress":"error","error":"ids has no \"b\" or no \"nobody\""}
{}
`
	first, rest, _ := strings.Cut(out.String(), "\n{}\n")
	if !strings.HasPrefix(first, `{"error":`) || rest != block+block {
		t.Errorf("got %s", out.String())
	}
}
