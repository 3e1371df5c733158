package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"cpg.test/testbed/internal/kube"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// TestMain lets the test binary be the testbed too: the supervisor starts its parts by running its
// own file once more.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if _, ok := commands[os.Args[1]]; ok {
			main()
		}
	}
	os.Exit(m.Run())
}

// bed is a running testbed.
type bed struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.Closer
	killed  bool
	Relay   string `json:"relay"`
	Control string `json:"control"`
	CA      string `json:"ca"`
	Cert    string `json:"cert"`
	Key     string `json:"key"`
	Name    string `json:"server_name"`
	kube.Access
}

func start(t *testing.T, args ...string) *bed {
	t.Helper()
	b := &bed{t: t, cmd: exec.Command(os.Args[0], append([]string{"up", "-net", "auto", "-dir", t.TempDir()}, args...)...)}
	b.cmd.Stderr = os.Stderr
	stdin, err := b.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.stdin = stdin
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("not ready: %v", err)
	}
	if err := json.Unmarshal(line, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) end() {
	b.stdin.Close()
	if err := b.cmd.Wait(); err != nil && !b.killed {
		b.t.Errorf("the supervisor ended with %v", err)
	}
}

// do sends a request to the control channel and returns the answer's text.
func (b *bed) do(method, path, body string) string {
	b.t.Helper()
	code, text := b.try(method, path, body)
	if code != http.StatusOK {
		b.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return text
}

// try is do for requests that may be refused.
func (b *bed) try(method, path, body string) (code int, text string) {
	b.t.Helper()
	request, err := http.NewRequest(method, b.Control+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func (b *bed) pids() map[string]int {
	b.t.Helper()
	var state struct {
		Parts []struct {
			Name string
			PID  int
		}
	}
	if err := json.Unmarshal([]byte(b.do("GET", "/state", "")), &state); err != nil {
		b.t.Fatal(err)
	}
	out := map[string]int{}
	for _, p := range state.Parts {
		out[p.Name] = p.PID
	}
	return out
}

// stream opens GetFlows with follow and returns a function that reads the next flow or lost event.
func (b *bed) stream(secure credentials.TransportCredentials, options ...grpc.DialOption) func() *observerpb.GetFlowsResponse {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.t.Cleanup(cancel)
	conn, err := grpc.NewClient("passthrough:///"+b.Relay, append(options, grpc.WithTransportCredentials(secure))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	client, err := observerpb.NewObserverClient(conn).GetFlows(ctx, &observerpb.GetFlowsRequest{Follow: true})
	if err != nil {
		b.t.Fatal(err)
	}
	next := func() *observerpb.GetFlowsResponse {
		b.t.Helper()
		response, err := client.Recv()
		if err != nil {
			b.t.Fatal(err)
		}
		return response
	}
	// The first message says which nodes are connected.
	if next().GetNodeStatus() == nil {
		b.t.Fatal("want the connected nodes first")
	}
	b.do("GET", "/following", "")
	return func() *observerpb.GetFlowsResponse {
		b.t.Helper()
		for {
			if r := next(); r.GetNodeStatus() == nil {
				return r
			}
		}
	}
}

func TestFlowsThroughRelay(t *testing.T) {
	b := start(t)
	next := b.stream(insecure.NewCredentials())
	b.do("POST", "/node/node-2/inject?now=1&repeat=2", `{"flow":{"uuid":"one","verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","time":"2001-01-01T00:00:00Z"}}`+"\n")
	uuids := map[string]bool{}
	for range 2 {
		r := next()
		f := r.GetFlow()
		if f.GetVerdict() != flowpb.Verdict_DROPPED || r.GetNodeName() != "node-2" || time.Since(r.GetTime().AsTime()) > time.Minute {
			t.Errorf("got %v", r)
		}
		uuids[f.GetUuid()] = true
	}
	if len(uuids) != 2 || uuids["one"] {
		t.Errorf("every repeated flow needs a uuid of its own, got %v", uuids)
	}

	b.do("POST", "/node/node-1/inject", `{"uuid":"two","time":"2001-01-01T00:00:00Z","node_name":"far/away"}`)
	if r := next(); r.GetFlow().GetUuid() != "two" || r.GetTime().AsTime().Year() != 2001 || r.GetNodeName() != "far/away" {
		t.Errorf("a flow without now=1 must come as it is: %v", r)
	}

	b.do("POST", "/node/node-1/lost?source=1&n=7&cpu=3", "")
	lost := next().GetLostEvents()
	if lost.GetSource() != flowpb.LostEventSource_PERF_EVENT_RING_BUFFER || lost.GetNumEventsLost() != 7 || lost.GetCpu().GetValue() != 3 {
		t.Errorf("got %v", lost)
	}
}

const pods = `
{"node":"node-1","id":11,"identity":1001,"ip":"10.0.0.1","namespace":"shop","pod":"web-1","labels":["k8s:app=web","k8s:io.kubernetes.pod.namespace=shop"],"workload":{"kind":"Deployment","name":"web"}}
{"node":"node-2","id":22,"identity":1002,"ip":"10.0.1.1","namespace":"db","pod":"pg-0","labels":["k8s:app=pg","k8s:io.kubernetes.pod.namespace=db"]}
{"node":"node-1","id":11,"identity":1001,"ip":"fd00::1","namespace":"shop","pod":"web-1"}
{"identity":16777217,"ip":"192.0.2.1","labels":["cidr:192.0.2.0/24","reserved:world"],"names":["example.org"]}`

func TestPackets(t *testing.T) {
	b := start(t)
	b.do("POST", "/endpoints", pods)
	next := b.stream(insecure.NewCredentials())

	// One denied connection: both events, with everything that the agent knows.
	b.do("POST", "/node/node-1/packet", `{"kind":"denied","direction":"egress","src":"10.0.0.1","dst":"10.0.1.1","sport":40000,"dport":5432}`)
	for _, event := range []int32{5, 1} {
		f := next().GetFlow()
		src, dst := f.GetSource(), f.GetDestination()
		if f.GetEventType().GetType() != event || f.GetTrafficDirection() != flowpb.TrafficDirection_EGRESS ||
			f.GetDropReasonDesc() != flowpb.DropReason_POLICY_DENIED || f.GetL4().GetTCP().GetDestinationPort() != 5432 ||
			!f.GetL4().GetTCP().GetFlags().GetSYN() {
			t.Errorf("want a denied SYN of event type %d, got %v", event, f)
		}
		if src.GetID() != 11 || src.GetPodName() != "web-1" || len(src.GetWorkloads()) != 1 || src.GetWorkloads()[0].GetName() != "web" {
			t.Errorf("source %v", src)
		}
		if dst.GetID() != 0 || dst.GetIdentity() != 1002 || dst.GetNamespace() != "db" || len(dst.GetLabels()) != 2 {
			t.Errorf("destination %v", dst)
		}
	}

	for _, packet := range []struct {
		node, json string
		check      func(f *flowpb.Flow) bool
	}{
		{"node-2", `{"kind":"drop","reason":"POLICY_DENY","direction":"ingress","src":"10.0.0.1","dst":"10.0.1.1","protocol":"udp","sport":9,"dport":53}`,
			func(f *flowpb.Flow) bool {
				return f.GetTrafficDirection() == flowpb.TrafficDirection_INGRESS && f.GetL4().GetUDP().GetDestinationPort() == 53 &&
					f.GetDropReasonDesc() == flowpb.DropReason_POLICY_DENY && f.GetDestination().GetID() == 22
			}},
		{"node-1", `{"kind":"verdict","reason":181,"direction":"egress","src":"10.0.0.1","dst":"192.0.2.1","protocol":"sctp","sport":9,"dport":38412}`,
			func(f *flowpb.Flow) bool {
				return f.GetL4().GetSCTP().GetDestinationPort() == 38412 && f.GetDropReasonDesc() == flowpb.DropReason_POLICY_DENY &&
					f.GetDestination().GetLabels()[0] == "cidr:192.0.2.0/24" && f.GetDestinationNames()[0] == "example.org"
			}},
		{"node-1", `{"kind":"verdict","action":"allow","direction":"egress","src":"10.0.0.1","dst":"10.0.1.1","protocol":"icmp","icmp_type":8,"match_type":1}`,
			func(f *flowpb.Flow) bool {
				return f.GetVerdict() == flowpb.Verdict_FORWARDED && f.GetL4().GetICMPv4().GetType() == 8 && f.GetPolicyMatchType() == 1
			}},
		{"node-1", `{"kind":"verdict","action":"audit","direction":"egress","src":"fd00::1","dst":"2001:db8::1","protocol":"icmpv6","icmp_type":128}`,
			func(f *flowpb.Flow) bool {
				return f.GetVerdict() == flowpb.Verdict_AUDIT && f.GetL4().GetICMPv6().GetType() == 128 &&
					f.GetDestination().GetLabels()[0] == "reserved:world"
			}},
		{"node-1", `{"kind":"verdict","action":"redirect","direction":"ingress","src":"2001:db8::1","dst":"fd00::1","sport":1,"dport":80,"flags":"SYN,ACK"}`,
			func(f *flowpb.Flow) bool {
				return f.GetVerdict() == flowpb.Verdict_REDIRECTED && f.GetTrafficDirection() == flowpb.TrafficDirection_INGRESS &&
					f.GetL4().GetTCP().GetFlags().GetACK() && f.GetSource().GetIdentity() == 2
			}},
	} {
		b.do("POST", "/node/"+packet.node+"/packet", packet.json)
		if f := next().GetFlow(); !packet.check(f) {
			t.Errorf("%s made %v", packet.json, f)
		}
	}
}

// TestRealLoss makes a follower lose events in the real ring and counts them.
func TestRealLoss(t *testing.T) {
	b := start(t, "-nodes", "1", "-ring", "63")
	next := b.stream(insecure.NewCredentials())
	const n = 500
	b.do("POST", fmt.Sprintf("/node/node-1/inject?now=1&repeat=%d", n), `{"verdict":"DROPPED"}`)
	time.Sleep(1100 * time.Millisecond) // lost events are sent once a second at most
	b.do("POST", "/node/node-1/flush?n=2", "")
	flows, lost := 0, 0
	for flows+lost < n {
		r := next()
		if r.GetFlow() != nil {
			flows++
		}
		if l := r.GetLostEvents(); l != nil {
			if l.GetSource() != flowpb.LostEventSource_HUBBLE_RING_BUFFER || r.GetNodeName() != "node-1" {
				t.Errorf("got %v", l)
			}
			lost += int(l.GetNumEventsLost())
		}
	}
	if lost == 0 {
		t.Error("nothing was lost")
	}
}

func TestProcesses(t *testing.T) {
	b := start(t)
	b.do("POST", "/node/node-2/endpoints", pods)
	before := b.pids()
	b.do("POST", "/proc/node-2/kill", "")
	b.do("GET", "/connected?n=1", "")
	b.do("POST", "/proc/node-2/start", "")
	b.do("POST", "/proc/relay/restart", "")
	b.do("GET", "/connected", "")
	b.do("POST", "/proc/node-1/stop", "")
	b.do("POST", "/proc/node-1/cont", "")
	if list := b.do("GET", "/node/node-2/endpoints", ""); !strings.Contains(list, "pg-0") {
		t.Errorf("a restarted node must know its endpoints: %s", list)
	}
	b.do("POST", "/peer/del?name=node-2", "")
	b.do("GET", "/connected?n=1", "")
	b.do("POST", "/peer/add?name=node-2&ip="+strings.TrimSuffix(b.Relay, "10:4245")+"12", "")
	b.do("GET", "/connected?n=2", "")
	after := b.pids()
	for name, changed := range map[string]bool{"node-1": false, "node-2": true, "peer": false, "relay": true} {
		if (before[name] != after[name]) != changed {
			t.Errorf("%s was %d and is %d", name, before[name], after[name])
		}
	}

	// A supervisor that is killed takes its parts along.
	b.killed = true
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range after {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s (%d) lives on", name, pid)
			}
		}
	}
}

func TestTLS(t *testing.T) {
	for _, mode := range []string{"tls", "mtls"} {
		t.Run(mode, func(t *testing.T) {
			b := start(t, "-tls", mode)
			config := b.tlsConfig()
			if mode == "mtls" {
				if err := ask(b.Relay, config); status.Code(err) != codes.Unavailable {
					t.Errorf("without a certificate: %v", err)
				}
				for _, query := range []string{"name=late&expired=1", "name=stranger&ca=other"} {
					config.Certificates = []tls.Certificate{b.issue(query)}
					if err := ask(b.Relay, config); status.Code(err) != codes.Unavailable {
						t.Errorf("%s: %v", query, err)
					}
				}
				config.Certificates = []tls.Certificate{b.issue("name=second")}
				if err := ask(b.Relay, config); err != nil {
					t.Errorf("a further certificate: %v", err)
				}
				config.Certificates = []tls.Certificate{b.certificate()}
			}
			if err := ask(b.Relay, config); err != nil {
				t.Error(err)
			}
			other := config.Clone()
			other.ServerName = "localhost"
			if err := ask(b.Relay, other); status.Code(err) != codes.Unavailable {
				t.Errorf("with another name: %v", err)
			}
			next := b.stream(credentials.NewTLS(config))
			b.do("POST", "/node/node-1/inject?now=1", `{"verdict":"AUDIT"}`)
			if v := next().GetFlow().GetVerdict(); v != flowpb.Verdict_AUDIT {
				t.Errorf("got %v", v)
			}
		})
	}
}

func (b *bed) tlsConfig() *tls.Config {
	b.t.Helper()
	text, err := os.ReadFile(b.CA)
	if err != nil {
		b.t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: b.Name}
	config.RootCAs.AppendCertsFromPEM(text)
	return config
}

// issue asks for a further client certificate.
func (b *bed) issue(query string) tls.Certificate {
	b.t.Helper()
	var made struct{ Cert, Key string }
	if err := json.Unmarshal([]byte(b.do("POST", "/tls/client?"+query, "")), &made); err != nil {
		b.t.Fatal(err)
	}
	other := *b
	other.Cert, other.Key = made.Cert, made.Key
	return other.certificate()
}

func (b *bed) certificate() tls.Certificate {
	b.t.Helper()
	pair, err := tls.LoadX509KeyPair(b.Cert, b.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	return pair
}

func ask(relay string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(relay, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = observerpb.NewObserverClient(conn).ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	return err
}
