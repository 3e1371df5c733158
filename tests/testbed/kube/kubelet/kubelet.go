// Package kubelet is that part of a kubelet which port-forward needs: its HTTPS server and the
// streaming code that the kubelet and container runtimes use, for SPDY and WebSocket. A container
// is not needed: the bytes go to the address of the pod.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubelet/pkg/cri/streaming"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
)

// Main serves until SIGTERM.
func Main(args []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ExitOnError)
	listen := flags.String("listen", "", "address that the API server connects to")
	control := flags.String("control", "", "address of the control server")
	cert := flags.String("cert", "", "server certificate (PEM)")
	key := flags.String("key", "", "key of the certificate (PEM)")
	ca := flags.String("ca", "", "CA of the API server's client certificate")
	kubeconfig := flags.String("kubeconfig", "", "how to ask the API server for pods")
	_ = flags.Parse(args)

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	trusted, err := os.ReadFile(*ca)
	if err != nil {
		return err
	}
	security := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !security.ClientCAs.AppendCertsFromPEM(trusted) {
		return fmt.Errorf("%s holds no certificate", *ca)
	}

	forwards := &forwards{open: map[*connection]struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, client, forwards)
	})
	server := &http.Server{
		Addr: *listen, Handler: mux, TLSConfig: security,
		// SPDY and WebSocket take over the connection, which HTTP/2 does not allow.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	commands, err := net.Listen("tcp", *control)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(commands, forwards.routes()) }()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServeTLS(*cert, *key); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func serve(w http.ResponseWriter, r *http.Request, client kubernetes.Interface, open *forwards) {
	begun := open.begun()
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	namespace, name := r.PathValue("namespace"), r.PathValue("pod")
	pod, err := client.CoreV1().Pods(namespace).Get(r.Context(), name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	id := namespace + "/" + name
	portforward.ServePortForward(w, r, &target{pod: id, ip: pod.Status.PodIP, open: open, begun: begun}, id, pod.UID, options,
		streaming.DefaultConfig.StreamIdleTimeout, streaming.DefaultConfig.StreamCreationTimeout, portforward.SupportedProtocols)
}

func (f *forwards) routes() http.Handler {
	answer := func(w http.ResponseWriter, n int) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]int{"forwards": n})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.count()) })
	mux.HandleFunc("POST /cut", func(w http.ResponseWriter, r *http.Request) { answer(w, f.cut(r.URL.Query().Get("pod"))) })
	return mux
}
