package vectors

import (
	"testing"

	"cpg.test/common/validate"
)

// document is a policy file of one document and the stage at which it is refused ("" = accepted).
type document struct {
	name  string
	text  string
	stage string
	// stage120 is that of Cilium 1.20, where it differs; nil = the same.
	stage120 *string
}

var documents = []document{
	{name: "policy", text: cnp("a", ports(`{port: "80", protocol: TCP}`))},
	{name: "clusterwide policy", text: ccnp(`egress: [{icmps: [{fields: [{type: 8}]}]}]`)},
	{name: "several rules", text: `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a, namespace: b}
specs: [{endpointSelector: {}, ingress: [{}]}, {endpointSelector: {}, egress: [{}]}]`},
	{name: "listener without kind", text: cnp("a", `egress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], listener: {envoyConfig: {name: one}, name: two}}]}]`)},
	{name: "no namespace", text: `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a}
spec: {endpointSelector: {}, ingress: [{}]}`},
	{name: "another kind", text: `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`, stage: validate.StageSkipped},

	{name: "no yaml", text: "a: b: c", stage: validate.StageYAML},
	{name: "key twice", text: cnp("a", "ingress: [{}]\n  ingress: [{}]"), stage: validate.StageYAML},
	{name: "no object", text: "[1, 2]", stage: validate.StageYAML},
	{name: "misspelt field", text: cnp("a", `ingres: [{}]`), stage: validate.StageUnknown},
	{name: "misspelt field in a selector", text: cnp("a", `ingress: [{fromEndpoints: [{matchLabel: {a: b}}]}]`), stage: validate.StageUnknown},
	{name: "description outside of spec", text: cnp("a", `ingress: [{}]`) + "\ndescription: x", stage: validate.StageUnknown},
	{name: "misspelt metadata", text: `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a, label: {}}, spec: {endpointSelector: {}, ingress: [{}]}}`, stage: validate.StageUnknown},
	{name: "version", text: `{apiVersion: cilium.io/v1, kind: CiliumNetworkPolicy, metadata: {name: a}}`, stage: validate.StageSchema},
	{name: "number as port", text: cnp("a", ports(`{port: 80}`)), stage: validate.StageSchema},
	{name: "protocol in small letters", text: cnp("a", ports(`{port: "80", protocol: tcp}`)), stage: validate.StageSchema},
	{name: "entity", text: cnp("a", `ingress: [{fromEntities: [universe]}]`), stage: validate.StageSchema},
	{name: "entity of 1.20", text: cnp("a", `ingress: [{fromEntities: [cluster-mesh]}]`), stage: validate.StageSchema, stage120: at(validate.StageDone)},
	{name: "icmp without type", text: cnp("a", `ingress: [{icmps: [{fields: [{family: IPv4}]}]}]`), stage: validate.StageSchema},
	{name: "zone in a cidr", text: cnp("a", `egress: [{toCIDR: ["fe80::1%eth0/64"]}]`), stage: validate.StageSchema},
	{name: "bare address", text: cnp("a", `egress: [{toCIDR: [10.0.0.1]}]`), stage: validate.StageSchema},
	{name: "two selectors", text: ccnp("nodeSelector: {}\n  ingress: [{}]"), stage: validate.StageSchema},
	{name: "41 ports", text: cnp("a", ports(many(41))), stage: validate.StageSchema},
	{name: "same server name twice", text: cnp("a", `egress: [{toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [a.b, a.b]}]}]`), stage: validate.StageSchema},
	{name: "bad name", text: `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: A_b, namespace: x}, spec: {endpointSelector: {}, ingress: [{}]}}`, stage: validate.StageSchema},
	{name: "clusterwide in a namespace", text: `{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: a, namespace: x}, spec: {endpointSelector: {}, ingress: [{}]}}`, stage: validate.StageSchema},
	{name: "neither spec nor specs", text: `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a, namespace: x}}`, stage: validate.StageParse, stage120: at(validate.StageSchema)},
	{name: "port out of range", text: cnp("a", ports(`{port: "70000"}`)), stage: validate.StageParse},
	{name: "two kinds of peers", text: cnp("a", `ingress: [{fromEndpoints: [{}], fromCIDR: [10.0.0.0/8]}]`), stage: validate.StageParse},
	{name: "icmp and ports", text: cnp("a", `ingress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: "1"}]}]}]`), stage: validate.StageParse},
	{name: "empty rule list", text: cnp("a", `ingress: []`), stage: validate.StageParse},
	{name: "label key of 60 characters", text: cnp("a", `ingress: [{fromEndpoints: [{matchLabels: {a23456789012345678901234567890123456789012345678901234567890: x}}]}]`),
		stage: validate.StageParse, stage120: at(validate.StageDone)},
	{name: "node selector in a namespace", text: `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a, namespace: x}, spec: {nodeSelector: {}, ingress: [{}]}}`, stage: validate.StageParse},
	{name: "regular expression", text: cnp("a", `ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "("}]}}]}]`), stage: validate.StageParse},
	{name: "item of a list", text: `{apiVersion: v1, kind: List, items: [{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a, namespace: x}, spec: {nodeSelector: {}, ingress: [{}]}}]}`, stage: validate.StageParse},
}

func at(stage string) *string { return &stage }

func many(n int) string {
	out := ""
	for range n {
		out += `{port: "80"}, `
	}
	return out
}

// RunValidate checks every document; version is that of Cilium, "1.19" or "1.20".
func RunValidate(t *testing.T, version string) {
	v, err := validate.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		t.Run(d.name, func(t *testing.T) {
			want := d.stage
			if version == "1.20" && d.stage120 != nil {
				want = *d.stage120
			}
			lines, err := v.Text("file", []byte(d.text))
			if err != nil || len(lines) != 1 {
				t.Fatalf("want one line, got %v, %v", lines, err)
			}
			line := lines[0]
			ok := want == validate.StageDone || want == validate.StageSkipped
			if line.Stage != want || line.OK != ok || (line.Error == "") != ok {
				t.Errorf("want stage %q, got %+v", want, line)
			}
		})
	}
	t.Run("index and name", func(t *testing.T) {
		text := "# nothing\n---\n" + cnp("a", `ingress: [{}]`) + "\n---\n---\n" + cnp("b", `ingress: []`)
		lines, err := v.Text("file", []byte(text))
		if err != nil || len(lines) != 2 {
			t.Fatalf("want two lines, got %v, %v", lines, err)
		}
		if l := lines[1]; l.Index != 1 || l.Name != "b" || l.Namespace != "default" || l.Kind != "CiliumNetworkPolicy" || l.File != "file" {
			t.Errorf("got %+v", l)
		}
	})
}
