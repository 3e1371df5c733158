package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// startKube starts a testbed with the Kubernetes parts, where their program was built.
func startKube(t *testing.T, args ...string) *bed {
	t.Helper()
	program := os.Getenv("TESTBED_KUBE")
	if program == "" {
		program = filepath.Join("bin", "testbed-kube")
	}
	if _, err := os.Stat(program); err != nil {
		t.Skipf("needs the program of kube/, see README.md: %v", err)
	}
	return start(t, append([]string{"-kube", "-kube-program", program}, args...)...)
}

// user is somebody at the API server.
type user struct {
	t      *testing.T
	config *rest.Config
	client *kubernetes.Clientset
}

func login(t *testing.T, kubeconfig string) *user {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &user{t: t, config: config, client: client}
}

// relayPod finds the relay's pod and port, as the Hubble CLI does.
func (u *user) relayPod(ctx context.Context) (pod string, port int32, err error) {
	service, err := u.client.CoreV1().Services("kube-system").Get(ctx, "hubble-relay", metav1.GetOptions{})
	if err != nil {
		return "", 0, err
	}
	pods, err := u.client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{
		LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: service.Spec.Selector}),
	})
	if err != nil {
		return "", 0, err
	}
	for _, p := range pods.Items {
		for _, condition := range p.Status.Conditions {
			if condition.Type != corev1.PodReady || condition.Status != corev1.ConditionTrue {
				continue
			}
			for _, port := range p.Spec.Containers[0].Ports {
				if port.Name == service.Spec.Ports[0].TargetPort.StrVal {
					return p.Name, port.ContainerPort, nil
				}
			}
		}
	}
	return "", 0, errors.New("no pod is ready")
}

func (u *user) forwardURL(pod string) *url.URL {
	return u.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("kube-system").Name(pod).
		SubResource("portforward").URL()
}

// kubectl forwards a port of this machine to the relay with the code of kubectl, over SPDY or over
// SPDY in a WebSocket, and returns its address.
func (u *user) kubectl(overWebSocket bool) string {
	u.t.Helper()
	pod, port, err := u.relayPod(context.Background())
	if err != nil {
		u.t.Fatal(err)
	}
	var dialer httpstream.Dialer
	if overWebSocket {
		dialer, err = portforward.NewSPDYOverWebsocketDialer(u.forwardURL(pod), u.config)
	} else {
		var transport http.RoundTripper
		var upgrader spdy.Upgrader
		transport, upgrader, err = spdy.RoundTripperFor(u.config)
		dialer = spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u.forwardURL(pod))
	}
	if err != nil {
		u.t.Fatal(err)
	}
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		u.t.Fatal(err)
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	u.t.Cleanup(func() { close(stop) })
	select {
	case <-ready:
	case err := <-ended:
		u.t.Fatalf("forward: %v", err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		u.t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
}

// dial is a forward as kube-rs makes it: a WebSocket whose messages begin with a channel number.
func (u *user) dial(ctx context.Context) (net.Conn, error) {
	pod, port, err := u.relayPod(ctx)
	if err != nil {
		return nil, err
	}
	socket, _, err := u.webSocket(ctx, fmt.Sprintf("%s?ports=%d", u.forwardURL(pod).Path, port))
	if err != nil {
		return nil, err
	}
	return &channel{Conn: socket.NetConn(), socket: socket}, nil
}

// webSocket asks for a WebSocket as kube-rs does; status is that of the answer.
func (u *user) webSocket(ctx context.Context, path string) (socket *websocket.Conn, status int, err error) {
	security, err := rest.TLSConfigFor(u.config)
	if err != nil {
		return nil, 0, err
	}
	dialer := websocket.Dialer{TLSClientConfig: security, Subprotocols: []string{"v4.channel.k8s.io"}}
	header := http.Header{}
	if u.config.BearerToken != "" {
		header.Set("Authorization", "Bearer "+u.config.BearerToken)
	}
	address := "wss" + strings.TrimPrefix(u.config.Host, "https") + path
	socket, response, err := dialer.DialContext(ctx, address, header)
	if err != nil {
		if response != nil {
			return nil, response.StatusCode, fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, 0, err
	}
	return socket, response.StatusCode, nil
}

// channel is the data channel of such a WebSocket.
type channel struct {
	net.Conn
	socket *websocket.Conn
	begun  [2]bool
	rest   []byte
}

func (c *channel) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		_, message, err := c.socket.ReadMessage()
		if err != nil {
			return 0, err
		}
		number, data := message[0], message[1:]
		if !c.begun[number] {
			c.begun[number], data = true, data[2:] // the port
		}
		if number == 1 && len(data) > 0 {
			return 0, fmt.Errorf("forward: %s", data)
		}
		c.rest = data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *channel) Write(p []byte) (int, error) {
	if err := c.socket.WriteMessage(websocket.BinaryMessage, append([]byte{0}, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// testForwards reads flows of the relay through the API server and the kubelet.
func testForwards(t *testing.T, b *bed) {
	admin := login(t, b.Admin)
	config := b.tlsConfig()
	config.Certificates = append(config.Certificates, b.certificate())
	local := func(overWebSocket bool, kubeconfig string) func(context.Context, string) (net.Conn, error) {
		return func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", login(t, kubeconfig).kubectl(overWebSocket))
		}
	}
	for name, dial := range map[string]func(context.Context, string) (net.Conn, error){
		"SPDY":                local(false, b.Admin),
		"SPDY in a WebSocket": local(true, b.Token),
		"through the proxy":   local(false, b.Proxy),
		"WebSocket":           func(ctx context.Context, _ string) (net.Conn, error) { return admin.dial(ctx) },
		"WebSocket with the role": func(ctx context.Context, _ string) (net.Conn, error) {
			return login(t, b.Roles["workstation"].Kubeconfig).dial(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			next := b.on(t).stream(credentials.NewTLS(config.Clone()), grpc.WithContextDialer(dial))
			b.do("POST", "/node/node-1/inject", fmt.Sprintf(`{"uuid":%q,"time":"2001-01-01T00:00:00Z"}`, name))
			if uuid := next().GetFlow().GetUuid(); uuid != name {
				t.Errorf("got %q", uuid)
			}
		})
	}
}
