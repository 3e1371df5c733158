package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// forwards are the connections that are open now.
type forwards struct {
	mu   sync.Mutex
	open map[*connection]struct{}
	// cuts are the pods of all cuts so far, for requests that have begun but not connected.
	cuts []string
}

type connection struct {
	pod    string // namespace/name
	socket net.Conn
	stream io.Closer
}

// begun is the number of cuts before a request that begins now.
func (f *forwards) begun() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.cuts)
}

// add fails when there was a cut since the request began.
func (f *forwards) add(c *connection, begun int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pod := range f.cuts[begun:] {
		if pod == "" || pod == c.pod {
			return errors.New("cut")
		}
	}
	f.open[c] = struct{}{}
	return nil
}

func (f *forwards) remove(c *connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

func (f *forwards) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

// cut closes the connections to a pod (namespace/name), or all, and says how many there were.
func (f *forwards) cut(pod string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts = append(f.cuts, pod)
	n := 0
	for c := range f.open {
		if pod == "" || c.pod == pod {
			_ = c.socket.Close()
			_ = c.stream.Close()
			n++
		}
	}
	return n
}

// target is the pod of one request.
type target struct {
	pod   string
	ip    string
	open  *forwards
	begun int
}

// PortForward connects the stream with a port of the pod until one side ends.
func (t *target) PortForward(ctx context.Context, _ string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	if t.ip == "" {
		return fmt.Errorf("pod %s has no address", t.pod)
	}
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.ip, strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("failed to connect to port %d of pod %s: %w", port, t.pod, err)
	}
	c := &connection{pod: t.pod, socket: socket, stream: stream}
	defer socket.Close()
	if err := t.open.add(c, t.begun); err != nil {
		return err
	}
	defer t.open.remove(c)

	// As in container runtimes: the end of the client's bytes is passed on, the end of the pod's
	// ends the forward.
	go func() {
		_, _ = io.Copy(socket, stream)
		_ = socket.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, socket)
	return err
}
