package up

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// relayClient asks the relay which nodes it has connected, the way a client of the cluster would.
type relayClient struct {
	address     string
	credentials credentials.TransportCredentials
}

func newRelayClient(address string, s *security) (*relayClient, error) {
	c := &relayClient{address: address, credentials: insecure.NewCredentials()}
	if s.mode == "off" {
		return c, nil
	}
	ca, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: s.serverName(), MinVersion: tls.VersionTLS13}
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", s.ca)
	}
	if s.client.Cert != "" {
		pair, err := tls.LoadX509KeyPair(s.client.Cert, s.client.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c.credentials = credentials.NewTLS(config)
	return c, nil
}

// waitConnected waits until n nodes are connected. It dials anew for every question, because a
// killed relay would hold an old connection in its back-off.
func (c *relayClient) waitConnected(ctx context.Context, n int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := errors.New("no answer")
	for {
		connected, err := c.connected(ctx)
		if err == nil && connected == n {
			return nil
		}
		last = err
		if err == nil {
			last = fmt.Errorf("%d are connected", connected)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the relay has not connected %d nodes: %w", n, last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *relayClient) connected(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(c.credentials))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	status, err := observerpb.NewObserverClient(conn).ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	if err != nil {
		return 0, err
	}
	return int(status.GetNumConnectedNodes().GetValue()), nil
}
